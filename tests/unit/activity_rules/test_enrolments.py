"""Progress, status and completion of an enrolment."""

from typing import Any

import pytest

from jobs.activity_aggregate_updater.rules import (
    Content,
)
from tests.support.activity_model import (
    ASHA,
    COURSE,
    DAY,
    HOUR,
    T0,
    Tables,
    completed,
)
from tests.support.activity_rules import (
    World,
    change_of,
    kinds,
)


class TestEnrolment:
    def test_progress(self, world: World) -> None:
        world.apply(completed("A", "elsewhere"))
        assert world.enrolment() == {
            ("active",): True,
            ("status",): 1,
            ("progress",): 1,
            ("contentstatus", "A"): 2,
            ("contentstatus", "elsewhere"): 2,
        }

    def test_the_last_required_leaf_node_completes_it(self) -> None:
        world = World(optional=("D",))
        world.apply(completed("A", "B"))
        world.apply(completed("C", at=T0 + HOUR))
        assert world.enrolment() == {
            ("active",): True,
            ("status",): 2,
            ("progress",): 3,
            ("completedon",): T0 + HOUR,
            ("contentstatus", "A"): 2,
            ("contentstatus", "B"): 2,
            ("contentstatus", "C"): 2,
        }

    def test_completed_on_is_the_time_of_the_event_that_completes_it(self, world: World) -> None:
        world.apply(completed("A", at=T0 + 1), completed("B", "C", "D", at=T0), completed("E", at=T0 + 2))
        assert world.enrolment()["completedon",] == T0

    def test_contents_outside_of_the_course_do_not_complete_it(self, world: World) -> None:
        world.apply(completed("A", "B", "C", "elsewhere"))
        assert (world.enrolment()["status",], world.enrolment()["progress",]) == (1, 3)

    def test_an_enrolment_that_was_opened_again_keeps_its_date_until_it_is_completed_again(self, world: World) -> None:
        world.tables.enrol(ASHA, status=1, completedon=T0 - DAY)
        assert change_of(world.decide(completed("A"))).completed_on_ms is None

    def test_what_others_have_completed_counts(self, world: World) -> None:
        world.stored(Content("A", 2), Content("B", 2), Content("C", None, 1, 1, 1, 1)).apply(completed("D"))
        assert world.enrolment()["status",] == 2

    def test_status_of_contents_is_added_where_the_enrolment_lacks_it_or_has_it_lower(self, world: World) -> None:
        world.tables.put("enrolments", ASHA, "contentstatus", "A", value=1)
        world.tables.put("enrolments", ASHA, "contentstatus", "B", value=2)
        world.stored(Content("B", 1), Content("C", 1), Content("D", 0))
        assert change_of(world.decide(completed("A"))).content_status == {"A": 2, "C": 1, "D": 0}

    def test_once_completed_it_stays_as_it_is(self, world: World) -> None:
        world.apply(completed("A", "B", "C", "D"))
        before = world.enrolment()
        sent = world.apply(completed("E", at=T0 + 1))
        assert world.enrolment() == before
        assert kinds(sent) == [("start", "E"), ("complete", "E")]

    def test_what_the_scala_job_has_completed_is_not_completed_again(self, world: World) -> None:
        world.tables.enrol(ASHA, status=2, completedon=T0 - DAY)
        world.stored(*(Content(content, 2) for content in "ABC"))
        assert kinds(world.apply(completed("D"))) == [("start", "D"), ("complete", "D")]
        assert world.enrolment() == {("active",): True, ("status",): 2, ("completedon",): T0 - DAY}

    def test_an_old_completion_without_a_date_is_left_alone(self, world: World) -> None:
        world.tables.enrol(ASHA, status=2)
        assert kinds(world.apply(completed("A", "B", "C", "D")))[-1] == ("complete", "D")

    def test_a_duplicate_does_not_touch_it(self, world: World) -> None:
        world.apply(completed("A"))
        world.stored(Content("B", 2), Content("C", 2), Content("D", 2))
        before = world.tables.rows()
        assert world.apply(completed("A", at=T0 + 1)) == []
        assert world.tables.rows() == before

    @pytest.mark.parametrize("phantom", [False, True])
    def test_a_learner_who_is_not_enrolled_gets_counts_but_no_enrolment(self, phantom: bool) -> None:
        world = World()
        world.tables = Tables()
        if phantom:
            # The content state update writes these columns for anyone.
            world.tables.enrol(ASHA, lastreadcontentid="A", lastreadcontentstatus=2)
        before = world.enrolment()
        sent = world.apply(completed("A", "B", "C", "D"))
        assert world.enrolment() == before
        assert world.tables.completed_counts()[COURSE] == 4.0
        assert [kind for kind, _ in kinds(sent)] == ["start", "complete"] * 4

    @pytest.mark.parametrize("columns", [{"active": True}, {"active": False, "status": 0}, {"status": 1}])
    def test_any_other_row_is_an_enrolment(self, columns: dict[str, Any]) -> None:
        world = World()
        world.tables = Tables()
        world.tables.enrol(ASHA, **columns)
        world.apply(completed("A"))
        assert (world.enrolment()["status",], world.enrolment()["progress",]) == (1, 1)

    def test_the_event_that_completed_it_sends_both_messages_again(self, world: World) -> None:
        first = world.apply(completed("A", "B", "C", "D"))
        assert kinds(first)[-2:] == [("enrol-complete", "asha"), ("issue-certificate", f"b1_{COURSE}")]
        assert world.apply(completed("A", "B", "C", "D")) == first

    def test_an_event_at_another_time_does_not(self, world: World) -> None:
        world.apply(completed("A"))
        world.apply(completed("B", "C", "D", at=T0 + 1))
        assert kinds(world.apply(completed("A"))) == [("start", "A"), ("complete", "A")]

    def test_a_course_of_optional_nodes_only_is_completed_by_any_completion(self) -> None:
        world = World(optional=("A", "B", "C", "D"))
        world.apply(completed("A"))
        assert (world.enrolment()["status",], world.enrolment()["progress",]) == (2, 0)
