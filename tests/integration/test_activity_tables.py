"""The activity aggregate updater with real tables, a real Redis and a real HTTP service: what it reads and writes."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

import pytest
from cassandra.cluster import Session
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.domain.relations import ancestors_key, leaf_nodes_key
from jobs.activity_aggregate_updater import store
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import Content, Settings
from local.config import load_config
from local.http_services import SEARCH, HttpServices, Switch
from local.servers import Redis
from local.world import World
from tests.support.activity_model import (
    ASHA,
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
from tests.support.activity_servers import Ids, Running, Servers, refusal
from tests.support.activity_strategies import courses, events, old_tables

SETTINGS = Settings(audit_topic="dev.telemetry.raw", certificate_topic="dev.issue.certificate.request")


@pytest.fixture(scope="module")
def servers(world: World, cassandra_session: Session) -> Servers:
    return Servers(world, cassandra_session)


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


@pytest.fixture
def learner(servers: Servers) -> Learner:
    return Learner(servers)


def sizes() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(1, 6), max_size=4)


# Without shrinking, which takes minutes here, and the examples are small.
@settings(max_examples=30, phases=(Phase.explicit, Phase.reuse, Phase.generate))
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


class TestRequests:
    """To Cassandra, which is what the job's speed depends on."""

    async def test_of_an_event(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config()) as process:
            before = process.requests

            async def requests_of(*events: ContentsCompleted) -> int:
                started = process.requests
                await process.apply(*events)
                return process.requests - started

            # Contents, enrolment, course; two units, course, and the learner's rows in one batch.
            assert await requests_of(learner.completed("A", "C")) == 3 + 4
            # The enrolment is known now.
            assert await requests_of(learner.completed("B", at=T0 + 1)) == 2 + 3
            assert await requests_of(learner.completed("A", at=T0 + 2), learner.completed("B", at=T0 + 2)) == 2
            assert process.requests - before == 7 + 5 + 2
            assert process.count("cache_hits", "known_enrolments") == 2
            assert process.counts["rows_written"] == 6 + 4

    async def test_of_many_events_of_an_enrolment_are_those_of_one(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config()) as process:
            before = process.requests
            await process.apply(*(learner.completed(content, at=T0 + n) for n, content in enumerate("ABCDE" * 4)))
            assert process.requests - before == 3 + 4

    async def test_what_became_of_events_is_counted(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config()) as process:
            first = learner.completed("A", "B")
            await process.apply(first, first, learner.completed("A", "B", at=T0 + 1))
            await process.apply(learner.completed("A", "C", at=T0 + 2))
            for effect, count in (("written", 2), ("replayed", 1), ("duplicate", 1)):
                assert process.count("events_applied", effect) == count
            assert process.counts["duplicates"] == 3


