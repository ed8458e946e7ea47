"""The tables as far as the services read them, and the drafts of attempts, which is all they write."""

import asyncio
from collections.abc import Collection, Sequence

from common.domain import questions
from common.domain.aggregates import ACTIVITY_TYPE, context_id, merge
from common.domain.events import MAX_KEY_BYTES
from common.domain.questions import Question
from common.servers.cassandra import Cassandra, Row, Statement, Write, next_timestamp_us
from services.assessment import Attempt as SubmittedAttempt
from services.content_state import Attempt, Consumption, ContentStateQuery
from services.group_activity import AggregatesRow

MAX_IN = 100
"""Contents that are named in one statement; a learner's whole batch is read and filtered where it would be more."""


class Store:
    """Statements prepared for one session. Reads give all key columns that are known, which works with each of the keys
    that the tables have in the wild, but for the group's read: it needs ``user_id`` in the partition key."""

    def __init__(self, cassandra: Cassandra, keyspace: str) -> None:
        """``cassandra`` is open."""
        self._cassandra = cassandra
        self._keyspace = keyspace

    async def prepare(self) -> None:
        """Raises WorldFault, or TaskFault where a table or a column is missing."""
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
        self._read_group = await prepare(
            f"SELECT user_id, agg, aggregates, agg_last_updated FROM {aggregates} WHERE {of_activity}"
        )
        self._read_total = await prepare(
            f"SELECT total_score FROM {attempts} "
            "WHERE user_id = ? AND course_id = ? AND batch_id = ? AND content_id = ? AND attempt_id = ?"
        )
        self._read_node = await prepare("SELECT key FROM system.local")
        self._write_draft = await prepare(
            f"INSERT INTO {attempts} (user_id, course_id, batch_id, content_id, attempt_id, updated_on, question) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
            {"question": questions.encode},
        )

    async def ping(self) -> None:
        """Raises WorldFault if Cassandra does not answer."""
        await self._cassandra.read(self._read_node, [()])

    async def content_states(
        self, query: ContentStateQuery
    ) -> tuple[list[Consumption], list[Attempt], dict[str, float]]:
        """Consumption, attempts and merged aggregates of a query; the latter two are only read where scores are asked.

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
        return [Consumption(*row) for row in rows]

    async def _attempts(self, query: ContentStateQuery) -> list[Attempt]:
        rows = await self._of_batch(self._read_attempts, self._read_attempts_of, query)
        return [Attempt(*row) for row in rows]

    async def _of_batch(self, statement: Statement, with_contents: Statement, query: ContentStateQuery) -> list[Row]:
        """The rows of a query in clustering order; the content id is their first column."""
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
        """The rows of all these learners, in whichever batch. Raises WorldFault and TaskFault."""
        keys = [(ACTIVITY_TYPE, activity_id, user_id) for user_id in user_ids if _fits(activity_id, user_id)]
        rows = await self._cassandra.read(self._read_group, keys)
        return [AggregatesRow(*row) for of_one in rows for row in of_one]

    async def save_drafts(self, attempts: Sequence[SubmittedAttempt], now_ms: int) -> list[bool]:
        """Writes the answers of attempts that are still going on; False for one that was submitted already.

        Neither a total nor ``last_attempted_on`` is written: the aggregator takes a row without them for no attempt,
        and its submission for newer. A draft carries the time before the look at the row, so that a submission which
        the aggregator writes in between stays, whichever of the two arrives first. Raises WorldFault and TaskFault.
        """
        # Two lists with one time in one row would become one list of both: a later draft in the request wins, and no
        # two requests have the same time.
        write_time_us = next_timestamp_us()
        keys = [(*attempt.event.enrolment, attempt.content_id, _attempt_id(attempt)) for attempt in attempts]
        totals = await self._cassandra.read(self._read_total, keys)
        is_open = [not rows or rows[0][0] is None for rows in totals]
        drafts = {key: attempt for key, attempt, draft in zip(keys, attempts, is_open, strict=True) if draft}
        await self._cassandra.write(
            [Write(self._write_draft, (*key, now_ms, _answers(attempt), write_time_us))]
            for key, attempt in drafts.items()
        )
        return is_open


def _fits(*ids: str) -> bool:
    """Whether a row with these ids in its key can exist; Cassandra refuses the question otherwise."""
    return len("".join(ids).encode()) <= MAX_KEY_BYTES


def _attempt_id(attempt: SubmittedAttempt) -> str:
    assert attempt.event.attempt is not None
    return attempt.event.attempt.attempt_id


def _answers(attempt: SubmittedAttempt) -> Sequence[Question]:
    assert attempt.event.attempt is not None
    return attempt.event.attempt.questions
