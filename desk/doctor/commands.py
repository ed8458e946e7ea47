"""The doctor's commands: ``check``, ``repair``, ``backfill`` and ``preflight``."""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from desk.config import DeskConfig
from desk.doctor import preflight_reads
from desk.doctor.backfill import Backfill, Filled
from desk.doctor.charts import doctor_settings, open_doctor
from desk.doctor.findings import Check, Finding, FindingsError, FindingsFile, Header, read
from desk.doctor.job_files import job_of
from desk.doctor.journal import Event, Journal, JournalError
from desk.doctor.preflight import Level
from desk.doctor.repair import MAX_LAG, RATE, Repair, RepairError, plan
from desk.doctor.scan import scan
from desk.doctor.store import Scope
from desk.remedies import Remedy

EXPECTED = (FindingsError, JournalError, RepairError)
"""Faults that are told in a line, without a stack."""

PATIENCE_SECONDS = 600.0
"""How long a repair waits at its end for the jobs. Their checkpoints are usually 1 minute apart or less."""
_SHOWN = 10
FINER = 16
"""A check cuts the ring into so many times ``scan_ranges``: the findings of a range are in memory until it is done."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds the doctor's commands to those of the desk."""
    checks = ",".join(Check)
    command = _add(commands, "check", "find what is wrong in the rows of many learners", _check)
    command.add_argument("--course", metavar="ID", help="the enrolments of a course")
    command.add_argument("--batch", metavar="ID", help="the enrolments of a batch")
    command.add_argument("--all", action="store_true", help="all enrolments")
    command.add_argument(
        "--findings", type=Path, default=Path("findings.jsonl"), metavar="FILE", help="continued if it exists"
    )
    command.add_argument("--checks", type=_checks, default=tuple(Check), metavar="LIST", help=f"of {checks}")
    command = _add(commands, "repair", "send the events that put findings right", _repair)
    command.add_argument("findings", type=Path, metavar="FILE", help="the findings of a check")
    command.add_argument("--only", type=_checks, default=tuple(Check), metavar="LIST", help=f"of {checks}")
    command.add_argument("--rate", type=_positive, default=RATE, metavar="N", help="events a second")
    command.add_argument(
        "--max-lag", type=_positive, default=MAX_LAG, metavar="N", help="wait while a job is further behind"
    )
    command.add_argument(
        "--issue-again", action="store_true", help="also send what issues a certificate again that the learner holds"
    )
    command.add_argument("--dry-run", action="store_true", help="send nothing")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command = _add(commands, "backfill", "fill aggregates of rows that have only agg", _backfill)
    command = _add(commands, "preflight", "say whether everything is ready for a switch-over", _preflight)
    command.add_argument(
        "--jobs",
        type=_job_file,
        nargs="+",
        default=[],
        metavar="FILE",
        help="the --config of each job; the file is named after the job",
    )


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, text: str, run: object
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.set_defaults(run=run)
    return command


def _checks(text: str) -> tuple[Check, ...]:
    try:
        wanted = {Check(name.strip()) for name in text.split(",")}
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{error}; known are {', '.join(Check)}") from error
    return tuple(check for check in Check if check in wanted)


