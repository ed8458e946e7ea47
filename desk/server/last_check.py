"""What the doctor's last check has found, from the file that ``python -m desk check`` has written."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from desk.doctor import findings
from desk.doctor.findings import Check, Finding, FindingsError, Header, RangeDone


@dataclass(frozen=True, slots=True)
class LastCheck:
    """The findings by check and kind, and of how many enrolments they are.

    ``course_id`` and ``batch_id`` are None for all. ``written_at_ms`` is when the file last grew.
    """

    written_at_ms: int
    course_id: str | None
    batch_id: str | None
    checks: tuple[Check, ...]
    numbers: Counter[tuple[Check, str]]
    enrolments: int
    ranges_done: int
    ranges: int

    @property
    def has_ended(self) -> bool:
        """Whether the check has examined all that it was asked for."""
        return self.ranges_done == self.ranges


class LastCheckFile:
    """The file of the last check. It is read again when it has changed."""

    def __init__(self, path: Path) -> None:
        """Opens nothing."""
        self._path = path
        self._turn = asyncio.Lock()
        self._version: tuple[int, int] | None = None
        self._last: LastCheck | None = None

    async def read(self) -> LastCheck:
        """What it holds. Raises FindingsError if it cannot be read, or was not written by a check."""
        # Millions of findings take seconds: somebody else's result will do.
        async with self._turn:
            return await asyncio.to_thread(self._read)

    def _read(self) -> LastCheck:
        try:
            status = self._path.stat()
        except OSError as error:
            raise FindingsError(f"{self._path} cannot be read: {error.strerror}") from error
        version = (status.st_mtime_ns, status.st_size)
        if self._last is None or version != self._version:
            self._last, self._version = _summary(self._path, status.st_mtime_ns // 1_000_000), version
        return self._last


def _summary(path: Path, written_at_ms: int) -> LastCheck:
    """Counts as :func:`desk.doctor.findings.read` does: without the findings of a token range that was stopped."""
    header: Header | None = None
    numbers: Counter[tuple[Check, str]] = Counter()
    pending: Counter[tuple[Check, str]] = Counter()
    enrolments_by_range: dict[int, int] = {}
    for _, line in findings.lines(path):
        if isinstance(line, Finding):
            pending[line.check, line.kind] += 1
        elif isinstance(line, RangeDone):
            numbers += pending
            pending.clear()
            enrolments_by_range[line.number] = line.enrolments
        else:
            header = line
    if header is None:
        raise FindingsError(f"{path} was not written by a check: it has no header")
    return LastCheck(
        written_at_ms,
        header.course_id,
        header.batch_id,
        header.checks,
        numbers,
        sum(enrolments_by_range.values()),
        len(enrolments_by_range),
        header.ranges,
    )
