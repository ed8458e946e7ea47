"""The statements of the doctor: enrolments by token range, and what belongs to them by key. Writes nothing."""

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.enrolments import EnrolmentKey
from common.servers.cassandra import Cassandra, Row, Statement
from desk.doctor.chart import Answers, StoredTime, UnitRow
from desk.records import AggregatesRow, ContentRow, EnrolmentRow
from desk.rows import (
    AGGREGATES_COLUMNS,
    ATTEMPT_COLUMNS,
    CONTENT_COLUMNS,
    ENROLMENT_COLUMNS,
    ENROLMENT_VALUES,
    OF_AGGREGATES,
    OF_ATTEMPTS,
    OF_ENROLMENT,
    to_attempts,
    to_enrolment,
)
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator.rules import Attempt

ENROLMENTS, CONTENTS = "user_enrolments", "user_content_consumption"
ATTEMPTS, AGGREGATES = "assessment_aggregator", "user_activity_agg"


class _Question(msgspec.Struct):
    """What is compared of an element of ``question``."""

    id: str | None = None
    score: float | None = None


_QUESTIONS = msgspec.json.Decoder(list[_Question] | None)


class Enrolment(NamedTuple):
    """A row of ``user_enrolments``, its key, and its times."""

    key: EnrolmentKey
    row: EnrolmentRow
    times: Sequence[StoredTime]


class Contents(NamedTuple):
    """The rows of ``user_content_consumption`` of an enrolment."""

    rows: Sequence[ContentRow]
    times: Sequence[StoredTime]


class Attempts(NamedTuple):
    """The rows of ``assessment_aggregator`` of an enrolment; ``answers`` is empty if nobody asked for them."""

    rows: Sequence[Attempt]
    answers: Sequence[Answers]
    times: Sequence[StoredTime]


class Aggregates(NamedTuple):
    """The row of ``user_activity_agg`` of a course."""

    row: AggregatesRow
    times: Sequence[StoredTime]


class Scope(NamedTuple):
    """Which enrolments are looked at: those of a course, of a batch, of both, or all."""

    course_id: str | None = None
    batch_id: str | None = None


