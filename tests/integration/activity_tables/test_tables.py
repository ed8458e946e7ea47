"""What the activity job changes in the tables, and that it is what the model says however often it is killed."""

import time
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain

from cassandra.cluster import Session
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import Content
from tests.support.activity_learner import Learner
from tests.support.activity_model import (
    DAY,
    HOUR,
    LEARNERS,
    T0,
    Killed,
    RelationCache,
    Tables,
    Updater,
    completed,
)
from tests.support.activity_servers import SETTINGS, Ids, Running, Servers
from tests.support.activity_strategies import courses, events, old_tables


def sizes() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, 6), max_size=4)


# Without shrinking, which takes minutes here, and the examples are small.
@settings(max_examples=15, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    course=courses(),
    tables=old_tables(LEARNERS),
    arrived=st.lists(st.sampled_from(LEARNERS).flatmap(lambda by: events(7 * DAY - 1, by=by)), min_size=1, max_size=8),
    killed=st.lists(st.tuples(st.integers(0, 12), sizes(), st.booleans()), max_size=2),
    last_sizes=sizes(),
)
async def test_killed_or_not_it_leaves_behind_what_the_model_does(
    servers: Servers,
    course: RelationCache,
    tables: Tables,
    arrived: list[ContentsCompleted],
    killed: list[tuple[int, list[int], bool]],
    last_sizes: list[int],
) -> None:
    """The model, a few dicts, is what the rules are tested on, without and with kills between any two effects."""
    ids = Ids()
    course, tables, arrived = ids.course(course), ids.tables(tables), [ids.event(event) for event in arrived]
    servers.publish(course)
    servers.put(tables)
    expected = Updater(tables, course, SETTINGS).run(arrived)

    for writes, sizes, survives in killed:
        async with Running(servers.config(), writes_left=writes) as process:
            with suppress(Killed):
                await process.run(arrived, sizes)
            if survives:
                process.survive()
                await process.run(arrived, sizes)
    async with Running(servers.config()) as process:
        sent = await process.run(arrived, last_sizes)
    if killed:
        # Of two events of one time the earlier may, after a kill, repeat the completion that the later one sent.
        assert set(chain(*sent)) == set(chain.from_iterable(result.messages for result in expected))
    else:
        assert sent == [list(result.messages) for result in expected]
    assert servers.rows(map(ids.enrolment, LEARNERS), course) == tables.rows()


class TestTables:
    async def test_entries_are_added_and_columns_of_others_are_left_alone(
        self, servers: Servers, learner: Learner, cassandra_session: Session
    ) -> None:
        cassandra_session.execute(
            "UPDATE user_activity_agg SET agg = {'completedCount': 3}, aggregates = {'score:A': 7.5}, "
            "agg_last_updated = {'score:A': 1}, agg_details = ['{}'] "
            "WHERE activity_type = 'Course' AND activity_id = %s AND user_id = %s AND context_id = %s",
            [learner.course_id, learner.enrolment.user_id, f"cb:{learner.enrolment.batch_id}"],
        )
        before = time.time()

        async with Running(servers.config()) as process:
            await process.apply(learner.completed("A", "C"))
        row = servers.aggregates_row(learner.enrolment, learner.course_id)
        assert (dict(row.agg), row.agg_details) == ({"completedCount": 3}, ["{}"])
        assert dict(row.aggregates) == {"completedCount": 2.0, "score:A": 7.5}
        unit = servers.aggregates_row(learner.enrolment, learner.unit_1)
        assert (unit.agg, dict(unit.aggregates)) == (None, {"completedCount": 1.0})
        enrolment = servers.enrolment(learner.enrolment)
        for moment in (
            row.agg_last_updated["completedCount"],
            unit.agg_last_updated["completedCount"],
            enrolment.datetime,
        ):
            assert int(before * 1000) / 1000 <= _timestamp(moment) <= time.time()
        assert _timestamp(row.agg_last_updated["score:A"]) == 0.001

    async def test_a_content_that_is_completed_again_much_later_adds_nothing_to_the_status_of_contents(
        self, servers: Servers, learner: Learner
    ) -> None:
        async with Running(servers.config()) as process:
            await process.apply(learner.completed("A"))
            await process.apply(learner.completed("A", at=T0 + 7 * DAY))
        rows = servers.rows([learner.enrolment], learner.course)
        later_us = (T0 + 7 * DAY) * 1000
        assert rows["consumption", learner.enrolment, "A", "completedcount"] == (2, later_us)
        assert rows["enrolments", learner.enrolment, "contentstatus", "A"] == 2
        assert rows["enrolments", learner.enrolment, "progress"] == 1

    async def test_the_time_after_which_it_counts_again_is_a_setting(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config(DEDUPLICATION_SECONDS="3600")) as process:
            await process.apply(learner.completed("A"), learner.completed("A", at=T0 + HOUR))
        rows = servers.rows([learner.enrolment], learner.course)
        assert rows["consumption", learner.enrolment, "A", "viewcount"] == (2, (T0 + HOUR) * 1000)

    async def test_units_can_be_switched_off(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config(MODULE_AGGS="false")) as process:
            await process.apply(learner.completed("A"))
        assert learner.completed_count(learner.course_id) == 1.0
        assert learner.completed_count(learner.unit_1) is None


