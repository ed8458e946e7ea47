"""What a learner's completions change, rule by rule, and what users of the Scala job lose that is not lost here."""

import json
from typing import Any

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from common.domain.relations import leaf_nodes_key
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import (
    CompletedCount,
    Content,
    ContentCounts,
    Decision,
    Effect,
    EnrolmentChange,
    Result,
    Settings,
    Stored,
    contents_to_locate,
    decide,
)
from tests.support.activity_model import (
    ASHA,
    COURSE,
    DAY,
    HOUR,
    SECOND,
    SETTINGS,
    T0,
    RelationCache,
    Tables,
    Updater,
    completed,
)

UNITS = {"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}
WRITTEN, REPLAYED, DUPLICATE = Effect.WRITTEN, Effect.REPLAYED, Effect.DUPLICATE


class World:
    """A course of two units of two contents each, and a learner who is enrolled."""

    def __init__(self, units: dict[str, list[str]] | None = None, optional: tuple[str, ...] = ()) -> None:
        self.cache = RelationCache(units or UNITS, optional)
        self.tables = Tables()
        self.tables.enrol(ASHA)
        self.settings = SETTINGS

    def stored(self, *contents: Content, by: EnrolmentKey = ASHA) -> "World":
        for content in contents:
            self.tables.put_content(by, content)
        return self

    def decide(self, *events: ContentsCompleted) -> Decision:
        stored = self.tables.stored(events[0].enrolment)
        relations = self.cache.relations(contents_to_locate(stored, events, self.settings))
        return decide(events[0].enrolment, events, stored, relations, self.settings)

    def apply(self, *events: ContentsCompleted) -> list[Message]:
        """Applies the events as one batch and returns what was sent."""
        updater = Updater(self.tables, self.cache, self.settings)
        updater.run(events, [len(events)])
        return updater.sent

    def content(self, content_id: str, by: EnrolmentKey = ASHA) -> Content:
        return self.tables.content(by, content_id)

    def counts(self, content_id: str, by: EnrolmentKey = ASHA) -> tuple[int | None, int | None]:
        content = self.content(content_id, by)
        return content.view_count, content.completed_count

    def enrolment(self, by: EnrolmentKey = ASHA) -> dict[Any, Any]:
        return {cell[2:]: value for cell, (_, value) in self.tables.cells.items() if cell[:2] == ("enrolments", by)}


@pytest.fixture
def world() -> World:
    return World()


def counted(content_id: str, at_us: int, times: int = 1) -> Content:
    """A row whose completions were counted, the last one at this time."""
    return Content(content_id, 2, times, times, at_us, at_us)


def counts_of(decision: Decision) -> list[ContentCounts]:
    return [write for write in decision.learner if isinstance(write, ContentCounts)]


def change_of(decision: Decision) -> EnrolmentChange:
    (change,) = [write for write in decision.learner if isinstance(write, EnrolmentChange)]
    return change


def effects(decision: Decision) -> list[tuple[Effect, ...]]:
    return [result.effects for result in decision.results]


def kinds(sent: list[Message]) -> list[tuple[str, str]]:
    """Action and object of each message."""
    parsed = [json.loads(message.value) for message in sent]
    return [(event["edata"].get("type") or event["edata"]["action"], event["object"]["id"]) for event in parsed]


class TestWhatIsLostToday:
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


class TestCountedAlready:
    def test_a_content_without_a_row_is_new(self, world: World) -> None:
        decision = world.decide(completed("A"))
        assert effects(decision) == [(WRITTEN,)]
        assert counts_of(decision) == [ContentCounts("A", 1, 1, T0 * 1000, T0 * 1000)]

    @pytest.mark.parametrize("count", [None, 0])
    def test_a_completed_count_of_null_or_0_is_new(self, world: World, count: int | None) -> None:
        world.stored(Content("A", 2, view_count=3, completed_count=count, view_time_us=1, completed_time_us=count))
        world.apply(completed("A"))
        assert world.counts("A") == (4, 1)

    def test_the_same_event_again_is_a_replay(self, world: World) -> None:
        first = world.apply(completed("A", "B"))
        rows = world.tables.rows()
        decision = world.decide(completed("A", "B"))
        assert effects(decision) == [(REPLAYED, REPLAYED)]
        assert (decision.aggregates, decision.learner) == ((), ())
        assert world.apply(completed("A", "B")) == first
        assert world.tables.rows() == rows

    def test_the_same_event_twice_in_a_batch_counts_once(self, world: World) -> None:
        decision = world.decide(completed("A"), completed("A"))
        assert effects(decision) == [(WRITTEN,), (REPLAYED,)]
        assert decision.results[0].messages == decision.results[1].messages
        assert counts_of(decision) == [ContentCounts("A", 1, 1, T0 * 1000, T0 * 1000)]

    @pytest.mark.parametrize("later_ms", [1, HOUR, 7 * DAY - 1])
    def test_within_seven_days_it_is_a_duplicate(self, world: World, later_ms: int) -> None:
        world.apply(completed("A"))
        decision = world.decide(completed("A", at=T0 + later_ms))
        assert effects(decision) == [(DUPLICATE,)]
        assert (decision.aggregates, decision.learner) == ((), ())
        assert decision.results[0].messages == ()

    @pytest.mark.parametrize("earlier_ms", [1, HOUR, 7 * DAY, 30 * DAY])
    def test_what_is_late_is_a_duplicate_however_late(self, world: World, earlier_ms: int) -> None:
        world.apply(completed("A"))
        assert effects(world.decide(completed("A", at=T0 - earlier_ms))) == [(DUPLICATE,)]

    def test_after_seven_days_it_counts_again_without_a_message(self, world: World) -> None:
        world.apply(completed("A"))
        assert world.apply(completed("A", at=T0 + 7 * DAY)) == []
        assert world.content("A") == Content("A", None, 2, 2, (T0 + 7 * DAY) * 1000, (T0 + 7 * DAY) * 1000)

    def test_the_seven_days_start_at_what_was_counted_last(self, world: World) -> None:
        times = (0, 4 * DAY, 8 * DAY, 12 * DAY, 15 * DAY)
        decision = world.decide(*(completed("A", at=T0 + time) for time in times))
        assert effects(decision) == [(WRITTEN,), (DUPLICATE,), (WRITTEN,), (DUPLICATE,), (WRITTEN,)]
        assert counts_of(decision) == [ContentCounts("A", 3, 3, (T0 + 15 * DAY) * 1000, (T0 + 15 * DAY) * 1000)]

    def test_the_time_is_a_setting(self, world: World) -> None:
        world.settings = Settings("audit", "certificate", recount_after_ms=SECOND)
        decision = world.decide(completed("A"), completed("A", at=T0 + SECOND - 1), completed("A", at=T0 + SECOND))
        assert effects(decision) == [(WRITTEN,), (DUPLICATE,), (WRITTEN,)]

    def test_even_with_a_setting_of_0_a_replay_is_no_second_completion(self, world: World) -> None:
        world.settings = Settings("audit", "certificate", recount_after_ms=0)
        assert effects(world.decide(completed("A"), completed("A"), completed("A", at=T0 + 1))) == [
            (WRITTEN,),
            (REPLAYED,),
            (WRITTEN,),
        ]

    def test_what_the_scala_job_has_counted_is_not_counted_again(self, world: World) -> None:
        # It wrote at clock time, some while after the event.
        world.stored(counted("A", at_us=T0 * 1000 + 1_234_567))
        decision = world.decide(completed("A"))
        assert effects(decision) == [(DUPLICATE,)]
        assert decision.results[0].messages == ()

    def test_an_event_with_new_and_old_contents_counts_the_new_ones(self, world: World) -> None:
        world.stored(counted("A", at_us=T0 * 1000), counted("B", at_us=(T0 - HOUR) * 1000))
        decision = world.decide(completed("A", "B", "C"))
        assert effects(decision) == [(REPLAYED, DUPLICATE, WRITTEN)]
        assert [write.content_id for write in counts_of(decision)] == ["C"]

    @pytest.mark.parametrize(
        ("of_contents", "of_event"),
        [
            ((DUPLICATE, REPLAYED, WRITTEN), WRITTEN),
            ((DUPLICATE, REPLAYED, DUPLICATE), REPLAYED),
            ((DUPLICATE, DUPLICATE), DUPLICATE),
        ],
    )
    def test_an_event_comes_to_the_most_that_one_of_its_contents_comes_to(
        self, of_contents: tuple[Effect, ...], of_event: Effect
    ) -> None:
        assert Result(of_contents, ()).effect is of_event


class TestRowsOfTheScalaJobThatWereWrittenLater:
    """Their counts have clock times as write times: a write at the time of an event from before would not be seen."""

    CLOCK_US = (T0 + HOUR) * 1000 + 321

    @pytest.mark.parametrize("view_count", [0, 1])
    def test_the_counts_are_written_behind_it(self, world: World, view_count: int) -> None:
        world.stored(Content("A", 1, view_count, 0, self.CLOCK_US, self.CLOCK_US))
        world.apply(completed("A"))
        content = world.content("A")
        assert (content.view_count, content.completed_count) == (view_count + 1, 1)
        assert content.completed_time_us == self.CLOCK_US + 1
        assert content.view_time_us is not None
        assert 0 < content.view_time_us - self.CLOCK_US - 1 < 1_000_000

    def test_also_where_only_the_view_count_is_there(self, world: World) -> None:
        world.stored(Content("A", 1, 1, None, self.CLOCK_US, None))
        world.apply(completed("A"))
        assert world.counts("A") == (2, 1)
        assert world.content("A").completed_time_us == self.CLOCK_US + 1

    def test_the_event_is_known_if_it_comes_again(self, world: World) -> None:
        world.stored(Content("A", 1, 0, 0, self.CLOCK_US, self.CLOCK_US))
        first = world.apply(completed("A"))
        assert kinds(first) == [("start", "A"), ("complete", "A")]
        assert effects(world.decide(completed("A"))) == [(REPLAYED,)]
        assert world.apply(completed("A")) == first
        assert world.counts("A") == (1, 1)

    @pytest.mark.parametrize("other_ms", [-5 * DAY, -1_000 * SECOND, -1, 1, HOUR, HOUR + 1, 6 * DAY])
    def test_another_event_is_not_taken_for_it(self, world: World, other_ms: int) -> None:
        world.stored(Content("A", 1, 0, 0, self.CLOCK_US, self.CLOCK_US))
        world.apply(completed("A"))
        assert effects(world.decide(completed("A", at=T0 + other_ms))) == [(DUPLICATE,)]

    def test_the_next_completion_is_written_at_its_event_time_again(self, world: World) -> None:
        world.stored(Content("A", 1, 0, 0, self.CLOCK_US, self.CLOCK_US))
        world.apply(completed("A"))
        later = T0 + HOUR + 7 * DAY + 1
        world.apply(completed("A", at=later))
        assert world.content("A") == Content("A", 1, 2, 2, later * 1000, later * 1000)


class TestStatus:
    @pytest.mark.parametrize(
        ("row", "done"),
        [
            (Content("B", 2), 2.0),
            (Content("B", 2, 1, 1, 1, 1), 2.0),
            (Content("B", None, 1, 1, 1, 1), 2.0),
            (Content("B", 1, 1, 1, 1, 1), 2.0),
            (Content("B", 1), 1.0),
            (Content("B", 0), 1.0),
            (Content("B", 1, 1, 0, 1, 1), 1.0),
            (Content("B", None, 1, None, 1, None), 1.0),
            (Content("B", None, 1, 0, 1, 1), 1.0),
        ],
    )
    def test_a_content_is_completed_by_its_status_or_by_its_count(
        self, world: World, row: Content, done: float
    ) -> None:
        world.stored(row).apply(completed("A"))
        assert world.tables.completed_counts()[COURSE] == done

    def test_a_status_above_2_is_kept(self, world: World) -> None:
        world.stored(Content("A", 3)).apply(completed("A"))
        assert world.enrolment()["contentstatus", "A"] == 3
        assert world.enrolment()["progress",] == 1


class TestCourseAndUnits:
    def test_counts_are_doubles_of_required_leaf_nodes(self, world: World) -> None:
        decision = world.decide(completed("A"))
        values = [write.value for stage in decision.aggregates for write in stage]
        assert values == [1.0, 1.0]
        assert all(type(value) is float for value in values)

    def test_optional_and_foreign_contents_do_not_count(self) -> None:
        world = World(optional=("B",))
        world.apply(completed("A", "B", "elsewhere"))
        assert world.tables.completed_counts() == {COURSE: 1.0, "do_unit_1": 1.0}
        assert world.counts("B") == world.counts("elsewhere") == (1, 1)

    def test_a_content_in_two_units_counts_in_both(self) -> None:
        world = World({"do_unit_1": ["A", "B"], "do_unit_2": ["B", "C"], "do_part": ["A", "B", "C"]})
        world.apply(completed("B"))
        assert world.tables.completed_counts() == {COURSE: 1.0, "do_unit_1": 1.0, "do_unit_2": 1.0, "do_part": 1.0}

    def test_at_first_sight_all_units_of_the_learners_contents_are_written(self, world: World) -> None:
        world.stored(Content("A", 2), Content("B", 1))
        world.apply(completed("C"))
        assert world.tables.completed_counts() == {COURSE: 2.0, "do_unit_1": 1.0, "do_unit_2": 1.0}

    def test_later_those_that_a_new_completion_changes(self, world: World) -> None:
        world.apply(completed("A"))
        world.stored(Content("B", 2))
        assert world.decide(completed("C", at=T0 + 1)).aggregates == (
            (CompletedCount("do_unit_2", 1.0), CompletedCount(COURSE, 3.0)),
        )

    def test_a_new_completion_changes_its_unit_though_the_api_has_written_its_row_by_now(self, world: World) -> None:
        world.apply(completed("A"))
        world.stored(Content("B", 2))
        world.apply(completed("B", at=T0 + 1))
        assert world.tables.completed_counts()["do_unit_1"] == 2.0

    def test_a_learners_first_count_of_the_course_comes_after_those_of_the_units(self, world: World) -> None:
        """Killed in between, the next try must still see that the other units have to be written."""
        world.stored(Content("A", 2))
        units, course = world.decide(completed("C")).aggregates
        assert [write.activity_id for write in units] == ["do_unit_1", "do_unit_2"]
        assert course == (CompletedCount(COURSE, 2.0),)

    def test_counts_of_contents_are_written_last(self, world: World) -> None:
        world.apply(completed("A"))
        learner = world.decide(completed("B", "C", at=T0 + 1)).learner
        assert [type(write) for write in learner] == [EnrolmentChange, ContentCounts, ContentCounts]

    def test_units_can_be_switched_off(self, world: World) -> None:
        world.settings = Settings("audit", "certificate", module_aggs=False)
        world.stored(Content("C", 2)).apply(completed("A"))
        assert world.tables.completed_counts() == {COURSE: 2.0}
        assert contents_to_locate(Stored([], None, False), [completed("A")], world.settings) == set()

    def test_a_unit_without_leaf_nodes_in_the_cache_keeps_what_it_has(self, world: World) -> None:
        del world.cache.sets[leaf_nodes_key(COURSE, "do_unit_1")]
        world.apply(completed("A", "C"))
        assert world.tables.completed_counts() == {COURSE: 2.0, "do_unit_2": 1.0}

    def test_a_count_follows_the_course_when_that_changes(self, world: World) -> None:
        world.apply(completed("A", "B"))
        world.cache = RelationCache({"do_unit_1": ["A"], "do_unit_2": ["C", "D"]})
        world.apply(completed("C", at=T0 + 1))
        assert world.tables.completed_counts()[COURSE] == 2.0


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


class TestMessages:
    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            (Content("A", 2), ["start", "complete"]),
            (Content("A", 2, 0, 0, 1, 1), ["start", "complete"]),
            (Content("A", 2, 1, 0, 1, 1), ["complete"]),
            (Content("A", 2, 0, 1, 1, 1), ["start"]),
            (Content("A", 2, 1, 1, 1, 1), []),
        ],
    )
    def test_the_first_view_and_the_first_completion_are_audited_and_again_on_a_replay(
        self, world: World, row: Content, expected: list[str]
    ) -> None:
        world.stored(row)
        first = world.apply(completed("A"))
        assert [kind for kind, _ in kinds(first)] == expected
        assert world.apply(completed("A")) == first

    def test_audit_of_a_content(self, world: World) -> None:
        start, complete = world.apply(completed("A"))
        assert start.topic == complete.topic == "audit"
        assert start.key is None
        event = json.loads(complete.value)
        assert event["mid"].startswith("LP.AUDIT.")
        assert event["ets"] == event["syncts"] == T0
        assert event["actor"] == {"id": "asha", "type": "User"}
        assert event["context"]["cdata"] == [{"type": "CourseBatch", "id": "b1"}]
        assert event["object"] == {"id": "A", "type": "Content", "rollup": {"l1": COURSE}}
        assert event["edata"] == {"props": ["viewcount", "completedcount"], "type": "complete"}
        assert json.loads(start.value)["edata"] == {"props": ["viewcount"], "type": "start"}

    def test_audit_of_an_enrolment(self, world: World) -> None:
        audit = json.loads(world.apply(completed("A", "B", "C", "D"))[-2].value)
        assert audit["edata"] == {"props": ["status", "completedon"], "type": "enrol-complete"}
        assert audit["context"]["cdata"] == [{"type": "CourseBatch", "id": "b1"}, {"type": "Course", "id": COURSE}]
        assert audit["object"] == {"id": "asha", "type": "User", "rollup": {"l1": COURSE}}
        assert audit["ets"] == T0

    def test_certificate_request(self, world: World) -> None:
        message = world.apply(completed("A", "B", "C", "D"))[-1]
        request = json.loads(message.value)
        assert message.topic == "certificate"
        assert request["ets"] == T0
        assert request["mid"].startswith(f"LP.{T0}.")
        assert request["edata"] == {
            "userIds": ["asha"],
            "action": "issue-certificate",
            "iteration": 1,
            "trigger": "auto-issue",
            "batchId": "b1",
            "courseId": COURSE,
            "reIssue": False,
        }

    def test_ids_differ_between_learners_batches_contents_actions_and_times(self) -> None:
        events = [
            completed("A", "B"),
            completed("A", "B", at=T0 + 1),
            completed("A", "B", by=EnrolmentKey("ravi", COURSE, "b1")),
            completed("A", "B", by=EnrolmentKey("asha", COURSE, "b2")),
        ]
        sent = []
        for event in events:
            world = World({"do_unit_1": ["A", "B"]})
            world.tables.enrol(event.enrolment)
            sent += world.apply(event)
        ids = [json.loads(message.value)["mid"] for message in sent]
        assert len(ids) == len(set(ids)) == 4 * 6
