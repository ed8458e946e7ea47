"""Completions that arrive together, or before the rows of the API: all of them count."""

from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.rules import (
    Content,
)
from tests.support.activity_model import (
    ASHA,
    COURSE,
    T0,
    completed,
)
from tests.support.activity_rules import (
    World,
    kinds,
)


class TestWhatTheScalaJobLoses:
    def test_several_contents_of_one_learner_in_one_event_all_count(self, world: World) -> None:
        world.apply(completed("A", "B", "C"))
        assert [world.counts(content) for content in "ABCD"] == [(1, 1), (1, 1), (1, 1), (None, None)]
        assert world.tables.completed_counts() == {COURSE: 3.0, "do_unit_1": 2.0, "do_unit_2": 1.0}

    def test_several_events_of_one_learner_in_one_batch_all_count(self, world: World) -> None:
        world.apply(completed("A"), completed("B", at=T0 + 1), completed("C", at=T0 + 2))
        assert [world.counts(content) for content in "ABC"] == [(1, 1)] * 3
        assert world.tables.completed_counts()[COURSE] == 3.0

    def test_one_event_alone_is_decided_at_once(self, world: World) -> None:
        world.apply(completed("A"))
        assert world.tables.completed_counts()[COURSE] == 1.0

    def test_progress_does_not_go_back_while_the_rows_of_the_api_are_not_there_yet(self, world: World) -> None:
        world.apply(completed("A"))
        assert world.content("A").status is None
        world.apply(completed("B", at=T0 + 1))
        assert world.tables.completed_counts() == {COURSE: 2.0, "do_unit_1": 2.0}
        assert world.enrolment()["progress",] == 2

    def test_progress_does_not_go_back_while_a_row_of_the_api_still_says_in_progress(self, world: World) -> None:
        world.stored(Content("A", status=1))
        world.apply(completed("A"))
        world.apply(completed("B", at=T0 + 1))
        assert world.tables.completed_counts()[COURSE] == 2.0
        assert world.enrolment()["progress",] == 2

    def test_the_last_content_completes_the_course_though_no_row_of_the_api_is_there(self, world: World) -> None:
        sent = [
            message
            for index, content in enumerate("ABCD")
            for message in world.apply(completed(content, at=T0 + index))
        ]
        assert world.enrolment()["status",] == 2
        assert ("issue-certificate", f"b1_{COURSE}") in kinds(sent)

    def test_two_learners_in_one_batch_share_nothing(self, world: World) -> None:
        ravi = EnrolmentKey("ravi", COURSE, "b1")
        world.tables.enrol(ravi)
        world.apply(completed("A", "B"), completed("C", by=ravi), completed("C", at=T0 + 1))
        assert world.tables.completed_counts(ASHA) == {COURSE: 3.0, "do_unit_1": 2.0, "do_unit_2": 1.0}
        assert world.tables.completed_counts(ravi) == {COURSE: 1.0, "do_unit_2": 1.0}
        assert world.counts("C", by=ravi) == (1, 1)
        assert (world.enrolment(ASHA)["progress",], world.enrolment(ravi)["progress",]) == (3, 1)

    def test_one_learner_in_two_batches_of_a_course_is_not_mixed(self, world: World) -> None:
        again = EnrolmentKey("asha", COURSE, "b2")
        world.tables.enrol(again)
        world.apply(completed("A", "B", "C"), completed("D", by=again))
        assert world.tables.completed_counts(ASHA)[COURSE] == 3.0
        assert world.tables.completed_counts(again) == {COURSE: 1.0, "do_unit_2": 1.0}
        assert world.enrolment(ASHA)["status",] == world.enrolment(again)["status",] == 1

    def test_messages_belong_to_the_event_that_caused_them(self, world: World) -> None:
        ravi = EnrolmentKey("ravi", COURSE, "b1")
        decisions = [world.decide(completed("A"), completed("B", at=T0 + 1)), world.decide(completed("C", by=ravi))]
        sent = [[kinds(list(result.messages)) for result in decision.results] for decision in decisions]
        assert sent == [
            [[("start", "A"), ("complete", "A")], [("start", "B"), ("complete", "B")]],
            [[("start", "C"), ("complete", "C")]],
        ]
