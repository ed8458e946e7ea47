"""When a content is completed, and the completed counts of courses and units."""

import pytest

from common.domain.relations import leaf_nodes_key
from jobs.activity_aggregate_updater.progress import EnrolmentChange
from jobs.activity_aggregate_updater.rules import (
    CompletedCount,
    Content,
    ContentCounts,
    Settings,
    Stored,
    contents_to_locate,
)
from tests.support.activity_model import (
    COURSE,
    T0,
    RelationCache,
    completed,
    sync,
)
from tests.support.activity_rules import (
    World,
)


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

    def test_a_unit_without_leaf_nodes_is_named_when_its_count_was_due_and_a_sync_writes_it(self, world: World) -> None:
        leaf_nodes = world.cache.sets.pop(leaf_nodes_key(COURSE, "do_unit_1"))
        world.stored(Content("A", 2))
        assert world.decide(completed("C")).uncounted_units == ("do_unit_1",)
        world.apply(completed("C"))
        # That of another unit is due, and nothing at all for a duplicate.
        assert world.decide(completed("D", at=T0 + 1)).uncounted_units == ()
        assert world.decide(completed("C", at=T0 + 1)).uncounted_units == ()
        assert world.decide(sync(at=T0 + 1)).uncounted_units == ("do_unit_1",)
        world.cache.sets[leaf_nodes_key(COURSE, "do_unit_1")] = leaf_nodes
        world.apply(sync(at=T0 + 1))
        assert world.tables.completed_counts()["do_unit_1"] == 1.0

    def test_a_count_follows_the_course_when_that_changes(self, world: World) -> None:
        world.apply(completed("A", "B"))
        world.cache = RelationCache({"do_unit_1": ["A"], "do_unit_2": ["C", "D"]})
        world.apply(completed("C", at=T0 + 1))
        assert world.tables.completed_counts()[COURSE] == 2.0
