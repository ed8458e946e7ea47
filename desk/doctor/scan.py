"""Examines all enrolments, or those of a course or a batch, token range by token range."""

from collections import deque
from typing import Protocol

from common.servers.cassandra import token_ranges
from common.servers.concurrency import gather_all
from desk.doctor.charts import Doctor
from desk.doctor.findings import Finding, FindingsFile
from desk.doctor.store import Scope

CONCURRENT_RANGES = 4
"""Token ranges at the same time. While one waits for Cassandra, another one is examined."""

Range = tuple[int, tuple[int, int]]
"""The number of a token range, and its bounds."""


class Observer(Protocol):
    """Is told how the scan goes on."""

    def examined(self, enrolments: int, findings: int) -> None:
        """A page is examined."""

    def range_done(self) -> None:
        """A token range is done, and its findings are in the file."""


async def scan(doctor: Doctor, scope: Scope, file: FindingsFile, ranges: int, observer: Observer) -> None:
    """Examines the token ranges that the file does not have yet, of the ``ranges`` that the whole ring is cut into.

    A range is added to the file as a whole, so a scan that was stopped goes on with the next call. The memory that it
    takes is that of the pages and findings of :data:`CONCURRENT_RANGES` ranges. Raises WorldFault and TaskFault.
    """
    left = deque((number, bounds) for number, bounds in enumerate(token_ranges(ranges)) if number not in file.done)
    await gather_all(_examine(doctor, scope, file, left, observer) for _ in range(CONCURRENT_RANGES))


async def _examine(doctor: Doctor, scope: Scope, file: FindingsFile, left: deque[Range], observer: Observer) -> None:
    """Takes one range after the other from ``left``, which others take from, too. After a fault nobody begins one."""
    try:
        while left:
            number, bounds = left.popleft()
            enrolments, findings = 0, list[Finding]()
            async for page in doctor.store.enrolments_in(scope, bounds, doctor.config.page_size):
                found = await doctor.examine(page)
                enrolments += len(page)
                findings += found
                observer.examined(len(page), len(found))
            file.add(number, enrolments, findings)
            observer.range_done()
    except BaseException:
        left.clear()
        raise