def _timestamp(moment: datetime) -> float:
    """The driver's datetimes are in UTC, and naive."""
    return moment.replace(tzinfo=UTC).timestamp()


class TestSeveralInOneBatch:
    async def test_learners_and_batches_of_a_course_share_nothing(self, servers: Servers) -> None:
        ids = Ids()
        course = ids.course(RelationCache({"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}))
        servers.publish(course)
        asha, ravi, again = map(ids.enrolment, LEARNERS)
        tables = Tables()
        for enrolment in (asha, ravi, again):
            tables.enrol(enrolment)
        servers.put(tables)

        async with Running(servers.config()) as process:
            sent = await process.run(
                [
                    completed("A", "B", by=asha),
                    completed("A", "C", by=ravi),
                    completed("D", by=again),
                    completed("C", at=T0 + 1, by=asha),
                ],
                [4],
            )
            assert [len(messages) for messages in sent] == [4, 4, 2, 2]

        def counts(enrolment: EnrolmentKey) -> list[float | None]:
            activities = (course.course_id, *course.units)
            return [servers.aggregates(enrolment, activity).get("completedCount") for activity in activities]

        assert [counts(enrolment) for enrolment in (asha, ravi, again)] == [[3, 2, 1], [2, 1, 1], [1, None, 1]]
        assert [servers.enrolment(enrolment).progress for enrolment in (asha, ravi, again)] == [3, 2, 1]
        assert [set(servers.enrolment(enrolment).contentstatus) for enrolment in (asha, ravi, again)] == [
            {"A", "B", "C"},
            {"A", "C"},
            {"D"},
        ]


async def test_rows_of_the_scala_job_that_were_written_later_are_not_shadowed(
    servers: Servers, learner: Learner
) -> None:
    clock_us = (T0 + HOUR) * 1000 + 321
    tables = Tables()
    tables.put_content(learner.enrolment, Content("A", 1, 1, 0, clock_us, clock_us))
    servers.put(tables)
    sent: list[list[Message]] = []

    async with Running(servers.config()) as process:
        sent.extend(await process.run([learner.completed("A")] * 2))
    rows = servers.rows([learner.enrolment], learner.course)
    assert rows["consumption", learner.enrolment, "A", "completedcount"] == (1, clock_us + 1)
    assert rows["consumption", learner.enrolment, "A", "viewcount"][0] == 2
    assert rows["consumption", learner.enrolment, "A", "viewcount"][1] > clock_us + 1
    assert len(sent[0]) == 1
    assert sent[1] == sent[0]
