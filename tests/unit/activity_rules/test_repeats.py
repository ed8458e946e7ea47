"""Completions that were counted before: replays, duplicates, and what the Scala job has counted."""

import pytest

from jobs.activity_aggregate_updater.events import LearnerEvent
from jobs.activity_aggregate_updater.rules import (
    Content,
    ContentCounts,
    Effect,
    Result,
    Settings,
    may_recount,
)
from tests.support.activity_model import (
    ASHA,
    DAY,
    HOUR,
    SECOND,
    T0,
    completed,
    sync,
)
from tests.support.activity_rules import (
    DUPLICATE,
    REPLAYED,
    WRITTEN,
    World,
    counted,
    counts_of,
    effects,
    kinds,
)


class TestCountedAlready:
    @pytest.mark.parametrize("time_ms", [0, 1, T0])
    def test_a_content_without_a_row_is_new(self, world: World, time_ms: int) -> None:
        decision = world.decide(completed("A", at=time_ms))
        assert effects(decision) == [(WRITTEN,)]
        assert counts_of(decision) == [ContentCounts("A", 1, 1, time_ms * 1000, time_ms * 1000)]

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

    @pytest.mark.parametrize(("time_ms", "mark_us"), [(1_000 * 999_983, 1), (1_000 * 999_983 - 1, 999_983)])
    def test_the_mark_of_an_event_time_never_changes(self, world: World, time_ms: int, mark_us: int) -> None:
        # Rows keep it: a release that makes others takes a replay for a duplicate.
        world.stored(Content("A", 1, 0, 0, self.CLOCK_US, self.CLOCK_US))
        decision = world.decide(completed("A", at=time_ms))
        assert counts_of(decision) == [ContentCounts("A", 1, 1, self.CLOCK_US + 1 + mark_us, self.CLOCK_US + 1)]

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

    def test_also_if_it_comes_again_in_the_same_batch(self, world: World) -> None:
        world.stored(Content("A", 1, 0, 0, self.CLOCK_US, self.CLOCK_US))
        assert effects(world.decide(completed("A"), completed("A"))) == [(WRITTEN,), (REPLAYED,)]

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


class TestRecount:
    """Which of two events of a learner may not be in the batch of the other."""

    @pytest.mark.parametrize(
        ("later", "may_recount_it"),
        [
            (completed("B", "A", at=T0 + 7 * DAY), True),
            (completed("A", at=T0 + 7 * DAY - 1), False),
            (completed("A", at=T0 - 7 * DAY), False),
            (completed("B", at=T0 + 7 * DAY), False),
            (completed("A", at=T0 + 7 * DAY, by=ASHA._replace(batch_id="b2")), False),
            (sync(at=T0 + 7 * DAY), False),
        ],
    )
    def test_is_a_completion_of_the_same_content_seven_days_later(
        self, later: LearnerEvent, may_recount_it: bool
    ) -> None:
        assert may_recount(completed("A", "C"), later, 7 * DAY) is may_recount_it
