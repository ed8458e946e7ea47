"""What all statements of the desk select of the tables' rows, and the rows as records."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from common.servers.cassandra import Cassandra, Row
from desk.records import EnrolmentRow
from jobs.assessment_aggregator.rules import Attempt

ENROLMENT_COLUMNS = (
    "active, status, enrolled_date, completedon, progress, contentstatus, issued_certificates, certificates"
)
ENROLMENT_VALUES = ENROLMENT_COLUMNS.count(",") + 1
CONTENT_COLUMNS = "contentid, status, viewcount, completedcount, WRITETIME(viewcount), WRITETIME(completedcount)"
ATTEMPT_COLUMNS = "content_id, attempt_id, last_attempted_on, created_on, total_score, total_max_score"
AGGREGATES_COLUMNS = "agg, aggregates, agg_last_updated, agg_details"

OF_ENROLMENT = "userid = ? AND courseid = ? AND batchid = ?"
OF_ATTEMPTS = "user_id = ? AND course_id = ? AND batch_id = ?"
OF_AGGREGATES = "activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"


def to_enrolment(cassandra: Cassandra, values: Sequence[Any], columns: Mapping[str, Any]) -> EnrolmentRow:
    """From the values of :data:`ENROLMENT_COLUMNS`, and those columns that templates may ask for."""
    active, status, enrolled_ms, completed_ms, progress, content_status, issued, old = values
    return EnrolmentRow(
        active,
        status,
        cassandra.to_datetime("enrolled_date", enrolled_ms),
        cassandra.to_datetime("completedon", completed_ms),
        progress,
        content_status,
        issued,
        columns,
        old,
    )


def to_attempts(cassandra: Cassandra, rows: Iterable[Row]) -> list[Attempt]:
    """From rows of :data:`ATTEMPT_COLUMNS`."""
    return [
        Attempt(
            content_id,
            attempt_id,
            cassandra.to_datetime("last_attempted_on", attempted_ms),
            cassandra.to_datetime("created_on", created_ms),
            score,
            maximum,
        )
        for content_id, attempt_id, attempted_ms, created_ms, score, maximum in rows
    ]