def _job_file(text: str) -> Path:
    try:
        job_of(Path(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


class ScanProgress:
    """A progress bar over the token ranges, with the enrolments and the findings so far, the rate and the time left."""

    def __init__(self, console: Console, ranges: int, done: int) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console
        )
        self._task = self._progress.add_task("", total=ranges, completed=done)
        self._started = time.monotonic()
        self.enrolments = self.findings = 0

    def __enter__(self) -> "ScanProgress":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def examined(self, enrolments: int, findings: int) -> None:
        self.enrolments += enrolments
        self.findings += findings
        rate = self.enrolments / max(time.monotonic() - self._started, 0.001)
        text = f"{self.enrolments} enrolments, {self.findings} findings, {rate:.0f} a second"
        self._progress.update(self._task, description=text)

    def range_done(self) -> None:
        self._progress.advance(self._task)


def _check(config: DeskConfig, options: argparse.Namespace) -> int:
    scope = Scope(options.course, options.batch)
    if options.all == any(scope):
        print("say --all, or --course, --batch or both", file=sys.stderr)
        return 2
    ranges = config.scan_ranges * FINER
    file = FindingsFile(options.findings, Header(*scope, options.checks, ranges))
    try:

        async def run() -> None:
            async with open_doctor(config, options.checks) as doctor:
                with ScanProgress(Console(stderr=True), ranges, len(file.done)) as progress:
                    await scan(doctor, scope, file, ranges, progress)

        asyncio.run(run())
    finally:
        file.close()
    print(f"{sum(file.done.values())} enrolments examined, findings in {options.findings}")
    _print_summary(read(options.findings))
    return 0


def _print_summary(findings: Iterable[Finding]) -> None:
    counts = Counter((finding.check, finding.kind, finding.remedy, finding.issues_again) for finding in findings)
    for (check, kind, remedy, issues_again), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        again = ", which would issue a certificate again" if issues_again else ""
        print(f"{count:8}  {check}: {kind}{f', put right by {remedy}{again}' if remedy else ''}")
    if not counts:
        print("nothing is wrong")


def _repair(config: DeskConfig, options: argparse.Namespace) -> int:
    now_ms, issue_again = time.time_ns() // 1_000_000, options.issue_again
    findings = [finding for finding in read(options.findings) if finding.remedy is not None]
    events = plan(findings, options.only, now_ms, issue_again=issue_again)
    left_out = len(plan(findings, options.only, now_ms, issue_again=True)) - len(events)
    if left_out:
        print(f"{left_out} events are left out, because they would issue a certificate again: --issue-again sends them")
    path = options.findings.with_name(f"{options.findings.name}.journal")
    if options.dry_run:
        _print_events(config, events)
        return 0
    journal = Journal(path)
    try:
        left = [event for event in events if (event.remedy, event.key) not in journal.sent]
        _print_events(config, left)
        if (left or journal.open_intent) and not options.yes and not _is_confirmed():
            return 1
        repair = Repair(config.kafka, journal, lambda text: print(text, flush=True))
        if left or journal.open_intent:
            asyncio.run(_send(config, options, left, journal, repair))
    finally:
        journal.close()
    return asyncio.run(_check_again(config, options, journal, repair))


async def _send(
    config: DeskConfig, options: argparse.Namespace, events: Sequence[Event], journal: Journal, repair: Repair
) -> None:
    async with open_doctor(config, options.only) as doctor:

        async def still_wanted(chunk: Sequence[Event]) -> list[Event]:
            findings = await doctor.examine_keys(event.key for event in chunk)
            wanted = {
                (finding.remedy, finding.key) for finding in findings if options.issue_again or not finding.issues_again
            }
            return [event for event in chunk if (event.remedy, event.key) in wanted]

        if journal.open_intent is not None:
            count = await repair.finish_interrupted(still_wanted)
            print(f"the last run was killed: {count} of its last events were still to be sent")
        await repair.send(events, options.rate, options.max_lag, still_wanted)


def _is_confirmed() -> bool:
    if not sys.stdin.isatty():
        print("nothing was sent: say --yes", file=sys.stderr)
        return False
    return input("Send them? [y/N] ").strip().lower() in ("y", "yes")


def _print_events(config: DeskConfig, events: Sequence[Event]) -> None:
    for remedy, count in sorted(Counter(event.remedy for event in events).items()):
        print(f"{count:8}  {remedy}")
    for event in events[:_SHOWN]:
        message = event.message(config.kafka)
        print(f"{message.topic}: {message.value.decode()}")
    if len(events) > _SHOWN:
        print(f"and {len(events) - _SHOWN} more")
    if not events:
        print("nothing to send")


async def _check_again(config: DeskConfig, options: argparse.Namespace, journal: Journal, repair: Repair) -> int:
    """Says what is left to be done about those to whom events were sent, once the jobs have applied them."""
    if not journal.sent:
        return 0
    remedies = {remedy for remedy, _ in journal.sent}
    if Check.CERTIFICATES in options.only:
        # The others lead to certificate requests, and what these lead to is checked.
        remedies.add(Remedy.CERTIFICATE)
    if not await repair.wait_until_applied(remedies, PATIENCE_SECONDS):
        print("the jobs have not applied all events yet: check again later", file=sys.stderr)
        return 1
    async with open_doctor(config, options.only) as doctor:
        findings = await doctor.examine_keys(key for _, key in journal.sent)
    print(f"{len({key for _, key in journal.sent})} enrolments checked again:")
    _print_summary(findings)
    left = [finding for finding in findings if finding.remedy and (options.issue_again or not finding.issues_again)]
    return 1 if left else 0


def _backfill(config: DeskConfig, _: argparse.Namespace) -> int:
    async def run() -> Filled:
        cassandra = Cassandra(config.cassandra, Metrics())
        try:
            await cassandra.open()
            backfill = Backfill(cassandra, config.cassandra.keyspace, doctor_settings(config))
            await backfill.prepare()
            with Progress(TextColumn("{task.description}"), console=Console(stderr=True)) as progress:
                task = progress.add_task("")

                def page_done() -> None:
                    filled = backfill.filled
                    progress.update(task, description=f"{filled.rows_read} rows read, {filled.rows} filled")

                await backfill.run(config.scan_ranges, config.page_size, page_done)
            return backfill.filled
        finally:
            await cassandra.close()

    filled = asyncio.run(run())
    print(f"{filled.rows_read} rows read, {filled.rows} rows filled with {filled.keys} keys")
    return 0


def _preflight(config: DeskConfig, options: argparse.Namespace) -> int:
    results = asyncio.run(preflight_reads.run(config, options.jobs))
    for result in results:
        print(result)
    return 1 if any(result.level is Level.FAIL for result in results) else 0
