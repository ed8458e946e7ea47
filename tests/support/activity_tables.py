"""A learner on the session's servers, for tests that run the activity job in their own process."""

from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import Settings
from tests.support.activity_model import (
    ASHA,
    T0,
    RelationCache,
    Tables,
    completed,
)
from tests.support.activity_servers import Ids, Servers

SETTINGS = Settings(audit_topic="dev.telemetry.raw", certificate_topic="dev.issue.certificate.request")


class Learner:
    """Asha, enrolled in a course of two units, on the servers."""

    def __init__(self, servers: Servers) -> None:
        self.ids = Ids()
        self.course = self.ids.course(RelationCache({"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}))
        self.course_id = self.course.course_id
        self.unit_1, self.unit_2 = self.course.units
        self.enrolment = self.ids.enrolment(ASHA)
        self._servers = servers
        servers.publish(self.course)
        tables = Tables()
        tables.enrol(self.enrolment)
        servers.put(tables)

    def completed(self, *content_ids: str, at: int = T0) -> ContentsCompleted:
        return completed(*content_ids, at=at, by=self.enrolment)

    def completed_count(self, activity_id: str) -> float | None:
        return self._servers.aggregates(self.enrolment, activity_id).get("completedCount")
