"""The values of a row become fields in the order in which the statements select the columns."""

from typing import Any

from common.config.model import CassandraConfig
from common.domain.events import MAX_TIME_MS
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from desk.records import EnrolmentRow
from desk.rows import ATTEMPT_COLUMNS, ENROLMENT_COLUMNS, to_attempts, to_enrolment
from jobs.assessment_aggregator.rules import Attempt
from tests.support.desk_records import NOW, NOW_MS, QUIZ, VIDEO

ENROLMENT = {
    "active": True,
    "status": 2,
    "enrolled_date": NOW_MS,
    "completedon": NOW_MS + 1000,
    "progress": 1,
    "contentstatus": {VIDEO: 2},
    "issued_certificates": [{"name": "Completion"}],
    "certificates": [{"name": "Old"}],
}
ATTEMPT = {
    "content_id": QUIZ,
    "attempt_id": "a",
    "last_attempted_on": NOW_MS,
    "created_on": NOW_MS + 1000,
    "total_score": 7.5,
    "total_max_score": 10.0,
}


def selected(columns: str, row: dict[str, Any]) -> tuple[Any, ...]:
    """What Cassandra answers if these columns are selected."""
    return tuple(row[column] for column in columns.split(", "))


def closed(metrics: Metrics) -> Cassandra:
    return Cassandra(CassandraConfig(contact_points=("cassandra",)), metrics)


def test_an_enrolment_has_each_value_in_its_field() -> None:
    row = to_enrolment(closed(Metrics()), selected(ENROLMENT_COLUMNS, ENROLMENT), {"batchid": "batch"})
    later = NOW.replace(second=41)
    certificates = [{"name": "Completion"}]
    assert row == EnrolmentRow(
        True, 2, NOW, later, 1, {VIDEO: 2}, certificates, {"batchid": "batch"}, [{"name": "Old"}]
    )


def test_an_attempt_has_each_value_in_its_field() -> None:
    draft = {**ATTEMPT, "attempt_id": "b", "last_attempted_on": None, "total_score": None}
    rows = [selected(ATTEMPT_COLUMNS, row) for row in (ATTEMPT, draft)]
    later = NOW.replace(second=41)
    assert to_attempts(closed(Metrics()), rows) == [
        Attempt(QUIZ, "a", NOW, later, 7.5, 10.0),
        Attempt(QUIZ, "b", None, later, None, 10.0),
    ]


def test_a_time_that_no_datetime_can_hold_is_unset_and_counted_by_its_column() -> None:
    metrics, far = Metrics(), MAX_TIME_MS + 1
    enrolment = {**ENROLMENT, "enrolled_date": far, "completedon": far}
    row = to_enrolment(closed(metrics), selected(ENROLMENT_COLUMNS, enrolment), {})
    attempt = {**ATTEMPT, "last_attempted_on": far, "created_on": far}
    (found,) = to_attempts(closed(metrics), [selected(ATTEMPT_COLUMNS, attempt)])
    assert (row.enrolled_on, row.completed_on, found.last_attempted_on, found.created_on) == (None,) * 4
    columns = ("enrolled_date", "completedon", "last_attempted_on", "created_on")
    assert metrics.counts == {("unusable_times", "column", column): 1 for column in columns}
