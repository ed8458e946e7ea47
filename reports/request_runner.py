"""One run over the open job requests: claim them, make their reports together, save what became of each."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from common.domain.faults import TaskFault, WorldFault
from reports.config import ReportsConfig
from reports.destination import Destination
from reports.display import Display
from reports.exhaust import Exhaust
from reports.job_requests import (
    FAILED,
    NO_DATA,
    RETIRED,
    JobRequest,
    ProcessedBatch,
    Quota,
    Selection,
    Try,
    group_duplicates,
    select,
)
from reports.model import Batch, Collection, ReportError
from reports.output import is_file_name
from reports.postgres import JobRequests, Key
from reports.protection import Protection
from reports.store import Store
from reports.user_org import SecurityPolicy
from reports.writers import File, Report

_logger = logging.getLogger(__name__)

_RENEWALS_PER_LEASE = 3

_WORLD = (WorldFault, TaskFault, OSError)
"""Not the request's fault: it is tried again, and its requester is not told about our servers."""


@dataclass(eq=False, slots=True)
class _Running:
    """A claimed request with its duplicates, on its way."""

    request: JobRequest
    duplicates: Sequence[JobRequest]
    attempt: Try
    selection: Selection = field(default_factory=Selection)
    protection: Protection = field(default_factory=Protection)
    unfinished: int = 0
    """Reports that have neither a file nor an error yet."""
    is_ended: bool = False


