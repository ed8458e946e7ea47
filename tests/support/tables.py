"""The tables of Sunbird as other services fill them and as tests look at them: by another driver than the jobs'."""

import json
from collections.abc import Mapping
from typing import Any

from cassandra.cluster import Session

from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.enrolments import EnrolmentKey


class Tables:
    """Rows by enrolment. Columns that are None stay unset."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def insert(self, table: str, **columns: object) -> None:
        values = {name: value for name, value in columns.items() if value is not None}
        names, marks = ", ".join(values), ", ".join(["%s"] * len(values))
        self.session.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))

    def insert_json(self, table: str, **columns: object) -> None:
        """With values as Cassandra reads them from JSON: times and user-defined types as text and maps."""
        values = {name: value for name, value in columns.items() if value is not None}
        self.session.execute(f"INSERT INTO {table} JSON %s", [json.dumps(values)])

    def insert_enrolment(self, enrolment: EnrolmentKey, table: str = "user_enrolments", /, **columns: object) -> None:
        """An active one."""
        user_id, course_id, batch_id = enrolment
        keys = {"userid": user_id, "courseid": course_id, "batchid": batch_id}
        self.insert_json(table, **keys, **{"active": True, **columns})

    def insert_aggregates(
        self,
        enrolment: EnrolmentKey,
        agg: Mapping[str, int] | None = None,
        aggregates: Mapping[str, float] | None = None,
        **columns: object,
    ) -> None:
        user_id, course_id, batch_id = enrolment
        keys = {"activity_type": ACTIVITY_TYPE, "activity_id": course_id, "user_id": user_id}
        row = {**keys, "context_id": context_id(batch_id), "agg": agg, "aggregates": aggregates, **columns}
        self.insert("user_activity_agg", **row)

    def insert_attempt(self, enrolment: EnrolmentKey, content_id: str, attempt_id: str, **columns: object) -> None:
        """A row of another writer; without `total_score` it is a draft."""
        user_id, course_id, batch_id = enrolment
        keys = {"user_id": user_id, "course_id": course_id, "batch_id": batch_id}
        keys |= {"content_id": content_id, "attempt_id": attempt_id}
        self.insert("assessment_aggregator", **keys, **columns)

    def insert_consumption(self, enrolment: EnrolmentKey, content_id: str, **columns: object) -> None:
        user_id, course_id, batch_id = enrolment
        keys = {"userid": user_id, "courseid": course_id, "batchid": batch_id, "contentid": content_id}
        self.insert("user_content_consumption", **keys, **columns)

    def attempts(self, enrolment: EnrolmentKey) -> list[Any]:
        """The rows of ``assessment_aggregator`` in key order."""
        query = "SELECT * FROM assessment_aggregator WHERE user_id = %s AND course_id = %s AND batch_id = %s"
        return list(self.session.execute(query, tuple(enrolment)))

    def aggregates(self, enrolment: EnrolmentKey, activity_id: str | None = None) -> Any:
        """The row of ``user_activity_agg`` of the course, or of another activity in it. None if there is no row."""
        query = (
            "SELECT * FROM user_activity_agg "
            "WHERE activity_type = %s AND activity_id = %s AND user_id = %s AND context_id = %s"
        )
        keys = (ACTIVITY_TYPE, activity_id or enrolment.course_id, enrolment.user_id, context_id(enrolment.batch_id))
        return self.session.execute(query, keys).one()

    def enrolment(self, enrolment: EnrolmentKey) -> Any:
        """The row of ``user_enrolments``. None if there is no row."""
        query = "SELECT * FROM user_enrolments WHERE userid = %s AND courseid = %s AND batchid = %s"
        return self.session.execute(query, tuple(enrolment)).one()

    def delete_attempt(self, enrolment: EnrolmentKey, content_id: str, attempt_id: str) -> None:
        self.session.execute(
            "DELETE FROM assessment_aggregator "
            "WHERE user_id = %s AND course_id = %s AND batch_id = %s AND content_id = %s AND attempt_id = %s",
            (*enrolment, content_id, attempt_id),
        )
