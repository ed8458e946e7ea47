"""A learner on real tables and a real relation cache, as the tests of the activity aggregate updater need one."""

from collections.abc import Sequence

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.events import ContentsCompleted
from tests.support.activity_model import ASHA, T0, RelationCache, Tables, completed
from tests.support.activity_servers import Ids, Servers
from tests.support.waiting import wait_until


class Learner:
    """In a batch of a published course of two units with two contents each, with an enrolment row."""

    def __init__(
        self, servers: Servers, optional: Sequence[str] = (), *, ids: Ids | None = None, like: EnrolmentKey = ASHA
    ) -> None:
        """`like` is who it is among those with the same `ids`."""
        self.ids = ids or Ids()
        self.course = self.ids.course(RelationCache({"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}, optional))
        self.unit_1, self.unit_2 = self.course.units
        self.enrolment = self.ids.enrolment(like)
        self.user_id, self.course_id, self.batch_id = self.enrolment
        self._servers = servers
        servers.publish(self.course)
        tables = Tables()
        tables.enrol(self.enrolment)
        servers.put(tables)

    def completed(self, *content_ids: str, at: int = T0) -> ContentsCompleted:
        return completed(*content_ids, at=at, by=self.enrolment)

    def completed_count(self, activity_id: str) -> float | None:
        """Of the course or a unit; None if nothing was counted."""
        return self._servers.aggregates(self.enrolment, activity_id).get(COMPLETED_COUNT)

    def completed_counts(self) -> list[float | None]:
        """Of the course and its two units."""
        return [self.completed_count(activity_id) for activity_id in (self.course_id, *self.course.units)]

    def counts(self, content_id: str) -> tuple[int, int] | None:
        """View count and completed count of a content."""
        rows = self._servers.rows([self.enrolment], self.course)
        views, completions = (
            rows.get(("consumption", self.enrolment, content_id, column)) for column in ("viewcount", "completedcount")
        )
        return (views[0], completions[0]) if views and completions else None

    def wait_until_counted(self, *content_ids: str) -> None:
        """Counts are written last, so everything else is there then."""
        wait_until(lambda: all(self.counts(content_id) for content_id in content_ids), f"{content_ids} are counted", 60)