class RequestRunner:
    """One run, with one quota for each channel. Everything it needs is open."""

    def __init__(
        self,
        config: ReportsConfig,
        store: Store,
        policy: SecurityPolicy,
        job_requests: JobRequests,
        destination: Destination,
        exhaust: Exhaust,
        display: Display,
    ) -> None:
        """``destination`` gets the files."""
        self._config = config
        self._store = store
        self._policy = policy
        self._job_requests = job_requests
        self._destination = destination
        self._exhaust = exhaust
        self._display = display
        limits = config.requests
        self._quota = Quota(limits.batches_limit_per_channel, limits.file_size_limit_per_channel_in_bytes)
        self._tried: set[Key] = set()
        self._is_successful = True

    async def run(self, job_ids: Sequence[str]) -> bool:
        """Tries every open request of these reports once; False if one has failed or could not be made.

        Raises WorldFault and TaskFault. However it ends, no request stays claimed.
        """
        heartbeat = asyncio.ensure_future(self._renew())
        try:
            while claimed := await self._claim(job_ids):
                if reports := await self._plan(claimed):
                    await self._make(reports)
        finally:
            heartbeat.cancel()
            await self._job_requests.give_back()
        return self._is_successful

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._config.postgres.lease_seconds / _RENEWALS_PER_LEASE)
            try:
                await self._job_requests.renew()
            except (WorldFault, TaskFault) as error:
                # Whether the leases are lost shows when something is saved.
                _logger.warning("the leases could not be renewed: %s", error)

    async def _claim(self, job_ids: Sequence[str]) -> list[_Running]:
        limits = self._config.requests
        claimed: list[JobRequest] = []
        for key in await self._job_requests.free(job_ids, limits.max_iterations, limits.batch_number):
            if len(claimed) == limits.requests_per_round:
                break
            if key not in self._tried:
                self._tried.add(key)
                if request := await self._job_requests.claim(key, limits.max_iterations):
                    claimed.append(request)
        # What was claimed, and not what was listed: another run may have finished batches of it since.
        return [
            _Running(request, duplicates, Try(request, _now())) for request, duplicates in group_duplicates(claimed)
        ]

    async def _plan(self, claimed: Sequence[_Running]) -> dict[Report, _Running]:
        """The reports that are to be made. The look-ups of all requests go together."""
        for running in claimed:
            await self._read(running)
        known = await self._store.batches({batch_id for running in claimed for batch_id in running.selection.batch_ids})
        batches_by_running = {running: await self._batches(running, known) for running in claimed}
        collections = await self._store.collections(
            {batch.course_id for batches in batches_by_running.values() for batch in batches}
        )
        reports: dict[Report, _Running] = {}
        for running, batches in batches_by_running.items():
            for report in self._reports(running, batches, collections):
                reports[report] = running
                running.unfinished += 1
            if not running.unfinished:
                await self._end(running)
        return reports

    async def _read(self, running: _Running) -> None:
        request = running.request
        try:
            running.selection = select(request, self._config.requests.batches_limit_per_request)
            running.protection = await self._policy.protection(
                request.job_id, request.requested_channel, request.encryption_key
            )
        except Exception as error:  # noqa: BLE001 - told apart there; the other requests go on
            running.selection = Selection()
            self._fail(running, error)

    async def _batches(self, running: _Running, known: dict[str, Batch]) -> list[Batch]:
        """The batches of one request, without those that do not exist: they are failures of it."""
        selection = running.selection
        try:
            if selection.search is not None:
                courses = await self._store.search(selection.search)
                found = [batch for course_id in courses for batch in await self._store.batches_of(course_id)]
                if not found:
                    raise ReportError(NO_DATA)
                return found
        except Exception as error:  # noqa: BLE001 - told apart there; the other requests go on
            self._fail(running, error)
            return []
        for batch_id in selection.batch_ids:
            if batch_id not in known:
                running.attempt.fail(NO_DATA if len(selection.batch_ids) == 1 else f"{NO_DATA} for batch {batch_id}")
        return [known[batch_id] for batch_id in selection.batch_ids if batch_id in known]

    def _reports(self, running: _Running, batches: Sequence[Batch], collections: dict[str, Collection]) -> list[Report]:
        request, reports = running.request, []
        for batch in batches:
            if running.attempt.is_processed(batch.batch_id):
                continue
            if batch.course_id not in collections:
                running.attempt.fail(RETIRED if len(batches) == 1 else f"{RETIRED}, batch {batch.batch_id}")
            elif not self._quota.reserve(request.requested_channel):
                running.attempt.defer()
            else:
                reports.append(
                    Report(
                        request.job_id,
                        batch,
                        collections[batch.course_id],
                        _now(),
                        request.request_id,
                        request.requested_channel,
                        running.protection,
                    )
                )
        return reports

    async def _make(self, reports: dict[Report, _Running]) -> None:
        def is_wanted(report: Report) -> bool:
            is_allowed = self._quota.allows_file(report.channel or "")
            if not is_allowed:
                reports[report].attempt.defer()
            return is_allowed

        self._display.begin(f"{len(reports)} reports")
        async for report, result in self._exhaust.make(list(reports), self._display.advance, is_wanted):
            running = reports[report]
            if isinstance(result, File):
                await self._place(running, report, result)
            else:
                self._quota.release(running.request.requested_channel)
                self._fail(running, result)
            running.unfinished -= 1
            if not running.unfinished:
                await self._end(running)
        for running in dict.fromkeys(reports.values()):
            if not running.is_ended:
                await self._end(running)
        self._display.end()

    async def _place(self, running: _Running, report: Report, made: File) -> None:
        request = running.request
        key = (request.tag, request.request_id)
        if not await self._job_requests.is_owned(key):
            # Its duplicates may still be ours, and must not get a success without a file.
            running.attempt.interrupt()
            return
        try:
            url = await self._destination.place(made.file, made.path)
            await self._destination.delete_leftovers(made.path)
            for duplicate in running.duplicates:
                # The table allows one id under two tags.
                if duplicate.request_id == request.request_id or not is_file_name(duplicate.request_id):
                    continue
                leftover = made.path.parent.with_name(duplicate.request_id) / made.path.name
                await self._destination.delete_leftovers(leftover, with_itself=True)
        except _WORLD as error:
            self._fail(running, error)
            return
        channel = request.requested_channel
        self._quota.add_file(channel, made.size_in_bytes)
        running.attempt.succeed(ProcessedBatch(channel, report.batch.batch_id, url, made.size_in_bytes))
        await self._job_requests.save_processed(key, running.attempt.processed)

    async def _end(self, running: _Running) -> None:
        running.is_ended = True
        outcome = running.attempt.end(_now())
        for request in (running.request, *running.duplicates):
            name = f"{request.tag} {request.request_id}"
            # Of duplicates, some may have failed more often than others.
            own = replace(outcome, iteration=request.iteration + (outcome.status == FAILED))
            if await self._job_requests.save_outcome((request.tag, request.request_id), own):
                self._is_successful &= outcome.status != FAILED
                self._display.print(name, f"{outcome.status} {outcome.err_message or ''}".rstrip())
            else:
                self._display.print(name, "was taken over by another run")

    def _fail(self, running: _Running, error: Exception) -> None:
        if isinstance(error, _WORLD):
            _logger.warning("%s is tried again by the next run: %s", running.request.request_id, error)
            running.attempt.interrupt()
            self._is_successful = False
        elif isinstance(error, ReportError):
            running.attempt.fail(str(error))
        else:
            _logger.error("request %s has failed", running.request.request_id, exc_info=error)
            # Without the text, which may name servers.
            running.attempt.fail(f"Internal Server Error: {type(error).__name__}")


def _now() -> datetime:
    return datetime.now(UTC)
