"""Fills ``aggregates`` of rows that have only ``agg``, for readers that do not merge the two columns.

It may run beside the jobs. A value is written with a timestamp from before its row was read, and before that by
:data:`CLOCK_MARGIN_US`. So what a job writes meanwhile wins, whichever of the two writes arrives first.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from common.domain.aggregates import context_id, merge
from common.domain.enrolments import EnrolmentKey
from common.servers.cassandra import Cassandra, Row, Statement, Write, token_ranges
from desk.doctor.store import AGGREGATES
from desk.explanation.settings import JobSettings
from desk.recompute import changes_of, outnumbered
from desk.rows import ATTEMPT_COLUMNS, OF_AGGREGATES, OF_ATTEMPTS, to_attempts
from jobs.assessment_aggregator.rules import Attempt

CLOCK_MARGIN_US = 600_000_000
"""10 minutes. By so much the clock of a job may be behind the clock here."""

_CONTEXT = context_id("")


def now_us() -> int:
    """The clock, in us since 1970."""
    return time.time_ns() // 1_000


class AggregatesRow(NamedTuple):
    """A row of ``user_activity_agg``. A column that is null, missing or empty is None or empty."""

    activity_type: str
    activity_id: str
    user_id: str
    context_id: str
    agg: Mapping[str, int] | None
    aggregates: Mapping[str, float] | None

    @property
    def missing(self) -> set[str]:
        """The keys that only ``agg`` has."""
        return set(self.agg or ()).difference(self.aggregates or ())

    @property
    def enrolment(self) -> EnrolmentKey:
        """Whose attempts the scores are of, if the activity is a course."""
        return EnrolmentKey(self.user_id, self.activity_id, self.context_id.removeprefix(_CONTEXT))


@dataclass(slots=True)
class Filled:
    """What the back-fill has done so far."""

    rows_read: int = 0
    rows: int = 0
    keys: int = 0


def missing_entries(row: AggregatesRow, attempts: Sequence[Attempt], settings: JobSettings) -> dict[str, float]:
    """The entries for the keys that only ``agg`` has: recomputed from the attempts (rule A8), else the integer.

    The integers also stay where they are more than the attempts give: perhaps some attempts were archived.
    """
    exact = changes_of(row.enrolment, attempts, settings, (), 0).aggregates
    more = outnumbered(merge(row.agg, row.aggregates), exact)
    return {
        key: float(value) if key in more else exact.get(key, float(value))
        for key, value in (row.agg or {}).items()
        if key in row.missing
    }


class Backfill:
    """The statements of the back-fill, prepared for one session."""

    def __init__(
        self,
        cassandra: Cassandra,
        keyspace: str,
        settings: JobSettings,
        clock_us: Callable[[], int] = now_us,
    ) -> None:
        """``cassandra`` is open."""
        self._cassandra = cassandra
        self._table = f"{keyspace}.{AGGREGATES}"
        self._attempts = f"{keyspace}.assessment_aggregator"
        self._keyspace = keyspace
        self._settings = settings
        self._clock_us = clock_us
        self.filled = Filled()

    async def prepare(self) -> None:
        """Raises WorldFault, or TaskFault where a table or a column is missing."""
        prepare = self._cassandra.prepare
        key = ", ".join(await self._partition_key())
        self._scan: Statement = await prepare(
            f"SELECT {', '.join(AggregatesRow._fields)} FROM {self._table} WHERE token({key}) > ? AND token({key}) <= ?"
        )
        self._read_attempts = await prepare(f"SELECT {ATTEMPT_COLUMNS} FROM {self._attempts} WHERE {OF_ATTEMPTS}")
        self._fill = await prepare(
            f"UPDATE {self._table} USING TIMESTAMP ? SET aggregates = aggregates + ? WHERE {OF_AGGREGATES}"
        )

    async def _partition_key(self) -> list[str]:
        """Deployments have different ones."""
        statement = await self._cassandra.prepare(
            "SELECT column_name, kind, position FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?"
        )
        (rows,) = await self._cassandra.read(statement, [(self._keyspace.lower(), AGGREGATES)])
        return [name for name, kind, _ in sorted(rows, key=lambda row: int(row[2])) if kind == "partition_key"]

    async def run(self, ranges: int, page_size: int, page_done: Callable[[], None] = lambda: None) -> None:
        """Reads the whole table and fills. Can be stopped at any time; the next run passes over what is filled.

        Raises WorldFault and TaskFault.
        """
        for bounds in token_ranges(ranges):
            async for timestamp_us, rows in self._pages(bounds, page_size):
                await self._fill_page(timestamp_us, rows)
                page_done()

    async def _pages(self, bounds: tuple[int, int], page_size: int) -> AsyncIterator[tuple[int, list[Row]]]:
        """Each page with the timestamp for what is written to its rows."""
        pages = self._cassandra.pages(self._scan, bounds, page_size)
        while True:
            timestamp_us = self._clock_us() - CLOCK_MARGIN_US
            rows = await anext(pages, None)
            if rows is None:
                return
            yield timestamp_us, rows

    async def _fill_page(self, timestamp_us: int, rows: Sequence[Row]) -> None:
        self.filled.rows_read += len(rows)
        to_fill = [row for row in (AggregatesRow(*values) for values in rows) if row.missing]
        attempts = await self._cassandra.read(self._read_attempts, [row.enrolment for row in to_fill])
        writes = []
        for row, of_row in zip(to_fill, attempts, strict=True):
            entries = missing_entries(row, to_attempts(self._cassandra, of_row), self._settings)
            self.filled.rows += 1
            self.filled.keys += len(entries)
            writes.append([Write(self._fill, (timestamp_us, entries, *row[:4]))])
        await self._cassandra.write(writes)
