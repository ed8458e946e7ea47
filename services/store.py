"""What the services read from Cassandra, and the drafts of attempts, which is all that they write."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial

import msgspec

from common.domain import questions
from common.domain.aggregates import ACTIVITY_TYPE, context_id, merge
from common.domain.events import MAX_KEY_BYTES
from common.domain.questions import Question
from common.servers.cassandra import Cassandra, Row, Statement, Write, next_timestamp_us
from services.assessment import AcceptedAssessment
from services.content_state import AttemptTotals, Consumption, ContentStateQuery
from services.group_activity import AggregatesRow

_TIMES = msgspec.json.Decoder(dict[str, str] | None)

MAX_IN = 100
"""Contents that one statement may name. For more of them the learner's whole batch is read and filtered."""


DRAFT_IS_OLDER_US = 60_000_000
"""A draft is written with a time that is this much earlier. So a submission wins that the aggregator has sent but that
cannot be read yet: its write may be in flight for 12 s, and the clocks of the machines may differ."""


class Store:
    """The statements of one session.

    Reads name all key columns that are known. So they work with each of the primary keys that these tables have in
    Sunbird's installations, except the group read, which needs ``user_id`` in the partition key.
    """

    def __init__(self, cassandra: Cassandra, keyspace: str) -> None:
        """``cassandra`` is open."""
        self._cassandra = cassandra
        self._keyspace = keyspace

    async def prepare(self) -> None:
        """Raises WorldFault, or TaskFault where a table, a column or a field of the type ``question`` is missing."""
        prepare = self._cassandra.prepare
        attempts = f"{self._keyspace}.assessment_aggregator"
        aggregates = f"{self._keyspace}.user_activity_agg"
        of_batch = (
            "SELECT contentid, courseid, batchid, status, progress, viewcount, completedcount, completionpercentage, "
            "progressdetails, last_access_time, last_completed_time "
            f"FROM {self._keyspace}.user_content_consumption WHERE userid = ? AND courseid = ? AND batchid = ?"
        )
        attempts_of_batch = (
            "SELECT content_id, attempt_id, last_attempted_on, total_score, total_max_score "
            f"FROM {attempts} WHERE user_id = ? AND course_id = ? AND batch_id = ?"
        )
        of_activity = "activity_type = ? AND activity_id = ? AND user_id = ?"
        self._read_consumption = await prepare(of_batch)
        self._read_consumption_of = await prepare(f"{of_batch} AND contentid IN ?")
        self._read_attempts = await prepare(attempts_of_batch)
        self._read_attempts_of = await prepare(f"{attempts_of_batch} AND content_id IN ?")
        self._read_aggregates = await prepare(
            f"SELECT agg, aggregates FROM {aggregates} WHERE {of_activity} AND context_id = ?"
        )
        # Maps as JSON texts: msgspec decodes them more than five times as fast as Cassandra's own format is decoded.
        self._read_group = await prepare(
            "SELECT user_id, toJson(agg), toJson(aggregates), toJson(agg_last_updated) "
            f"FROM {aggregates} WHERE {of_activity}"
        )
        self._read_total = await prepare(
            f"SELECT total_score FROM {attempts} "
            "WHERE user_id = ? AND course_id = ? AND batch_id = ? AND content_id = ? AND attempt_id = ?"
        )
        self._read_node = await prepare("SELECT key FROM system.local")
        self._write_draft = await prepare(
            f"INSERT INTO {attempts} (user_id, course_id, batch_id, content_id, attempt_id, updated_on, question) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            {"question": questions.COLUMN},
        )

    async def ping(self) -> None:
        """Raises WorldFault if Cassandra does not answer."""
        await self._cassandra.read(self._read_node, [()])

    async def content_states(
        self, query: ContentStateQuery
    ) -> tuple[list[Consumption], list[AttemptTotals], dict[str, float]]:
        """Consumption, attempts and merged aggregates of a query. Without scores, only consumption is read.

        Raises WorldFault and TaskFault.
        """
        if not query.with_score:
            return await self._consumption(query), [], {}
        return await asyncio.gather(
            self._consumption(query),
            self._attempts(query),
            self.aggregates(query.user_id, query.course_id, query.batch_id),
        )

    async def _consumption(self, query: ContentStateQuery) -> list[Consumption]:
        rows = await self._of_batch(self._read_consumption, self._read_consumption_of, query)
        usable = self._cassandra.usable_time_ms
        return [
            Consumption._make(
                (*others, usable("last_access_time", accessed_ms), usable("last_completed_time", completed_ms))
            )
            for *others, accessed_ms, completed_ms in rows
        ]

    async def _attempts(self, query: ContentStateQuery) -> list[AttemptTotals]:
        rows = await self._of_batch(self._read_attempts, self._read_attempts_of, query)
        usable = self._cassandra.usable_time_ms
        return [
            AttemptTotals(content_id, attempt_id, usable("last_attempted_on", time_ms), *totals)
            for content_id, attempt_id, time_ms, *totals in rows
        ]

    async def _of_batch(self, statement: Statement, with_contents: Statement, query: ContentStateQuery) -> list[Row]:
        """The rows of a query in clustering order. Their first column is the content id."""
        batch = (query.user_id, query.course_id, query.batch_id)
        content_ids = [content_id for content_id in query.content_ids if _fits(content_id, query.batch_id)]
        if not _fits(*batch) or (query.content_ids and not content_ids):
            return []
        if content_ids and len(content_ids) <= MAX_IN:
            return (await self._cassandra.read(with_contents, [(*batch, content_ids)]))[0]
        rows = (await self._cassandra.read(statement, [batch]))[0]
        return [row for row in rows if row[0] in query.content_ids] if content_ids else rows

    async def aggregates(self, user_id: str, course_id: str, batch_id: str) -> dict[str, float]:
        """The merged aggregates of a learner in a batch, empty without a row. Raises WorldFault and TaskFault."""
        context = context_id(batch_id)
        if not _fits(course_id, user_id) or not _fits(context):
            return {}
        rows = (await self._cassandra.read(self._read_aggregates, [(ACTIVITY_TYPE, course_id, user_id, context)]))[0]
        return merge(*rows[0]) if rows else {}

    async def group(self, activity_id: str, user_ids: Collection[str]) -> list[AggregatesRow]:
        """The rows of these learners in all batches. Raises WorldFault and TaskFault."""
        keys = [(ACTIVITY_TYPE, activity_id, user_id) for user_id in user_ids if _fits(activity_id, user_id)]
        rows = await self._cassandra.read(self._read_group, keys)
        times_ms = _TimesMs(partial(self._cassandra.usable_json_time_ms, "agg_last_updated"))
        return [
            AggregatesRow(user_id, agg, aggregates, times_ms.of(agg_last_updated))
            for learner_rows in rows
            for user_id, agg, aggregates, agg_last_updated in learner_rows
        ]

    async def save_drafts(self, drafts: Sequence[AcceptedAssessment], now_ms: int) -> list[bool]:
        """Writes the answers of attempts that are not submitted yet. The result is False for one that is.

        Neither a total nor ``last_attempted_on`` is written, so that the aggregator does not count the row as an
        attempt, and takes the submission for newer. The write time is the time of the request, taken before the stored
        row is read: a submission that the aggregator writes in between is newer and stays, whichever of the two writes
        arrives first. Raises WorldFault and TaskFault.
        """
        # A submission that the aggregator has already sent may not be visible yet, and has an earlier timestamp.
        write_time_us = next_timestamp_us() - DRAFT_IS_OLDER_US
        keys = [(*draft.event.enrolment, draft.content_id, _attempt_id(draft)) for draft in drafts]
        totals = await self._cassandra.read(self._read_total, keys)
        is_open = [not rows or rows[0][0] is None for rows in totals]
        # Of several drafts of one attempt the last one wins: with the same write time their lists would become one.
        open_drafts = {key: draft for key, draft, is_draft in zip(keys, drafts, is_open, strict=True) if is_draft}
        await self._cassandra.write(
            [Write(self._write_draft, (*key, now_ms, _answers(draft), write_time_us))]
            for key, draft in open_drafts.items()
        )
        return is_open


class _TimesMs(dict[str, int | None]):
    """The times of metrics in ms. A text is parsed once, unless it cannot be used: one write gives many metrics the
    same time."""

    def __init__(self, usable_ms: Callable[[str], int | None]) -> None:
        super().__init__()
        self._usable_ms = usable_ms

    def __missing__(self, time: str) -> int | None:
        time_ms = self._usable_ms(time)
        # Each time that cannot be used is to be counted.
        if time_ms is not None:
            self[time] = time_ms
        return time_ms

    def of(self, column: str | None) -> dict[str, int | None]:
        """The times in a map that Cassandra has made a JSON text."""
        times = (_TIMES.decode(column) if column else None) or {}
        return dict(zip(times, map(self.__getitem__, times.values()), strict=True))


def _fits(*ids: str) -> bool:
    """Whether a row with these ids in its key can exist. Cassandra refuses a query for one that cannot."""
    return len("".join(ids).encode()) <= MAX_KEY_BYTES


def _attempt_id(draft: AcceptedAssessment) -> str:
    assert draft.event.attempt is not None
    return draft.event.attempt.attempt_id


def _answers(draft: AcceptedAssessment) -> Sequence[Question]:
    assert draft.event.attempt is not None
    return draft.event.attempt.questions