class TestManyContents:
    async def test_need_few_requests(self, servers: Servers, learner: Learner) -> None:
        contents = [f"do_3128870328040161281{number:04d}" for number in range(2_500)]
        course = RelationCache({learner.unit_1: contents}, course_id=learner.course_id)
        servers.publish(course)

        async with Running(servers.config()) as process:
            before = process.requests
            messages = (await process.run([learner.completed(*contents)]))[0]
            assert len(messages) == 2 * len(contents) + 2
            # The learner's rows in batches of 1,000.
            assert process.requests - before == 3 + 2 + 3
        rows = servers.rows([learner.enrolment], course)
        assert len([key for key in rows if key[-1] == "completedcount"]) == len(contents)
        assert rows["enrolments", learner.enrolment, "progress"] == len(contents)

    async def test_killed_between_two_batches_it_is_completed_by_the_event_that_completed_it(
        self, servers: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The only content that the course needs is in the first batch, or in the last one."""
        monkeypatch.setattr(store, "MAX_BATCH_STATEMENTS", 3)
        course = RelationCache({"do_unit_1": ["A"]})
        arrived = [completed("A", at=T0), completed(*"BCDEFGHI", at=T0 + 1)]
        for order in (arrived, arrived[::-1]):
            writes = 0
            is_killed = True
            while is_killed:
                is_killed = await self._is_killed(servers, course, order, writes)
                writes += 1
            assert writes > 5

    @staticmethod
    async def _is_killed(
        servers: Servers, course: RelationCache, arrived: list[ContentsCompleted], writes: int
    ) -> bool:
        ids = Ids()
        course, arrived = ids.course(course), [ids.event(event) for event in arrived]
        learner = ids.enrolment(ASHA)
        tables = Tables()
        tables.enrol(learner)
        servers.publish(course)
        servers.put(tables)
        expected = Updater(tables, course, SETTINGS).run(arrived, [2])
        killed = False
        async with Running(servers.config(), writes_left=writes) as process:
            try:
                await process.apply(*arrived)
            except Killed:
                killed = True
        async with Running(servers.config()) as process:
            assert await process.run(arrived, [2]) == [list(result.messages) for result in expected]
        assert servers.rows([learner], course) == tables.rows()
        return killed


class TestRelations:
    async def test_a_content_that_the_cache_does_not_know_has_it_looked_up_anew(
        self, servers: Servers, learner: Learner
    ) -> None:
        """Or the progress of all who finish what was published just now would be wrong for minutes, or for ever."""
        published = RelationCache(
            {learner.unit_1: ["A", "B", "new"], learner.unit_2: ["C"]}, course_id=learner.course_id
        )

        async with Running(servers.config(RELATION_CACHE__EMPTY_TTL_MS="1")) as process:
            await process.apply(learner.completed("A", "C"))
            servers.publish(published)
            await process.apply(learner.completed("new", at=T0 + 1))
        assert learner.completed_count(learner.course_id) == 3.0
        assert learner.completed_count(learner.unit_1) == 2.0

    async def test_a_set_that_is_none_takes_only_its_own_events_along(self, servers: Servers, learner: Learner) -> None:
        broken_course, broken_unit, broken_content = (Learner(servers) for _ in range(3))
        broken = [
            leaf_nodes_key(broken_course.course_id, broken_course.course_id),
            leaf_nodes_key(broken_unit.course_id, broken_unit.unit_1),
            ancestors_key(broken_content.course_id, "A"),
        ]
        with servers.relations() as client:
            for key in broken:
                client.delete(key)
                client.set(key, "no set")

        async with Running(servers.config()) as process:
            *failed, applied = await process.apply(
                *(each.completed("A") for each in (broken_course, broken_unit, broken_content, learner))
            )
            for key, outcome in zip(broken, failed, strict=True):
                refused = refusal(outcome)
                assert refused.kind == "bad_cache_value"
                assert key in refused.reason
            assert len(applied) == 2
        assert servers.rows([broken_unit.enrolment], broken_unit.course).keys() == {
            ("enrolments", broken_unit.enrolment, "active"),
            ("enrolments", broken_unit.enrolment, "status"),
        }

    async def test_while_redis_is_down_courses_in_memory_go_on_and_others_wait(
        self, servers: Servers, learner: Learner, world: World, cassandra_session: Session, tmp_path: Path
    ) -> None:
        other = Learner(servers)
        redis = Redis(load_config({}).isolated(tmp_path))
        redis.start()
        try:
            own = Servers(world, cassandra_session, redis)
            own.publish(learner.course)
            own.publish(other.course)

            async with Running(own.config()) as process:
                await process.apply(learner.completed("A", "B"))
                redis.kill()
                await process.apply(learner.completed("A", "B", at=T0 + 1), learner.completed("B", at=T0 + 7 * DAY))
                with pytest.raises(WorldFault, match="Redis"):
                    await process.apply(other.completed("A"))
                assert other.completed_count(other.course_id) is None
                redis.start()
                await process.apply(other.completed("A"))
        finally:
            redis.stop()
        assert other.completed_count(other.course_id) == 1.0
        assert servers.rows([learner.enrolment], learner.course)[
            "consumption", learner.enrolment, "B", "viewcount"
        ] == (2, (T0 + 7 * DAY) * 1000)


class TestCourseWithoutLeafNodes:
    @pytest.fixture
    def services(self) -> Iterator[HttpServices]:
        with HttpServices() as services:
            yield services

    @pytest.fixture
    def unpublished(self, learner: Learner, servers: Servers) -> Learner:
        with servers.relations() as client:
            client.delete(leaf_nodes_key(learner.course_id, learner.course_id))
        return learner

    @staticmethod
    def search_api(services: HttpServices) -> dict[str, str]:
        return {"SEARCH_API": f"{services.base_url}/v3/search", "RELATION_CACHE__EMPTY_TTL_MS": "1"}

    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            ("Retired", "course_retired"),
            ("Live", "course_without_leaf_nodes"),
            ("Unlisted", "course_without_leaf_nodes"),
            ("Draft", "course_unknown"),
            (None, "course_unknown"),
        ],
    )
    async def test_fails_its_events_alone_until_it_is_repaired(
        self, servers: Servers, unpublished: Learner, services: HttpServices, status: str | None, kind: str
    ) -> None:
        if status:
            services.contents[unpublished.course_id] = {"objectType": "Collection", "status": status}
        other = Learner(servers)
        before = servers.rows([unpublished.enrolment], unpublished.course)

        async with Running(servers.config(**self.search_api(services))) as process:
            first, second, applied = await process.apply(
                unpublished.completed("A"), unpublished.completed("B", at=T0 + 1), other.completed("A")
            )
            assert [refusal(first).kind, refusal(second).kind] == [kind, kind]
            assert all(isinstance(part, Message) for part in applied)
            await process.apply(unpublished.completed("A"))
            assert services.requests[SEARCH] == 1
            assert servers.rows([unpublished.enrolment], unpublished.course) == before
            servers.publish(unpublished.course)
            await process.run([unpublished.completed("A"), unpublished.completed("B", at=T0 + 1)])
        assert other.completed_count(other.course_id) == 1.0
        assert unpublished.completed_count(unpublished.course_id) == 2.0

    async def test_fails_its_events_where_the_api_refuses_but_asks_again(
        self, servers: Servers, unpublished: Learner, services: HttpServices
    ) -> None:
        services.switch(SEARCH, Switch(status=403, times=1))

        config = servers.config(**self.search_api(services), SEARCH_CACHE__EMPTY_TTL_MS="1")
        async with Running(config) as process:
            (refused,) = await process.apply(unpublished.completed("A"))
            (unknown,) = await process.apply(unpublished.completed("A"))
            assert (refusal(refused).kind, refusal(unknown).kind) == ("search_api", "course_unknown")

    async def test_waits_while_the_api_is_down(
        self, servers: Servers, unpublished: Learner, services: HttpServices
    ) -> None:
        config = servers.config(
            **self.search_api(services), HTTP__REQUEST_TIMEOUT_MS="100", HTTP__CALL_TIMEOUT_MS="200"
        )

        async with Running(config) as process:
            services.refuse()
            with pytest.raises(WorldFault, match=services.base_url):
                await process.apply(unpublished.completed("A"))
            services.accept()
            (outcome,) = await process.apply(unpublished.completed("A"))
            assert refusal(outcome).kind == "course_unknown"


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
