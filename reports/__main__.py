"""Writes reports of batches as CSV in a zip.

``python -m reports progress --batch 0130929928739635200 --out reports-of-may``
"""

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.config.loader import ConfigError, load, print_config, variable
from common.config.section import PREFIX
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from reports import progress, response
from reports.config import ReportsConfig, RequestsReportsConfig
from reports.destination import Destination, Folder
from reports.display import Display
from reports.exhaust import Exhaust
from reports.model import Batch, ReportError, is_blank
from reports.protection import Level, Protection
from reports.scratch import delete_abandoned
from reports.store import Store, open_store
from reports.writers import JOB_IDS, File, Report

_JOB_IDS = {"progress": progress.JOB_ID, "response": response.JOB_ID}

# What is wrong with a server or the data, and not with this program: told in a line, without a stack.
_EXPECTED = (ReportError, WorldFault, TaskFault, StatementError, OSError)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or 1 if a report could not be made; 2 for wrong arguments or configuration."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command in _JOB_IDS and not (options.course or options.batch or options.batches):
        parser.error("one of --course, --batch and --batches is needed")
    try:
        config = load(ReportsConfig if options.command in _JOB_IDS else RequestsReportsConfig, options.config)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    needs_folder = options.command == "requests" or (options.command in _JOB_IDS and options.upload)
    if needs_folder and options.out is None:
        if config.output_folder is None:
            name = variable(("output_folder",))
            parser.exit(2, f"output_folder is missing; set the variable {name}, the key in --config FILE, or --out\n")
        options.out = Path(config.output_folder)
    if options.print_config:
        sys.stdout.write(print_config(config))
        return 0
    if options.command in _JOB_IDS and options.upload and config.object_storage.url is None:
        parser.error("--upload needs object_storage.url in the configuration")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    if not isinstance(config, RequestsReportsConfig):
        work = _make_reports(config, options)
    elif options.command == "status":
        work = _show_status(config, options)
    else:
        work = _run_requests(config, options)
    try:
        return asyncio.run(_until_told_to_end(work))
    except (KeyboardInterrupt, asyncio.CancelledError):
        if options.command == "status":
            return 0
        print("ended before all was done", file=sys.stderr)
    except _EXPECTED as error:
        print(error, file=sys.stderr)
    return 1