class Store:
    """The prepared statements of one session. They work with each primary key that Sunbird's deployments have."""

    def __init__(self, cassandra: Cassandra, keyspace: str, *, with_questions: bool) -> None:
        """``cassandra`` is open. ``with_questions`` reads ``question``, the largest column by far."""
        self._cassandra = cassandra
        self._keyspace = keyspace
        self._with_questions = with_questions
        self._scans: dict[Scope, Statement] = {}

    async def prepare(self) -> None:
        """Raises WorldFault, or TaskFault where a table or a column is missing."""
        prepare, keyspace = self._cassandra.prepare, self._keyspace
        # Templates may ask for any column, and fail if it does not exist. What it holds decides nothing.
        self._enrolment_columns = dict.fromkeys(column for column, _ in await self._columns(ENROLMENTS))
        self._enrolment_times = await self._times(ENROLMENTS, but=("enrolled_date", "completedon"))
        self._content_times = await self._times(CONTENTS)
        self._attempt_times = await self._times(ATTEMPTS, but=("last_attempted_on", "created_on"))
        question = ["toJson(question)"] if self._with_questions else []
        self._select_enrolments = (
            f"SELECT {', '.join(['userid, courseid, batchid', ENROLMENT_COLUMNS, *self._enrolment_times])} "
            f"FROM {keyspace}.{ENROLMENTS} WHERE"
        )
        self._read_enrolment = await prepare(f"{self._select_enrolments} {OF_ENROLMENT}")
        self._read_contents = await prepare(
            f"SELECT {', '.join([CONTENT_COLUMNS, *self._content_times])} "
            f"FROM {keyspace}.{CONTENTS} WHERE {OF_ENROLMENT}"
        )
        self._read_attempts = await prepare(
            f"SELECT {', '.join([ATTEMPT_COLUMNS, *question, *self._attempt_times])} "
            f"FROM {keyspace}.{ATTEMPTS} WHERE {OF_ATTEMPTS}"
        )
        self._read_aggregates = await prepare(
            f"SELECT {AGGREGATES_COLUMNS} FROM {keyspace}.{AGGREGATES} WHERE {OF_AGGREGATES}"
        )
        self._read_counts = await prepare(f"SELECT agg, aggregates FROM {keyspace}.{AGGREGATES} WHERE {OF_AGGREGATES}")

    async def _columns(self, table: str) -> list[tuple[str, str]]:
        """The name and the type of each column."""
        statement = await self._cassandra.prepare(
            "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?"
        )
        (rows,) = await self._cassandra.read(statement, [(self._keyspace.lower(), table)])
        return [(name, kind) for name, kind in rows]

    async def _times(self, table: str, but: Sequence[str] = ()) -> list[str]:
        """The columns of the type ``timestamp``. Which of them a table has differs between deployments."""
        return sorted(name for name, kind in await self._columns(table) if kind == "timestamp" and name not in but)

    async def enrolments_in(
        self, scope: Scope, bounds: tuple[int, int], page_size: int
    ) -> AsyncIterator[list[Enrolment]]:
        """The enrolments of a token range, ``(first, last]``, a page at a time. Raises WorldFault and TaskFault."""
        if scope not in self._scans:
            filters = [
                f"{column} = ? AND"
                for column, value in (("courseid", scope.course_id), ("batchid", scope.batch_id))
                if value is not None
            ]
            self._scans[scope] = await self._cassandra.prepare(
                f"{self._select_enrolments} {' '.join(filters)} token(userid) > ? AND token(userid) <= ?"
                f"{' ALLOW FILTERING' if filters else ''}"
            )
        values = [value for value in scope if value is not None]
        async for rows in self._cassandra.pages(self._scans[scope], (*values, *bounds), page_size):
            yield [self._enrolment(row) for row in rows]

    async def enrolments(self, keys: Sequence[EnrolmentKey]) -> list[Enrolment]:
        """The enrolments of these keys, without those that do not exist."""
        found = await self._cassandra.read(self._read_enrolment, keys)
        return [self._enrolment(rows[0]) for rows in found if rows]

    async def contents(self, keys: Sequence[EnrolmentKey]) -> list[Contents]:
        """The contents of each enrolment."""
        found = await self._cassandra.read(self._read_contents, keys)
        return [
            Contents(
                [ContentRow(Content(*row[:6])) for row in rows],
                [time for row in rows for time in _stored_times(CONTENTS, row[0], self._content_times, row[6:])],
            )
            for rows in found
        ]

    async def attempts(self, keys: Sequence[EnrolmentKey]) -> list[Attempts]:
        """The attempts of each enrolment."""
        return [self._attempts(rows) for rows in await self._cassandra.read(self._read_attempts, keys)]

    def _attempts(self, rows: Sequence[Row]) -> Attempts:
        answers, times = [], []
        names = ("last_attempted_on", "created_on", *self._attempt_times)
        for content_id, attempt_id, attempted_on, created_on, score, _, *rest in rows:
            if self._with_questions:
                questions = _QUESTIONS.decode(rest.pop(0) or "null") or []
                answers.append(Answers(content_id, attempt_id, score, [(one.id, one.score) for one in questions]))
            times += _stored_times(ATTEMPTS, attempt_id, names, (attempted_on, created_on, *rest))
        return Attempts(to_attempts(self._cassandra, (row[:6] for row in rows)), answers, times)

    async def aggregates(self, keys: Sequence[EnrolmentKey]) -> list[Aggregates]:
        """The aggregates of the course of each enrolment; empty where there is no row."""
        rows_of = [_row_of(key, key.course_id) for key in keys]
        return [_aggregates(rows) for rows in await self._cassandra.read(self._read_aggregates, rows_of)]

    async def units(self, units: Sequence[tuple[EnrolmentKey, str]]) -> list[UnitRow]:
        """The aggregates of units, each with the enrolment that it is about; empty where there is no row."""
        found = await self._cassandra.read(self._read_counts, [_row_of(key, unit_id) for key, unit_id in units])
        return [UnitRow(rows[0][0] or {}, rows[0][1] or {}) if rows else UnitRow() for rows in found]

    def _enrolment(self, row: Row) -> Enrolment:
        key, own, times = row[:3], row[3 : 3 + ENROLMENT_VALUES], row[3 + ENROLMENT_VALUES :]
        enrolled, completed = own[2:4]
        return Enrolment(
            EnrolmentKey(*key),
            to_enrolment(self._cassandra, own, self._enrolment_columns),
            _stored_times(
                ENROLMENTS, "", ("enrolled_date", "completedon", *self._enrolment_times), (enrolled, completed, *times)
            ),
        )


def _row_of(key: EnrolmentKey, activity_id: str) -> tuple[str, str, str, str]:
    return ACTIVITY_TYPE, activity_id, key.user_id, context_id(key.batch_id)


def _aggregates(rows: Sequence[Row]) -> Aggregates:
    if not rows:
        return Aggregates(AggregatesRow(), ())
    agg, aggregates, last_updated, details = rows[0]
    times = (last_updated or {}).items()
    return Aggregates(
        AggregatesRow(agg or {}, aggregates or {}, {}, details or ()),
        [StoredTime(AGGREGATES, "agg_last_updated", key, time_ms) for key, time_ms in times],
    )


def _stored_times(table: str, row: str, columns: Iterable[str], values: Iterable[Any]) -> list[StoredTime]:
    return [
        StoredTime(table, column, row, time_ms)
        for column, time_ms in zip(columns, values, strict=True)
        if time_ms is not None
    ]
