"""The life of a job request, from its row to its end. Pure: time is handed in, and nothing is read or written.

``SUBMITTED`` or ``FAILED`` → ``PROCESSING`` → ``SUCCESS``, ``FAILED`` or, where the channel has had enough for one
run, ``SUBMITTED`` again. Batches that are finished are kept in the row and skipped next time.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from reports.model import ReportError

SUBMITTED, PROCESSING, SUCCESS, FAILED = "SUBMITTED", "PROCESSING", "SUCCESS", "FAILED"
OPEN = (SUBMITTED, FAILED)
"""What a run takes up."""

NO_DATA = "No data found"
RETIRED = "The request is made for retired collection"
INVALID = "Request should have either of batchId, batchFilter, searchFilter or encrption key"

_LONGEST_MESSAGE = 300


class ProcessedBatch(msgspec.Struct, frozen=True, rename="camel"):
    """One finished batch of a request, an element of its ``processed_batches``."""

    channel: str
    batch_id: str
    file_path: str
    """Relative."""
    file_size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """A row of the table."""

    tag: str
    request_id: str
    job_id: str
    request_data: Any
    """As JSON gives it."""
    request_text: str
    """The same as it is stored."""
    requested_by: str
    requested_channel: str
    encryption_key: str | None = field(repr=False)
    iteration: int
    """Failed tries so far."""
    processed_batches: tuple[ProcessedBatch, ...] = ()

    @property
    def digest(self) -> str:
        """The same of two requests that ask for the same."""
        parts = (self.request_text, self.encryption_key or "", self.requested_by)
        return hashlib.md5("|".join(parts).encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Selection:
    """Which batches a request asks for: by their ids, or all of the courses that a search finds."""

    batch_ids: Sequence[str] = ()
    search: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a try has made of a request: the columns that it changes."""

    status: str
    iteration: int
    download_urls: tuple[str, ...] = ()
    err_message: str | None = None
    completed_at: datetime | None = None
    execution_time_ms: int | None = None


def group_duplicates(requests: Iterable[Request]) -> list[tuple[Request, list[Request]]]:
    """Each request that is to be run with those that ask for the same and get its outcome; the first is run."""
    groups: defaultdict[str, list[Request]] = defaultdict(list)
    for request in requests:
        groups[request.digest].append(request)
    return [(first, others) for first, *others in groups.values()]


def select(request: Request, batches_limit: int) -> Selection:
    """What the request asks for. Raises ReportError if that is nothing, or more than ``batches_limit`` batches."""
    data = request.request_data if isinstance(request.request_data, dict) else {}
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
        """Of each channel."""
        self._batches_limit = batches_limit
        self._size_limit = size_limit_in_bytes
        self._batches: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def allows(self, channel: str) -> bool:
        """Whether one more batch may be processed for it."""
        return self._batches[channel] < self._batches_limit and self._bytes[channel] < self._size_limit

    def add(self, batch: ProcessedBatch) -> None:
        """Counts a batch that this run has processed."""
        self._batches[batch.channel] += 1
        self._bytes[batch.channel] += batch.file_size


class Try:
    """One try of a request: told what becomes of its batches, it says what becomes of the request."""

    def __init__(self, request: Request, started_at: datetime) -> None:
        """The batches of earlier tries count as processed."""
        self._request = request
        self._started_at = started_at
        self._processed = {batch.batch_id: batch for batch in request.processed_batches}
        self._messages: list[str] = []

    def is_processed(self, batch_id: str) -> bool:
        """Whether the batch is done, in this try or an earlier one."""
        return batch_id in self._processed

    @property
    def processed(self) -> tuple[ProcessedBatch, ...]:
        """The batches that are done."""
        return tuple(self._processed.values())

    def succeed(self, batch: ProcessedBatch) -> None:
        """A batch is done."""
        self._processed[batch.batch_id] = batch

    def fail(self, message: str) -> None:
        """A batch, or the request as a whole, has failed."""
        self._messages.append(message)

    def end(self, now: datetime) -> Outcome:
        """Every batch has been tried, or the request could not be: success, or failure if anything has failed."""
        failed = bool(self._messages)
        return Outcome(
            FAILED if failed else SUCCESS,
            self._request.iteration + failed,
            download_urls=() if failed else tuple(batch.file_path for batch in self.processed),
            err_message=",".join(self._messages)[:_LONGEST_MESSAGE] or None,
            completed_at=now,
            execution_time_ms=(now - self._started_at) // timedelta(milliseconds=1),
        )

    def defer(self, now: datetime) -> Outcome:
        """The rest waits for the next run; what has failed until now is a failure all the same."""
        if self._messages:
            return self.end(now)
        return Outcome(SUBMITTED, self._request.iteration)