async def _until_told_to_end(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM ends the work as Ctrl-C does, so that claimed requests are given back."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _make_reports(config: ReportsConfig, options: argparse.Namespace) -> int:
    folder: Path = options.out
    destination = _object_storage(config) if options.upload else Folder(folder)
    password = _read_password(options.password_file)
    protection = Protection(Level.PASSWORD if password else Level.PLAIN, password, is_zipped=not options.csv)
    now = datetime.now(UTC)
    has_failed = False
    async with open_store(config) as store:
        batches = await _chosen_batches(store, options)
        collections = await store.collections([batch.course_id for batch in batches])
        reports = []
        with Display() as display:
            for batch in batches:
                if collection := collections.get(batch.course_id):
                    job_id = _JOB_IDS[options.command]
                    reports.append(
                        Report(job_id, batch, collection, now, channel=options.channel, protection=protection)
                    )
                else:
                    has_failed = True
                    display.print(
                        f"batch {batch.batch_id}", f"failed: The collection {batch.course_id} is retired or unknown"
                    )
            display.begin(f"{len(reports)} reports")
            async for report, made in Exhaust(config, store, folder).make(reports, display.advance):
                has_failed |= not await _tell(report, made, destination, display)
            display.end()
    return 1 if has_failed else 0


async def _tell(report: Report, made: File | Exception, destination: Destination, display: Display) -> bool:
    """Moves a file to where it belongs; False if that or the report has failed."""
    name = f"batch {report.batch.batch_id}"
    if isinstance(made, File):
        try:
            url = await destination.place(made.file, made.path)
        except _EXPECTED as error:
            made = error
        else:
            place = destination.folder / url if isinstance(destination, Folder) else url
            display.print(name, f"{place}, {made.size_in_bytes} bytes")
            return True
    display.print(name, f"failed: {made}")
    return False


async def _chosen_batches(store: Store, options: argparse.Namespace) -> list[Batch]:
    """Raises ReportError for a batch that does not exist, and if there is none at all."""
    wanted = list(options.batch)
    if options.batches is not None:
        wanted += options.batches.read_text(encoding="utf-8", errors="replace").split()
        if not wanted:
            raise ReportError(f"{options.batches} names no batch")
    if not wanted:
        if not (batches := await store.batches_of(options.course)):
            raise ReportError(f"There is no batch of {options.course}")
        return batches
    known = await store.batches(wanted)
    for batch_id in wanted:
        if batch_id not in known or options.course not in (None, known[batch_id].course_id):
            raise ReportError(f"There is no batch {batch_id}" + (f" of {options.course}" if options.course else ""))
    return [known[batch_id] for batch_id in dict.fromkeys(wanted)]


def _object_storage(config: ReportsConfig) -> Destination:
    # Where it is needed: a report for a folder does without its 4 MiB, and without the 9 MiB of PostgreSQL's client.
    from reports.object_storage import ObjectStorage  # noqa: PLC0415

    return ObjectStorage(config.object_storage)


async def _run_requests(config: RequestsReportsConfig, options: argparse.Namespace) -> int:
    from reports.postgres import open_job_requests  # noqa: PLC0415
    from reports.request_runner import RequestRunner  # noqa: PLC0415
    from reports.user_org import SecurityPolicy  # noqa: PLC0415

    folder: Path = options.out
    # Also by a run that finds no open request.
    delete_abandoned(folder)
    destination = Folder(folder) if config.object_storage.url is None else _object_storage(config)
    policy = SecurityPolicy(config)
    try:
        with Display() as display:
            async with open_job_requests(config.postgres) as job_requests:
                await job_requests.check_table()
                async with open_store(config) as store:
                    exhaust = Exhaust(config, store, folder)
                    runner = RequestRunner(config, store, policy, job_requests, destination, exhaust, display)
                    is_successful = await runner.run(options.job or JOB_IDS)
    finally:
        await policy.close()
    return 0 if is_successful else 1


async def _show_status(config: RequestsReportsConfig, options: argparse.Namespace) -> int:
    from reports import status  # noqa: PLC0415
    from reports.postgres import open_job_requests  # noqa: PLC0415

    async with open_job_requests(config.postgres) as job_requests:
        await job_requests.check_table()
        await status.show(job_requests, options.job or JOB_IDS, options.limit, options.watch)
    return 0


def _read_password(file: Path | None) -> str | None:
    if file is None:
        return None
    password = file.read_text(encoding="utf-8").rstrip("\r\n")
    if not password:
        raise ReportError(f"{file} is empty and should hold a password")
    return password


def _channel(text: str) -> str:
    if is_blank(text):
        # Of a variable that is not set, for instance. Left out, it would mean: all learners.
        raise argparse.ArgumentTypeError("it is blank, and should name an organisation")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
        epilog=f"Every key can be overridden by a variable, such as {PREFIX}CASSANDRA__PORT for cassandra.port.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file whose keys override reports/config.yaml")
    parser.add_argument(
        "--print-config", action="store_true", help="print what would be used, without secrets, and end"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("progress", "scores and progress of each learner"),
        ("response", "each answer of each learner"),
    ):
        command = commands.add_parser(name, help=what, description=f"{what.capitalize()}, one file for each batch.")
        command.add_argument("--course", metavar="ID", help="all batches of this course")
        command.add_argument("--batch", metavar="ID", action="append", default=[], help="may be given several times")
        command.add_argument("--batches", metavar="FILE", type=Path, help="a file of batch ids, separated by blanks")
        target = command.add_mutually_exclusive_group(required=True)
        target.add_argument("--out", metavar="FOLDER", type=Path)
        target.add_argument("--upload", action="store_true", help="to the configured object storage")
        command.add_argument(
            "--channel", type=_channel, metavar="ID", help="show what this organisation may see; without it, all"
        )
        form = command.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="no zip around the CSV")
        form.add_argument("--password-file", metavar="FILE", type=Path, help="encrypt the zip (AES-256)")
    requests = commands.add_parser(
        "requests", help="run the open job requests in PostgreSQL", description="Runs all of them once."
    )
    requests.add_argument("--job", action="append", choices=JOB_IDS, help="without it, all")
    requests.add_argument("--out", metavar="FOLDER", type=Path, help="instead of output_folder")
    statuses = commands.add_parser("status", help="show the job requests", description="Shows the job requests.")
    statuses.add_argument("--job", action="append", choices=JOB_IDS, help="without it, all")
    statuses.add_argument("--limit", type=int, default=20, metavar="N", help="the N latest requests (default 20)")
    statuses.add_argument("--watch", action="store_true", help="show them again and again, until Ctrl-C")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
