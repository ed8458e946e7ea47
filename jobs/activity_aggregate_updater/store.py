"""The tables of the activity aggregate updater: what is read for a batch of enrolments, and how decisions are
written."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, zip_longest
from sys import getsizeof

from common.domain.aggregates import ACTIVITY_TYPE, COMPLETED_COUNT, context_id
from common.domain.enrolments import EnrolmentKey
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, Write
from common.servers.concurrency import gather_all
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow
from jobs.activity_aggregate_updater.rules import (
    CompletedCount,
    Content,
    ContentCounts,
    Decision,
    Stored,
)

MAX_BATCH_STATEMENTS = 1_000
"""In one unlogged batch: about 100 KB. The protocol allows 65,535 statements, and Cassandra accepts 16 MiB.

Cassandra's limits of 5 and 50 KiB apply to batches of several partitions (CASSANDRA-10876); these have one.
"""

MAX_KNOWN_ENROLMENTS, MAX_KNOWN_IDS_BYTES = 50_000, 400
"""How many enrolments a subtask remembers, and the memory that the ids of each may take. Ids of 80 characters take 230
bytes, and all enrolments 20 MB. They never take more than 30 MB: Cassandra accepts ids of 64 KB, and a character takes
up to four bytes."""

Batch = list[Write]
"""Writes to one partition."""


class KnownEnrolments:
    """The enrolments with a stored ``completedCount`` that were seen last.

    Nobody removes it. So a process that has seen one, or whose own write was acknowledged, need not read it again. An
    enrolment with long ids is not remembered.
    """

    def __init__(self) -> None:
        """Knows none."""
        self._enrolments: OrderedDict[EnrolmentKey, None] = OrderedDict()

    def __contains__(self, enrolment: EnrolmentKey) -> bool:
        return enrolment in self._enrolments

    def note(self, enrolments: Iterable[EnrolmentKey]) -> None:
        """Remembers them as the last ones, and forgets the first ones if there are too many."""
        for enrolment in enrolments:
            if sum(map(getsizeof, enrolment)) <= MAX_KNOWN_IDS_BYTES:
                self._enrolments[enrolment] = None
                self._enrolments.move_to_end(enrolment)
        while len(self._enrolments) > MAX_KNOWN_ENROLMENTS:
            self._enrolments.popitem(last=False)


class Store:
    """The statements, prepared for one session. They work with both primary keys that ``user_activity_agg`` has."""

    def __init__(self, cassandra: Cassandra, keyspace: str, metrics: Metrics) -> None:
        """``cassandra`` is open."""
        self._cassandra = cassandra
        self._keyspace = keyspace
        self._counts = metrics.counts
        self._known = KnownEnrolments()

    async def prepare(self) -> None:
        """Raises WorldFault, or TaskFault where a table or a column is missing."""
        prepare = self._cassandra.prepare
        contents = f"{self._keyspace}.user_content_consumption"
        enrolments = f"{self._keyspace}.user_enrolments"
        aggregates = f"{self._keyspace}.user_activity_agg"
        of_enrolment = "userid = ? AND courseid = ? AND batchid = ?"
        of_aggregates = "activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
        self._read_contents = await prepare(
            "SELECT contentid, status, viewcount, completedcount, WRITETIME(viewcount), WRITETIME(completedcount) "
            f"FROM {contents} WHERE {of_enrolment}"
        )
        self._read_enrolment = await prepare(
            f"SELECT active, status, completedon, contentstatus, progress FROM {enrolments} WHERE {of_enrolment}"
        )
        self._read_aggregates = await prepare(f"SELECT aggregates FROM {aggregates} WHERE {of_aggregates}")
        self._add_completed_count = await prepare(
            f"UPDATE {aggregates} SET aggregates = aggregates + ?, agg_last_updated = agg_last_updated + ? "
            f"WHERE {of_aggregates}"
        )
        self._advance_enrolment = await prepare(
            f"UPDATE {enrolments} SET status = ?, progress = ?, contentstatus = contentstatus + ?, datetime = ? "
            f"WHERE {of_enrolment}"
        )
        self._complete_enrolment = await prepare(
            f"UPDATE {enrolments} SET status = ?, progress = ?, contentstatus = contentstatus + ?, datetime = ?, "
            f"completedon = ? WHERE {of_enrolment}"
        )
        of_content = f"{of_enrolment} AND contentid = ?"
        self._write_counts = await prepare(
            f"UPDATE {contents} USING TIMESTAMP ? SET viewcount = ?, completedcount = ? WHERE {of_content}"
        )
        self._write_view_count = await prepare(
            f"UPDATE {contents} USING TIMESTAMP ? SET viewcount = ? WHERE {of_content}"
        )
        self._write_completed_count = await prepare(
            f"UPDATE {contents} USING TIMESTAMP ? SET completedcount = ? WHERE {of_content}"
        )

    async def read(self, enrolments: Sequence[EnrolmentKey]) -> dict[EnrolmentKey, Stored]:
        """The stored rows of each enrolment."""
        unknown = [enrolment for enrolment in enrolments if enrolment not in self._known]
        self._counts["cache_hits", "cache", "known_enrolments"] += len(enrolments) - len(unknown)
        self._counts["cache_misses", "cache", "known_enrolments"] += len(unknown)
        courses = [_row_of(enrolment, enrolment.course_id) for enrolment in unknown]
        content_rows, enrolment_rows, course_rows = await gather_all(
            (
                self._cassandra.read(self._read_contents, enrolments),
                self._cassandra.read(self._read_enrolment, enrolments),
                self._cassandra.read(self._read_aggregates, courses),
            )
        )
        known = set(enrolments).difference(unknown)
        known.update(
            enrolment
            for enrolment, rows in zip(unknown, course_rows, strict=True)
            if rows and COMPLETED_COUNT in (rows[0][0] or ())
        )
        self._known.note(known)
        return {
            enrolment: Stored(
                contents=[Content(*row) for row in contents],
                enrolment=self._enrolment_row(rows[0]) if rows else None,
                is_known=enrolment in known,
            )
            for enrolment, contents, rows in zip(enrolments, content_rows, enrolment_rows, strict=True)
        }

    def _enrolment_row(self, row: Row) -> EnrolmentRow:
        active, status, completed_on_ms, *rest = row
        return EnrolmentRow(active, status, self._cassandra.usable_time_ms("completedon", completed_on_ms), *rest)

    async def write(self, decisions: Mapping[EnrolmentKey, Decision], now: datetime) -> None:
        """Rule U8: writes in the order of each decision. ``now`` becomes ``datetime`` and ``agg_last_updated``."""
        stages = (self._stages(enrolment, decision, now) for enrolment, decision in decisions.items())
        for batches in zip_longest(*stages, fillvalue=()):
            await self._cassandra.write(chain.from_iterable(batches))
        self._known.note(enrolment for enrolment, decision in decisions.items() if decision.aggregates)

    def _stages(self, enrolment: EnrolmentKey, decision: Decision, now: datetime) -> Iterator[Sequence[Batch]]:
        for stage in decision.aggregates:
            yield [[self._completed_count(enrolment, count, now)] for count in stage]
        rows = (self._learner_row(enrolment, write, now) for write in decision.learner)
        # One after the other: nothing of a later batch may be written before an earlier one.
        yield from ([batch] for batch in _batches(rows))

    def _completed_count(self, enrolment: EnrolmentKey, count: CompletedCount, now: datetime) -> Write:
        row = _row_of(enrolment, count.activity_id)
        return Write(self._add_completed_count, ({COMPLETED_COUNT: count.value}, {COMPLETED_COUNT: now}, *row))

    def _learner_row(self, enrolment: EnrolmentKey, write: EnrolmentChange | ContentCounts, now: datetime) -> Batch:
        if isinstance(write, EnrolmentChange):
            return [self._enrolment(enrolment, write, now)]
        return self._content(enrolment, write)

    def _enrolment(self, enrolment: EnrolmentKey, change: EnrolmentChange, now: datetime) -> Write:
        values = (change.status, change.progress, change.content_status, now)
        if change.completed_on_ms is None:
            return Write(self._advance_enrolment, (*values, *enrolment))
        return Write(self._complete_enrolment, (*values, change.completed_on_ms, *enrolment))

    def _content(self, enrolment: EnrolmentKey, counts: ContentCounts) -> Batch:
        row = (*enrolment, counts.content_id)
        if counts.view_time_us == counts.completed_time_us:
            times = (counts.completed_time_us, counts.view_count, counts.completed_count)
            return [Write(self._write_counts, (*times, *row))]
        return [
            Write(self._write_view_count, (counts.view_time_us, counts.view_count, *row)),
            Write(self._write_completed_count, (counts.completed_time_us, counts.completed_count, *row)),
        ]


def _row_of(enrolment: EnrolmentKey, activity_id: str) -> tuple[str, str, str, str]:
    return ACTIVITY_TYPE, activity_id, enrolment.user_id, context_id(enrolment.batch_id)


def _batches(rows: Iterable[Batch]) -> Iterator[Batch]:
    """In as few batches as they fit in, in their order; the statements of a row stay together."""
    batch: Batch = []
    for row in rows:
        if len(batch) + len(row) > MAX_BATCH_STATEMENTS:
            yield batch
            batch = []
        batch += row
    if batch:
        yield batch
