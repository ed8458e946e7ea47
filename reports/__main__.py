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

import psycopg

from common.config.loader import ConfigError, load, print_config
from common.config.model import PREFIX
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from reports import exhaust, progress, response
from reports.config import ReportsConfig
from reports.display import Display
from reports.exhaust import Delivery, Exhaust
from reports.model import Batch, ReportError
from reports.postgres import open_job_requests
from reports.request_runner import RequestRunner
from reports.store import Store, open_store

_JOB_IDS = {"progress": progress.JOB_ID, "response": response.JOB_ID}

# What is wrong with a server or the data, and not with this program: told in a line, without a stack.
_EXPECTED = (ReportError, WorldFault, TaskFault, StatementError, psycopg.Error, OSError)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or 1 if a report could not be written; 2 for wrong arguments or configuration."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command != "requests" and not (options.course or options.batch or options.batches):
        parser.error("one of --course, --batch and --batches is needed")
    try:
        config = load(ReportsConfig, options.config)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    if options.print_config:
        sys.stdout.write(print_config(config))
        return 0
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    run = _run_requests if options.command == "requests" else _write_reports
    try:
        return asyncio.run(_until_told_to_end(run(config, options)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("ended before all was done", file=sys.stderr)
    except _EXPECTED as error:
        print(error, file=sys.stderr)
    return 1


async def _until_told_to_end(work: Coroutine[Any, Any, int]) -> int:
    """SIGTERM ends the work as Ctrl-C does, so that a claimed request is given back."""
    task = asyncio.ensure_future(work)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await task


async def _write_reports(config: ReportsConfig, options: argparse.Namespace) -> int:
    delivery = Delivery(
        options.out,
        datetime.now(UTC),
        channel=options.channel,
        password=_read_password(options.password_file),
        is_zipped=not options.csv,
    )
    failed = False
    async with open_store(config) as store:
        batches = await _chosen_batches(store, options)
        collections = await store.collections([batch.course_id for batch in batches])
        writer = Exhaust(_JOB_IDS[options.command], config, store)
        with Display() as display:
            for batch in batches:
                display.begin(f"batch {batch.batch_id}")
                try:
                    if batch.course_id not in collections:
                        raise ReportError(f"The collection {batch.course_id} is retired or unknown")
                    file = await writer.write(batch, collections[batch.course_id], delivery, display.advance)
                except _EXPECTED as error:
                    display.end(f"failed: {error}")
                    failed = True
                else:
                    display.end(f"{options.out / file.path}, {file.size_in_bytes} bytes")
    return 1 if failed else 0


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
    found = []
    for batch_id in dict.fromkeys(wanted):
        batch = await store.batch(batch_id)
        if batch is None or options.course not in (None, batch.course_id):
            raise ReportError(f"There is no batch {batch_id}" + (f" of {options.course}" if options.course else ""))
        found.append(batch)
    return found


async def _run_requests(config: ReportsConfig, options: argparse.Namespace) -> int:
    folder = options.out or Path(config.output_folder)
    with Display() as display:
        async with open_store(config) as store, open_job_requests(config.postgres) as job_requests:
            runner = RequestRunner(config, store, job_requests, folder, display)
            for job_id in options.job or exhaust.JOB_IDS:
                await runner.run(job_id)
    return 0


def _read_password(file: Path | None) -> str | None:
    if file is None:
        return None
    password = file.read_text(encoding="utf-8").rstrip("\r\n")
    if not password:
        raise ReportError(f"{file} is empty and should hold a password")
    return password


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reports",
        description=(__doc__ or "").split("\n", maxsplit=1)[0],
        epilog=f"Every key can be overridden by a variable, such as {PREFIX}CASSANDRA__PORT for cassandra.port.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file instead of reports/config.yaml")
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
        command.add_argument("--out", metavar="FOLDER", type=Path, required=True)
        command.add_argument("--channel", metavar="ID", help="show what this organisation may see; without it, all")
        form = command.add_mutually_exclusive_group()
        form.add_argument("--csv", action="store_true", help="no zip around the CSV")
        form.add_argument("--password-file", metavar="FILE", type=Path, help="encrypt the zip (AES-256)")
    requests = commands.add_parser(
        "requests", help="the open job requests in PostgreSQL", description="Runs all of them once."
    )
    requests.add_argument("--job", action="append", choices=exhaust.JOB_IDS, help="without it, all")
    requests.add_argument("--out", metavar="FOLDER", type=Path, help="instead of output_folder")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
