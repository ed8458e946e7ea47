"""The enrolment sync: rows follow the stored contents, and no content is completed by it."""

import pytest

from jobs.activity_aggregate_updater.relations import Relations
from jobs.activity_aggregate_updater.rules import Content, Effect, Stored, contents_to_locate, decide
from tests.support.activity_model import ASHA, COURSE, DAY, HOUR, SETTINGS, T0, Tables, completed, sync
from tests.support.activity_rules import World, effects, kinds

FINISHED = [Content(content_id, 2) for content_id in "ABCD"]


class TestProgress:
    def test_of_course_units_and_enrolment_follows_the_contents(self, world: World) -> None:
        world.stored(Content("A", 2), Content("B", 1), Content("C", None, 1, 1, 1, 1), Content("elsewhere", 2))
        assert world.apply(sync()) == []
        assert world.tables.completed_counts() == {COURSE: 2.0, "do_unit_1": 1.0, "do_unit_2": 1.0}
        assert world.enrolment() == {
            ("active",): True,
            ("status",): 1,
            ("progress",): 2,
            ("contentstatus", "A"): 2,
            ("contentstatus", "B"): 1,
            ("contentstatus", "C"): 2,
            ("contentstatus", "elsewhere"): 2,
        }

    def test_all_units_are_written_though_the_job_knows_the_enrolment(self, world: World) -> None:
        world.apply(completed("A"))
        world.stored(Content("B", 2), Content("C", 2))
        world.apply(sync(T0 + 1))
        assert world.tables.completed_counts() == {COURSE: 3.0, "do_unit_1": 2.0, "do_unit_2": 1.0}

    def test_without_units_only_the_course(self, world: World) -> None:
        world.settings = type(SETTINGS)("audit", "certificate", module_aggs=False)
        world.stored(Content("A", 2)).apply(sync())
        assert world.tables.completed_counts() == {COURSE: 1.0}

    def test_it_never_goes_back(self, world: World) -> None:
        world.tables.enrol(ASHA, active=True, status=1, progress=3)
        world.tables.put("enrolments", ASHA, "contentstatus", "A", value=2)
        world.stored(Content("A", 1)).apply(sync())
        assert world.enrolment() == {
            ("active",): True,
            ("status",): 1,
            ("progress",): 3,
            ("contentstatus", "A"): 2,
        }

    def test_after_a_completion_in_the_same_batch_it_is_that_of_the_completion(self, world: World) -> None:
        """As if each event had been a batch of its own."""
        world.tables.enrol(ASHA, active=True, status=1, progress=3)
        world.apply(completed("A"), sync(T0 + 1))
        assert world.enrolment()["progress",] == 1

    @pytest.mark.parametrize(("status", "after"), [(None, 1), (0, 1), (1, 1)])
    def test_the_enrolment_has_begun(self, world: World, status: int | None, after: int) -> None:
        world.tables = Tables()
        world.tables.enrol(ASHA, active=True, **({} if status is None else {"status": status}))
        world.stored(Content("A", 1)).apply(sync())
        assert world.enrolment()["status",] == after
        assert world.enrolment()["progress",] == 0

    def test_counts_and_their_write_times_stay(self, world: World) -> None:
        world.apply(completed("A"))
        before = world.content("A")
        assert kinds(world.apply(sync(T0 + 30 * DAY))) == []
        assert world.content("A") == before


class TestCompletion:
    def test_all_required_contents_complete_the_enrolment_at_the_time_of_the_sync(self) -> None:
        world = World(optional=("D",))
        sent = world.stored(*FINISHED[:3]).apply(sync(T0 + HOUR))
        assert (world.enrolment()["status",], world.enrolment()["completedon",]) == (2, T0 + HOUR)
        assert kinds(sent) == [("enrol-complete", "asha"), ("issue-certificate", f"b1_{COURSE}")]

    def test_a_replay_sends_its_messages_again(self, world: World) -> None:
        first = world.stored(*FINISHED).apply(sync())
        before = world.tables.rows()
        assert world.apply(sync()) == first
        assert world.tables.rows() == before

    def test_a_later_sync_sends_nothing_and_keeps_the_date(self, world: World) -> None:
        world.stored(*FINISHED).apply(sync())
        before = world.enrolment()
        assert world.apply(sync(T0 + 1)) == []
        assert world.enrolment() == before

    def test_an_enrolment_that_is_completed_stays_as_it_is(self, world: World) -> None:
        world.tables.enrol(ASHA, active=True, status=2, completedon=T0 - DAY)
        before = world.enrolment()
        assert world.stored(Content("A", 2)).apply(sync()) == []
        assert world.enrolment() == before
        assert world.tables.completed_counts() == {COURSE: 1.0, "do_unit_1": 1.0}


class TestNothing:
    def test_happens_without_stored_contents(self, world: World) -> None:
        before = world.tables.rows()
        decision = world.decide(sync())
        assert (decision.aggregates, decision.learner) == ((), ())
        assert effects(decision) == [(Effect.SYNCED,)]
        assert decision.results[0].effect is Effect.SYNCED
        assert world.apply(sync()) == []
        assert world.tables.rows() == before

    @pytest.mark.parametrize("row", [{}, {"lastreadcontentid": "A"}], ids=["no row", "a row that nobody made"])
    def test_is_written_to_an_enrolment_that_does_not_exist(self, world: World, row: dict[str, str]) -> None:
        world.tables = Tables()
        if row:
            world.tables.enrol(ASHA, **row)
        before = world.enrolment()
        assert world.stored(*FINISHED).apply(sync()) == []
        assert world.enrolment() == before
        assert world.tables.completed_counts()[COURSE] == 4.0


def test_the_units_of_all_stored_contents_are_looked_up() -> None:
    stored = Stored([Content("A", 2)], None, is_known=True)
    assert contents_to_locate(stored, [sync()], SETTINGS) == {"A"}
    assert contents_to_locate(stored, [completed("B")], SETTINGS) == {"B"}
    decision = decide(ASHA, [sync()], stored, Relations(frozenset("A"), {"A": {COURSE}}), SETTINGS)
    assert decision.learner == ()
