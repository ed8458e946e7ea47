"""Sets of the relation cache that are missing, broken or out of reach."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cassandra.cluster import Session

from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.domain.relations import ancestors_key, leaf_nodes_key, optional_nodes_key
from local.config import load_config
from local.http_services import SEARCH, HttpServices, Switch
from local.servers import Redis
from local.world import World
from tests.support.activity_learner import Learner
from tests.support.activity_model import (
    DAY,
    T0,
    RelationCache,
)
from tests.support.activity_servers import Running, Servers, refusal


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

    async def test_a_unit_without_leaf_nodes_is_counted_in_a_metric_and_a_sync_writes_its_count(
        self, servers: Servers, learner: Learner
    ) -> None:
        with servers.relations() as client:
            client.delete(leaf_nodes_key(learner.course_id, learner.unit_1))
        async with Running(servers.config(RELATION_CACHE__EMPTY_TTL_MS="1")) as process:
            await process.apply(learner.completed("A", "C"))
            assert learner.completed_counts() == [2.0, None, 1.0]
            assert process.counts["uncounted_units"] == 1
            servers.publish(learner.course)
            await process.apply(learner.sync(at=T0 + 1))
        assert learner.completed_counts() == [2.0, 1.0, 1.0]

    async def test_a_set_that_is_none_takes_only_its_own_events_along(self, servers: Servers, learner: Learner) -> None:
        broken_course, broken_optional, broken_unit, broken_content = (Learner(servers) for _ in range(4))
        broken = [
            leaf_nodes_key(broken_course.course_id, broken_course.course_id),
            optional_nodes_key(broken_optional.course_id, broken_optional.course_id),
            leaf_nodes_key(broken_unit.course_id, broken_unit.unit_1),
            ancestors_key(broken_content.course_id, "A"),
        ]
        with servers.relations() as client:
            for key in broken:
                client.delete(key)
                client.set(key, "no set")

        async with Running(servers.config()) as process:
            *failed, applied = await process.apply(
                *(
                    each.completed("A")
                    for each in (broken_course, broken_optional, broken_unit, broken_content, learner)
                )
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

    async def test_a_set_that_is_none_takes_no_other_event_of_its_enrolment_along(
        self, servers: Servers, learner: Learner
    ) -> None:
        """Each event of a batch is applied as if it were alone."""
        with servers.relations() as client:
            client.delete(ancestors_key(learner.course_id, "A"))
            client.set(ancestors_key(learner.course_id, "A"), "no set")

        async with Running(servers.config()) as process:
            first, broken, last = await process.apply(
                learner.completed("B"), learner.completed("A", at=T0 + 1), learner.completed("C", at=T0 + 2)
            )
        assert refusal(broken).kind == "bad_cache_value"
        assert [all(isinstance(part, Message) for part in outcome) for outcome in (first, last)] == [True, True]
        assert learner.completed_count(learner.course_id) == 2.0
        assert learner.completed_count(learner.unit_1) == 1.0

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
            **self.search_api(services),
            HTTP__CONNECT_TIMEOUT_MS="99",
            HTTP__REQUEST_TIMEOUT_MS="100",
            HTTP__CALL_TIMEOUT_MS="200",
        )

        async with Running(config) as process:
            services.refuse()
            with pytest.raises(WorldFault, match=services.base_url):
                await process.apply(unpublished.completed("A"))
            services.accept()
            (outcome,) = await process.apply(unpublished.completed("A"))
            assert refusal(outcome).kind == "course_unknown"
