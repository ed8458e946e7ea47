"""The tables that the certificate pre-processor reads for a batch of requests. Nothing is written."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from common.domain.aggregates import ACTIVITY_TYPE, context_id, merge
from common.domain.enrolments import EnrolmentKey
from common.servers.cassandra import Cassandra, Row
from common.servers.concurrency import gather_all
from jobs.collection_cert_pre_processor import templates
from jobs.collection_cert_pre_processor.rules import EnrolmentRow
from jobs.collection_cert_pre_processor.templates import Templates

_ENROLMENT_COLUMNS = "active, status, completedon, issued_certificates"


class BatchKey(NamedTuple):
    """The key of a row of ``course_batch``."""

    course_id: str
    batch_id: str


class Store:
    """The statements, prepared for one session. They work with both primary keys that ``user_activity_agg`` has."""

    def __init__(self, cassandra: Cassandra, keyspace: str) -> None:
        """``cassandra`` is open."""
        self._cassandra = cassandra
        self._keyspace = keyspace

    async def prepare(self) -> None:
        """Raises WorldFault, or TaskFault where a table or a column is missing."""
        prepare = self._cassandra.prepare
        self._columns = await self._enrolment_columns()
        self._read_batch = await prepare(
            f"SELECT cert_templates FROM {self._keyspace}.course_batch WHERE courseid = ? AND batchid = ?"
        )
        enrolment = f"FROM {self._keyspace}.user_enrolments WHERE userid = ? AND courseid = ? AND batchid = ?"
        self._read_enrolment = await prepare(f"SELECT {_ENROLMENT_COLUMNS} {enrolment}")
        # One statement for all columns: templates name columns, so there is no limit to the possible selections.
        quoted = (f'"{column}"' for column in self._columns)
        self._read_whole_enrolment = await prepare(f"SELECT {', '.join((_ENROLMENT_COLUMNS, *quoted))} {enrolment}")
        self._read_aggregates = await prepare(
            f"SELECT agg, aggregates FROM {self._keyspace}.user_activity_agg "
            "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
        )

    async def _enrolment_columns(self) -> list[str]:
        """The table's columns. Names in templates are looked up among them and never become part of a statement."""
        read = await self._cassandra.prepare(
            "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = 'user_enrolments'"
        )
        (rows,) = await self._cassandra.read(read, [(self._keyspace.lower(),)])
        return [column for (column,) in rows]

    async def templates(self, batches: Sequence[BatchKey]) -> dict[BatchKey, Templates]:
        """The certificate templates of each batch; empty if there is no such batch."""
        rows = await self._cassandra.read(self._read_batch, batches)
        return {
            batch: templates.parse(batch.batch_id, batch_rows[0][0] if batch_rows else None)
            for batch, batch_rows in zip(batches, rows, strict=True)
        }

    async def enrolments_and_aggregates(
        self, enrolments: Mapping[EnrolmentKey, bool], aggregates: Collection[EnrolmentKey]
    ) -> tuple[dict[EnrolmentKey, EnrolmentRow], dict[EnrolmentKey, dict[str, float]]]:
        """The enrolments that exist, and the aggregates of each key, empty if there are none.

        The value of a key in ``enrolments`` says whether all columns are needed.
        """
        narrow = [key for key, is_whole in enrolments.items() if not is_whole]
        whole = [key for key, is_whole in enrolments.items() if is_whole]
        of_course = [(ACTIVITY_TYPE, key.course_id, key.user_id, context_id(key.batch_id)) for key in aggregates]
        narrow_rows, whole_rows, aggregate_rows = await gather_all(
            (
                self._cassandra.read(self._read_enrolment, narrow),
                self._cassandra.read(self._read_whole_enrolment, whole),
                self._cassandra.read(self._read_aggregates, of_course),
            )
        )
        found = {key: self._enrolment(rows[0]) for key, rows in zip(narrow, narrow_rows, strict=True) if rows}
        for key, rows in zip(whole, whole_rows, strict=True):
            for row in rows:
                found[key] = self._enrolment(row)
        merged = {key: merge(*rows[0]) if rows else {} for key, rows in zip(aggregates, aggregate_rows, strict=True)}
        return found, merged

    def _enrolment(self, row: Row) -> EnrolmentRow:
        active, status, completed_on_ms, issued_certificates, *columns = row
        completed_on = self._cassandra.to_datetime("completedon", completed_on_ms)
        # A narrow row has none of the columns; messages have times in ms, too.
        all_columns = dict(zip(self._columns, columns, strict=True)) if columns else {}
        return EnrolmentRow(active, status, completed_on, issued_certificates, all_columns)
