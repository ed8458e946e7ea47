"""Reads Cassandra for the desk: a learner by key, a batch by token range. Writes nothing."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.enrolments import EnrolmentKey
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, Statement
from common.servers.concurrency import gather_all
from desk.config import DeskConfig
from desk.records import AggregatesRow, Batch, ContentRow, EnrolmentRow, LearnerRows
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
from jobs.collection_cert_pre_processor import templates


class Store:
    """A session with the statements of the desk. They work with each primary key that Sunbird's deployments have."""

    def __init__(self, config: DeskConfig, metrics: Metrics) -> None:
        """Connects to nothing yet. To be called inside the event loop."""
        self._config = config
        self._keyspace = config.cassandra.keyspace
        self._cassandra = Cassandra(config.cassandra, metrics)

    async def open(self) -> None:
        """Connects and prepares. Raises WorldFault, or TaskFault where a table or a column is missing."""
        await self._cassandra.open()
        prepare, keyspace = self._cassandra.prepare, self._keyspace
        self._columns = await self._enrolment_columns()
        quoted = (f'"{column}"' for column in self._columns)
        self._read_enrolment = await prepare(
            f"SELECT {', '.join((ENROLMENT_COLUMNS, *quoted))} FROM {keyspace}.user_enrolments WHERE {OF_ENROLMENT}"
        )
        self._read_batches_of_learner = await prepare(
            f"SELECT batchid, active, status FROM {keyspace}.user_enrolments WHERE userid = ? AND courseid = ?"
        )
        self._read_contents = await prepare(
            f"SELECT {CONTENT_COLUMNS}, last_completed_time "
            f"FROM {keyspace}.user_content_consumption WHERE {OF_ENROLMENT}"
        )
        self._read_attempts = await prepare(
            f"SELECT {ATTEMPT_COLUMNS} FROM {keyspace}.assessment_aggregator WHERE {OF_ATTEMPTS}"
        )
        self._read_aggregates = await prepare(
            f"SELECT {AGGREGATES_COLUMNS} FROM {keyspace}.user_activity_agg WHERE {OF_AGGREGATES}"
        )
        self._read_batch = await prepare(
            f"SELECT name, cert_templates FROM {keyspace}.course_batch WHERE courseid = ? AND batchid = ?"
        )
        self._read_batches_of_course = await prepare(
            f"SELECT batchid, name FROM {keyspace}.course_batch WHERE courseid = ?"
        )
        self._scan_enrolments = await prepare(
            f"SELECT userid, {ENROLMENT_COLUMNS} FROM {keyspace}.user_enrolments WHERE courseid = ? AND batchid = ? "
            "AND token(userid) > ? AND token(userid) <= ? ALLOW FILTERING"
        )

    async def close(self) -> None:
        """Closes the session."""
        await self._cassandra.close()

    async def _enrolment_columns(self) -> list[str]:
        """The table's columns. Names in templates are looked up among them and never become part of a statement."""
        read = await self._cassandra.prepare(
            "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = 'user_enrolments'"
        )
        return [column for (column,) in await self._rows(read, self._keyspace.lower())]

    async def batches_of_learner(self, user_id: str, course_id: str) -> list[str]:
        """The ids of the batches of a course in which a learner is enrolled; phantom rows do not count."""
        rows = await self._rows(self._read_batches_of_learner, user_id, course_id)
        return [batch_id for batch_id, active, status in rows if active is not None or status is not None]

    async def batches_of_course(self, course_id: str) -> list[tuple[str, str | None]]:
        """The id and the name of each batch of a course."""
        return [(batch_id, name) for batch_id, name in await self._rows(self._read_batches_of_course, course_id)]

    async def batch(self, course_id: str, batch_id: str) -> Batch:
        """The batch with its templates, as the certificate pre-processor reads them."""
        rows = await self._rows(self._read_batch, course_id, batch_id)
        name, cert_templates = rows[0] if rows else (None, None)
        parsed = templates.parse(batch_id, cert_templates)
        return Batch(course_id, batch_id, parsed, name, exists=bool(rows))

    async def learner(self, key: EnrolmentKey) -> LearnerRows:
        """All rows of a learner in a batch. Raises WorldFault and TaskFault."""
        enrolments, contents, attempts, aggregates = await gather_all(
            (
                self._rows(self._read_enrolment, *key),
                self._rows(self._read_contents, *key),
                self._rows(self._read_attempts, *key),
                self._rows(self._read_aggregates, ACTIVITY_TYPE, key.course_id, key.user_id, context_id(key.batch_id)),
            )
        )
        return LearnerRows(
            self._enrolment(enrolments[0]) if enrolments else None,
            [ContentRow(Content(*row[:6]), self._time("last_completed_time", row[6])) for row in contents],
            to_attempts(self._cassandra, attempts),
            self._aggregates(aggregates[0]) if aggregates else AggregatesRow(),
        )

    async def enrolments(self, course_id: str, batch_id: str) -> AsyncIterator[list[tuple[str, EnrolmentRow]]]:
        """The enrolments of a batch with their user ids, a page at a time, from a scan of the whole table."""
        async for rows in self._cassandra.scan(
            self._scan_enrolments, (course_id, batch_id), self._config.scan_ranges, self._config.page_size
        ):
            yield [(user_id, self._enrolment(row)) for user_id, *row in rows]

    async def aggregates(self, course_id: str, batch_id: str, user_ids: Sequence[str]) -> list[AggregatesRow]:
        """The aggregates of the course of each learner, empty where there is no row."""
        context = context_id(batch_id)
        found = await self._cassandra.read(
            self._read_aggregates, [(ACTIVITY_TYPE, course_id, user_id, context) for user_id in user_ids]
        )
        return [self._aggregates(rows[0]) if rows else AggregatesRow() for rows in found]

    async def _rows(self, statement: Statement, *parameters: Any) -> list[Row]:
        (rows,) = await self._cassandra.read(statement, [parameters])
        return rows

    def _enrolment(self, row: Sequence[Any]) -> EnrolmentRow:
        own, others = row[:ENROLMENT_VALUES], row[ENROLMENT_VALUES:]
        columns = zip(self._columns, others, strict=True) if others else ()
        return to_enrolment(self._cassandra, own, dict(columns))

    def _aggregates(self, row: Row) -> AggregatesRow:
        agg, aggregates, last_updated, details = row
        times: Mapping[str, datetime | None] = {
            key: self._time("agg_last_updated", value) for key, value in (last_updated or {}).items()
        }
        return AggregatesRow(
            agg or {}, aggregates or {}, {key: time for key, time in times.items() if time is not None}, details or ()
        )

    def _time(self, column: str, value: int | None) -> datetime | None:
        return self._cassandra.to_datetime(column, value)
