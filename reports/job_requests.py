"""The life of a job request, from its row to its end. Pure: time is handed in, nothing is read or written.

``SUBMITTED`` or ``FAILED`` → ``PROCESSING`` → ``SUCCESS`` or ``FAILED``. A request goes back to ``SUBMITTED`` if its
channel has had enough for one run, if a server was down, or if the run was told to end. Finished batches are kept in
the row and are not made again.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from reports.model import ReportError, is_blank

SUBMITTED, PROCESSING, SUCCESS, FAILED = "SUBMITTED", "PROCESSING", "SUCCESS", "FAILED"
OPEN = (SUBMITTED, FAILED)
"""What a run takes up; besides, ``PROCESSING`` requests whose lease has expired."""

NO_DATA = "No data found"
RETIRED = "The request is made for retired collection"
INVALID = "Request should have either of batchId, batchFilter, searchFilter or encrption key"
NO_CHANNEL = "The request has no requested_channel, so nobody knows which learners it may show"

_LONGEST_MESSAGE = 300


class ProcessedBatch(msgspec.Struct, frozen=True, rename="camel"):
    """A finished batch of a request, as the column ``processed_batches`` holds it."""

    channel: str
    batch_id: str
    file_path: str
    """The entry of ``download_urls``: a relative path, or a URL if the file was uploaded."""
    file_size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A row of the table of job requests."""

    tag: str
    request_id: str
    job_id: str
    request_text: str
    """The column ``request_data``: JSON, checked by :func:`select`."""
    requested_by: str
    requested_channel: str
    encryption_key: str | None = field(repr=False)
    iteration: int
    """How often it has failed."""
    processed_batches: tuple[ProcessedBatch, ...] = ()

    @property
    def digest(self) -> str:
        """Equal for two requests that ask for the same file.

        Sunbird leaves out the channel. Then the second request of a user gets the file of the first one, even if it was
        made for another organisation and shows that organisation's learners.
        """
        parts = (
            self.job_id,
            self.request_text,
            self.encryption_key or "",
            self.requested_by,
            self.requested_channel,
        )
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


@dataclass(frozen=True, slots=True)
class Selection:
    """The batches that a request asks for: by id, or all batches of the courses that a content search finds."""

    batch_ids: Sequence[str] = ()
    search: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """The columns that one try changes."""

    status: str
    iteration: int
    processed_batches: tuple[ProcessedBatch, ...] = ()
    download_urls: tuple[str, ...] = ()
    err_message: str | None = None
    completed_at: datetime | None = None
    execution_time_ms: int | None = None


def group_duplicates(requests: Iterable[JobRequest]) -> list[tuple[JobRequest, list[JobRequest]]]:
    """The requests to run, each with the later ones that ask for the same and get its outcome.

    One that has finished batches of its own is run by itself: nobody would know those files any more.
    """
    groups: list[tuple[JobRequest, list[JobRequest]]] = []
    duplicates_by_digest: dict[str, list[JobRequest]] = {}
    for request in requests:
        if request.processed_batches:
            groups.append((request, []))
        elif (duplicates := duplicates_by_digest.get(request.digest)) is not None:
            duplicates.append(request)
        else:
            duplicates_by_digest[request.digest] = []
            groups.append((request, duplicates_by_digest[request.digest]))
    return groups


def select(request: JobRequest, batches_limit: int) -> Selection:
    """What the request asks for.

    Raises ReportError if that cannot be read, is nothing, or is too much, and if the request is of no organisation.
    """
    if is_blank(request.requested_channel):
        raise ReportError(NO_CHANNEL)
    try:
        data = msgspec.json.decode(request.request_text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        # PostgreSQL's json takes texts that no JSON parser reads: 1e999, half a surrogate pair, deep nesting.
        raise ReportError(f"request_data cannot be read: {error}") from error
    match data:
        case {"batchId": str(batch_id)} if batch_id:
            return Selection(batch_ids=[batch_id])
        case {"batchFilter": [*batch_ids]} if batch_ids and all(isinstance(each, str) for each in batch_ids):
            if len(batch_ids) > batches_limit:
                raise ReportError(f"Number of batches in request exceeded. It should be within {batches_limit}")
            return Selection(batch_ids=list(dict.fromkeys(batch_ids)))
        case {"searchFilter": dict(search)} if search:
            # The filter is a whole request of the content search, or its filters alone.
            asked = search.get("request")
            return Selection(search=asked if isinstance(asked, dict) else {"filters": search})
        case _:
            raise ReportError(INVALID)


class Quota:
    """What one run may still do for each channel."""

    def __init__(self, batches_limit: int, size_limit_in_bytes: int) -> None:
        """Both limits are those of one channel."""
        self._batches_limit = batches_limit
        self._size_limit = size_limit_in_bytes
        self._batches: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def reserve(self, channel: str) -> bool:
        """Counts one more batch of the channel; False if the channel has had enough batches or bytes."""
        if self._batches[channel] >= self._batches_limit or not self.allows_file(channel):
            return False
        self._batches[channel] += 1
        return True

    def release(self, channel: str) -> None:
        """Takes back a batch that was reserved, but did not become a file."""
        self._batches[channel] -= 1

    def allows_file(self, channel: str) -> bool:
        """Whether the channel has not had enough bytes yet."""
        return self._bytes[channel] < self._size_limit

    def add_file(self, channel: str, size_in_bytes: int) -> None:
        """Counts the file of a batch that was reserved."""
        self._bytes[channel] += size_in_bytes


class Try:
    """One try of a request: told what became of its batches, it says what becomes of the request."""

    def __init__(self, request: JobRequest, started_at: datetime) -> None:
        """The batches of earlier tries count as processed."""
        self._request = request
        self._started_at = started_at
        self._processed = {batch.batch_id: batch for batch in request.processed_batches}
        self._messages: list[str] = []
        self._is_deferred = False
        self._is_interrupted = False

    def is_processed(self, batch_id: str) -> bool:
        """Whether the batch is finished, in this try or an earlier one."""
        return batch_id in self._processed

    @property
    def processed(self) -> tuple[ProcessedBatch, ...]:
        """The finished batches."""
        return tuple(self._processed.values())

    def succeed(self, batch: ProcessedBatch) -> None:
        """A batch is finished."""
        self._processed[batch.batch_id] = batch

    def fail(self, message: str) -> None:
        """A batch has failed because of its data, or the request as a whole has."""
        self._messages.append(message)

    def defer(self) -> None:
        """A batch waits for the next run because its channel has had enough."""
        self._is_deferred = True

    def interrupt(self) -> None:
        """A batch could not be made because a server was down. That is no failure of the request."""
        self._is_interrupted = True

    def end(self, now: datetime) -> RequestOutcome:
        """What becomes of the request. After an interruption it is tried again, whatever else has failed."""
        has_failed = bool(self._messages) and not self._is_interrupted
        if not has_failed and (self._is_deferred or self._is_interrupted):
            return RequestOutcome(SUBMITTED, self._request.iteration, self.processed)
        return RequestOutcome(
            FAILED if has_failed else SUCCESS,
            self._request.iteration + has_failed,
            self.processed,
            download_urls=() if has_failed else tuple(batch.file_path for batch in self.processed),
            err_message=_storable(",".join(self._messages))[:_LONGEST_MESSAGE] or None,
            completed_at=now,
            execution_time_ms=(now - self._started_at) // timedelta(milliseconds=1),
        )


def _storable(text: str) -> str:
    """PostgreSQL stores neither NUL nor half a surrogate pair in a text."""
    return text.replace("\0", "").encode("utf-8", errors="replace").decode()
