"""Reads the archived attempts of a batch into a temporary file, in which they are found by learner."""

import asyncio
import gzip
import io
import logging
import sqlite3
import zlib
from asyncio import AbstractEventLoop
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Sequence
from concurrent import futures
from contextlib import closing
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
from obstore.exceptions import BaseError

from common.domain.faults import TaskFault
from reports import archive
from reports.archive import Malformed
from reports.config import ObjectStorageConfig
from reports.model import Batch, ReportError
from reports.object_storage import ObjectStore, connect, fault
from reports.response import AttemptRow
from reports.threads import Check, in_thread

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_logger = logging.getLogger(__name__)

_BYTES_PER_REQUEST = 1024 * 1024
_SECONDS_BETWEEN_CHECKS = 0.1

_TABLE = """
    PRAGMA journal_mode = OFF;
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -512;
    CREATE TABLE attempts (
        user_id TEXT, content_id TEXT, attempt_id TEXT, last_attempted_on TEXT, total_score REAL, questions TEXT,
        PRIMARY KEY (user_id, content_id, attempt_id)
    );
"""
_INSERT = "INSERT OR REPLACE INTO attempts VALUES (?, ?, ?, ?, ?, ?)"


class ArchivedAttempts:
    """The archived attempts of one batch; from :func:`open_archived_attempts`."""

    def __init__(self, file: Path) -> None:
        """``file`` is a new one. It needs about as much space as the archived files that are not compressed."""
        # Filled in a thread, and read in the event loop's when that has ended.
        self._file = file
        self._database = sqlite3.connect(file, check_same_thread=False)
        self._database.executescript(_TABLE)

    def add(self, user_id: str, attempt: AttemptRow) -> None:
        """Replaces the same attempt. Raises OSError."""
        content_id, attempt_id, moment, total_score, questions = attempt
        row = (user_id, content_id, attempt_id, moment and moment.isoformat(), total_score, questions)
        try:
            self._database.execute(_INSERT, row)
        except sqlite3.OperationalError as error:
            raise OSError(f"archived attempts cannot be stored: {error}") from error

    def of(self, user_ids: Sequence[str]) -> dict[str, list[AttemptRow]]:
        """The attempts of these learners, without learners who have none. Raises OSError."""
        found: defaultdict[str, list[AttemptRow]] = defaultdict(list)
        places = ", ".join("?" * len(user_ids))
        try:
            rows = self._database.execute(f"SELECT * FROM attempts WHERE user_id IN ({places})", list(user_ids))
            for user_id, content_id, attempt_id, moment, *rest in rows:
                time = moment and datetime.fromisoformat(moment)
                found[user_id].append(AttemptRow(content_id, attempt_id, time, *rest))
        except sqlite3.OperationalError as error:
            raise OSError(f"archived attempts cannot be read: {error}") from error
        return found

    def close(self) -> None:
        """Deletes the file."""
        self._database.close()
        self._file.unlink(missing_ok=True)


async def open_archived_attempts(url: str, access: ObjectStorageConfig, batch: Batch, file: Path) -> ArchivedAttempts:
    """All archived attempts of the batch, in the new ``file``. An attempt that was archived twice is the later one.

    ``url`` is of the folder with the folders of the batches, and ``access`` has the keys. A row that cannot be read is
    logged and left out. Raises ReportError for a file that cannot be read, WorldFault, TaskFault and OSError.
    """
    files = _ArchivedFiles(url, access)
    sizes = await files.of(batch)
    loop = asyncio.get_running_loop()

    def fill(check: Check) -> ArchivedAttempts:
        attempts = ArchivedAttempts(file)
        try:
            malformed = 0
            for path, size in sizes:
                download = _Download(partial(files.part, path), size, check, loop)
                malformed += _fill(attempts, path, download, batch, check)
        except BaseException:
            attempts.close()
            raise
        if malformed:
            _logger.warning("%d archived rows of batch %s are left out of a report", malformed, batch.batch_id)
        return attempts

    return await in_thread(fill)


class _ArchivedFiles:
    """The files in object storage."""

    def __init__(self, url: str, access: ObjectStorageConfig) -> None:
        self.name = f"archived attempts in {url}"
        try:
            self._store: ObjectStore = connect(access, url)
        except BaseError as error:
            raise TaskFault(f"{self.name} cannot be used: {error}") from error

    async def of(self, batch: Batch) -> list[tuple[str, int]]:
        """Path and size of each file, in order; none if there is no folder."""
        sizes: dict[str, int] = {}
        try:
            for folder in archive.folders(batch):
                listing = await obstore.list_with_delimiter_async(self._store, folder)
                sizes |= {entry["path"]: entry["size"] for entry in listing["objects"]}
        except (BaseError, FileNotFoundError) as error:
            raise fault(self.name, error) from error
        return [(path, sizes[path]) for path in archive.files_in_order(sizes)]

    async def part(self, path: str, start: int, end: int) -> bytes:
        """Of one file. Each part has the timeout and the retries for itself, however large the file is."""
        try:
            return bytes(await obstore.get_range_async(self._store, path, start=start, end=end))
        except (BaseError, FileNotFoundError) as error:
            raise fault(self.name, error) from error


class _Download(io.RawIOBase):
    """One file, for a thread; whoever waits for the thread can end it between any two bytes."""

    def __init__(
        self, part: Callable[[int, int], Coroutine[Any, Any, bytes]], size: int, check: Check, loop: AbstractEventLoop
    ) -> None:
        self._part = part
        self._size = size
        self._check = check
        self._loop = loop
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        self._check()
        target = memoryview(buffer).cast("B")
        end = min(self._position + len(target), self._size)
        if end == self._position:
            return 0
        part = asyncio.run_coroutine_threadsafe(self._part(self._position, end), self._loop)
        try:
            while not futures.wait([part], _SECONDS_BETWEEN_CHECKS).done:
                self._check()
        except BaseException:
            part.cancel()
            raise
        content = part.result()
        target[: len(content)] = content
        self._position += len(content)
        return len(content)


def _fill(attempts: ArchivedAttempts, name: str, download: _Download, batch: Batch, check: Check) -> int:
    """Adds the attempts of one file; how many of its rows are malformed."""
    malformed = 0
    try:
        with closing(_lines(name, download)) as lines:
            for found in archive.read(lines, batch):
                check()
                if isinstance(found, Malformed):
                    malformed += 1
                    _logger.warning("archived attempt left out: %s line %d: %s", name, found.line, found.reason)
                else:
                    attempts.add(*found)
    except (ReportError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ReportError(f"The archived attempts in {name} cannot be read: {error}") from error
    return malformed


def _lines(name: str, download: _Download) -> Generator[str]:
    """The lines; a longer one than any that can be read in pieces, so that it is never in memory as a whole."""
    buffered = io.BufferedReader(download, _BYTES_PER_REQUEST)
    plain = gzip.GzipFile(fileobj=buffered, mode="rb") if name.endswith(".gz") else buffered
    with io.TextIOWrapper(plain, "utf-8-sig", "surrogateescape", newline="") as text:
        yield from iter(partial(text.readline, archive.LONGEST_CELL), "")
