"""One run over the open job requests: each is claimed, its batches are reported, its outcome is written."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

from reports.config import ReportsConfig
from reports.display import Display
from reports.exhaust import Delivery, Exhaust
from reports.model import Batch, Collection, ReportError
from reports.postgres import JobRequests
from reports.requests import NO_DATA, RETIRED, Outcome, ProcessedBatch, Quota, Request, Try, group_duplicates, select
from reports.store import Store

_logger = logging.getLogger(__name__)


class RequestRunner:
    """One run over the requests of all reports, with one quota for each channel."""

    def __init__(
        self,
        config: ReportsConfig,
        store: Store,
        job_requests: JobRequests,
        folder: Path,
        display: Display,
    ) -> None:
        """``folder`` is what the paths in the table are relative to."""
        self._config = config
        self._store = store
        self._job_requests = job_requests
        self._folder = folder
        self._display = display
        limits = config.requests
        self._quota = Quota(limits.batches_limit_per_channel, limits.file_size_limit_per_channel_in_bytes)

    async def run(self, job_id: str) -> None:
        """Runs the open requests of one report. Raises psycopg.Error; what fails in a request is in its row."""
        limits = self._config.requests
        exhaust = Exhaust(job_id, self._config, self._store)
        requests = await self._job_requests.fetch(job_id, limits.max_iterations, limits.batch_number)
        for request, duplicates in group_duplicates(requests):
            if not await self._job_requests.claim(request):
                continue
            claimed = [request, *[other for other in duplicates if await self._job_requests.claim(other)]]
            attempt = Try(request, _now())
            self._display.begin(f"{request.tag} {request.request_id}")
            try:
                outcome = await self._try(request, attempt, exhaust)
            except asyncio.CancelledError:
                # This run is told to end: the next one takes the request up where it stands.
                await self._job_requests.save_outcome(claimed, attempt.defer(_now()))
                raise
            await self._job_requests.save_outcome(claimed, outcome)
            self._display.end(f"{outcome.status} {outcome.err_message or ''}".rstrip())

    async def _try(self, request: Request, attempt: Try, exhaust: Exhaust) -> Outcome:
        try:
            batches = await self._batches(request)
        except Exception as error:  # noqa: BLE001 - the requester is told, and the next request gets its turn
            attempt.fail(_message(error))
            return attempt.end(_now())
        for batch, collection in batches:
            if attempt.is_processed(batch.batch_id):
                continue
            if not self._quota.allows(request.requested_channel):
                return attempt.defer(_now())
            try:
                file = await exhaust.write(batch, collection, self._delivery(request), self._display.advance)
            except Exception as error:  # noqa: BLE001 - the other batches of the request get their turn
                attempt.fail(_message(error))
                continue
            processed = ProcessedBatch(
                request.requested_channel, batch.batch_id, file.path.as_posix(), file.size_in_bytes
            )
            self._quota.add(processed)
            attempt.succeed(processed)
            await self._job_requests.save_processed(request, attempt.processed)
        return attempt.end(_now())

    async def _batches(self, request: Request) -> list[tuple[Batch, Collection]]:
        """What the request asks for. Raises ReportError if that is nothing."""
        selection = select(request, self._config.requests.batches_limit_per_request)
        if selection.search is not None:
            collections = await self._store.search(selection.search)
            batches = [batch for course_id in collections for batch in await self._store.batches_of(course_id)]
        else:
            found = [await self._store.batch(batch_id) for batch_id in selection.batch_ids]
            batches = [batch for batch in found if batch]
            collections = await self._store.collections([batch.course_id for batch in batches])
        if not batches:
            raise ReportError(NO_DATA)
        alive = [(batch, collections[batch.course_id]) for batch in batches if batch.course_id in collections]
        if not alive:
            raise ReportError(RETIRED)
        return alive

    def _delivery(self, request: Request) -> Delivery:
        return Delivery(
            self._folder, _now(), request.request_id, request.requested_channel, request.encryption_key or None
        )


def _message(error: Exception) -> str:
    if isinstance(error, ReportError):
        return str(error)
    _logger.error("a report has failed", exc_info=error)
    return f"Internal Server Error: {error}"


def _now() -> datetime:
    return datetime.now(UTC)
