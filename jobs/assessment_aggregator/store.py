"""The tables of the assessment aggregator: what is read for a batch of enrolments, and how decisions are written."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

from common.domain import questions
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.enrolments import EnrolmentKey
from common.servers.cassandra import Cassandra, Write
from common.servers.concurrency import gather_all
from jobs.assessment_aggregator.rules import AggregateChanges, Attempt, AttemptKey, AttemptRow


class ReadInPart(NamedTuple):
    """Some attempts of an enrolment, without their questions, and its row of ``user_activity_agg``."""

    attempts: Sequence[Attempt]
    aggregates: Mapping[str, float]
    agg_details: Sequence[str]


class Store:
    """The statements, prepared for one session.

    They work with each of the three primary keys that Sunbird's deployments have: all key columns are always given, and
    attempts are read by user, course and batch.
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
        of_row = "activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
        read_attempts = (
            f"SELECT content_id, attempt_id, last_attempted_on, created_on, total_score, total_max_score "
            f"FROM {attempts} WHERE user_id = ? AND course_id = ? AND batch_id = ?"
        )
        self._read_attempts = await prepare(read_attempts)
        self._read_attempt = await prepare(f"{read_attempts} AND content_id = ? AND attempt_id = ?")
        self._read_aggregates = await prepare(f"SELECT aggregates FROM {aggregates} WHERE {of_row}")
        self._read_aggregates_and_details = await prepare(
            f"SELECT aggregates, agg_details FROM {aggregates} WHERE {of_row}"
        )
        self._add_aggregates = await prepare(
            f"UPDATE {aggregates} SET aggregates = aggregates + ?, agg_last_updated = agg_last_updated + ?, "
            f"agg_details = ? WHERE {of_row}"
        )
        self._remove_aggregates = await prepare(
            f"UPDATE {aggregates} SET aggregates = aggregates - ?, agg_last_updated = agg_last_updated - ? "
            f"WHERE {of_row}"
        )
        self._write_attempt = await prepare(
            f"INSERT INTO {attempts} (user_id, course_id, batch_id, content_id, attempt_id, created_on, "
            "last_attempted_on, updated_on, total_score, total_max_score, grand_total, question) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            {"question": questions.COLUMN},
        )

    async def attempts(self, enrolments: Collection[EnrolmentKey]) -> list[list[Attempt]]:
        """All attempts of each enrolment, without their questions."""
        rows = await self._cassandra.read(self._read_attempts, list(enrolments))
        return [[self._attempt(*row) for row in attempt_rows] for attempt_rows in rows]

    def _attempt(
        self,
        content_id: str,
        attempt_id: str,
        last_attempted_on_ms: int | None,
        created_on_ms: int | None,
        total_score: float | None,
        total_max_score: float | None,
    ) -> Attempt:
        to_datetime = self._cassandra.to_datetime
        return Attempt(
            content_id,
            attempt_id,
            to_datetime("last_attempted_on", last_attempted_on_ms),
            to_datetime("created_on", created_on_ms),
            total_score,
            total_max_score,
        )

    async def in_part(self, keys: Mapping[EnrolmentKey, Collection[AttemptKey]]) -> list[ReadInPart]:
        """These attempts of each enrolment, as far as they are there, with its row of aggregates."""
        attempt_rows, aggregate_rows = await gather_all(
            [
                self._cassandra.read(
                    self._read_attempt,
                    [(*enrolment, *key) for enrolment, attempt_keys in keys.items() for key in attempt_keys],
                ),
                self._cassandra.read(self._read_aggregates_and_details, [_row_of(enrolment) for enrolment in keys]),
            ]
        )
        remaining = iter(attempt_rows)
        found = []
        for attempt_keys, of_enrolment in zip(keys.values(), aggregate_rows, strict=True):
            aggregates, agg_details = of_enrolment[0] if of_enrolment else (None, None)
            attempts = [self._attempt(*row) for rows in islice(remaining, len(attempt_keys)) for row in rows]
            found.append(ReadInPart(attempts, aggregates or {}, agg_details or ()))
        return found

    async def aggregate_keys(self, enrolments: Sequence[EnrolmentKey]) -> dict[EnrolmentKey, Collection[str]]:
        """The keys of each enrolment's ``aggregates``."""
        rows = await self._cassandra.read(self._read_aggregates, [_row_of(enrolment) for enrolment in enrolments])
        return {
            enrolment: (aggregate_rows[0][0] or {}).keys() if aggregate_rows else ()
            for enrolment, aggregate_rows in zip(enrolments, rows, strict=True)
        }

    async def write_attempts(self, rows: Mapping[EnrolmentKey, Sequence[AttemptRow]]) -> None:
        """Writes the attempts; those of one enrolment go together."""
        await self._cassandra.write(
            [Write(self._write_attempt, _attempt_values(enrolment, row)) for row in attempt_rows]
            for enrolment, attempt_rows in rows.items()
        )

    async def write_aggregates(self, changes: Mapping[EnrolmentKey, AggregateChanges], now: datetime) -> None:
        """Writes the changes to ``user_activity_agg``; ``now`` becomes ``agg_last_updated``."""
        await self._cassandra.write(
            self._aggregate_writes(enrolment, change, now) for enrolment, change in changes.items()
        )

    def _aggregate_writes(self, enrolment: EnrolmentKey, change: AggregateChanges, now: datetime) -> list[Write]:
        row = _row_of(enrolment)
        times = dict.fromkeys(change.aggregates, now)
        writes = [Write(self._add_aggregates, (change.aggregates, times, change.agg_details, *row))]
        if change.removed_keys:
            keys = set(change.removed_keys)
            writes.append(Write(self._remove_aggregates, (keys, keys, *row)))
        return writes


def _row_of(enrolment: EnrolmentKey) -> tuple[str, str, str, str]:
    return ACTIVITY_TYPE, enrolment.course_id, enrolment.user_id, context_id(enrolment.batch_id)


def _attempt_values(enrolment: EnrolmentKey, row: AttemptRow) -> Sequence[Any]:
    return (
        *enrolment,
        row.content_id,
        row.attempt_id,
        row.created_on,
        row.last_attempted_on,
        row.updated_on,
        row.total_score,
        row.total_max_score,
        row.grand_total,
        row.questions,
    )
