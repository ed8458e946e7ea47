"""Attempts with more questions than their content has, where the job is configured to check that."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from local.http_services import CONTENT, HttpServices, Switch
from local.world import World
from tests.support.assessment import Assessment, Learner, Tables, reason
from tests.support.minicluster import MiniCluster
from tests.support.strategies import answer, item


@pytest.fixture
def contents(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=5) as client:
        yield client


@pytest.fixture(scope="module")
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture(scope="module")
def running_checking(
    world: World, services: HttpServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Assessment, MiniCluster]]:
    variables = {
        "AGGREGATES__SKIP_MISSING_RECORDS": "true",
        "AGGREGATES__CONTENT_READ_API": f"{services.base_url}/content/v3/read/",
        "AGGREGATES__AGG_DETAILS_TIME_ZONE": "Asia/Kolkata",
    }
    folder = tmp_path_factory.mktemp("checking")
    with (
        closing(Assessment(world)) as topics,
        MiniCluster(world, topics, folder, "jobs.assessment_aggregator", **variables) as cluster,
    ):
        yield topics, cluster


@pytest.fixture
def checking(running_checking: tuple[Assessment, MiniCluster]) -> Iterator[Assessment]:
    """A job of its own with ``skip_missing_records``: by default the number of questions is not checked."""
    topics, cluster = running_checking
    with cluster.log_on_failure():
        yield topics


class TestTooManyQuestions:
    def test_are_refused_by_what_the_cache_says(
        self,
        checking: Assessment,
        learner: Learner,
        tables: Tables,
        contents: "redis.Redis",
        services: HttpServices,
        unique: str,
    ) -> None:
        calls = services.requests[CONTENT]
        keys = {"totalQuestions": 2, "totalquestions": "2", "total_questions": 2.0}
        for key, total in keys.items():
            contents.set(f"do_{unique}{key}", json.dumps({"name": "Botany", key: total}))
            checking.send(
                learner.attempt(f"do_{unique}{key}", "three", [(1, 2)] * 3),
                learner.attempt(f"do_{unique}{key}", "two", [(1, 2)] * 2),
            )
        checking.requests(learner, 3)
        assert {row.attempt_id for row in tables.attempts(learner)} == {"two"}
        assert {reason(failed) for failed in checking.failed(learner.user_id, 3)} == {
            f"event has answers to 3 questions, but content 'do_{unique}{key}' has 2" for key in keys
        }
        assert services.requests[CONTENT] == calls
        assert tables.aggregates(learner).agg_details[0].count('"May 14, 2024, 2:42:40 PM"') == 1

    def test_are_unique_ones(
        self, checking: Assessment, learner: Learner, contents: "redis.Redis", unique: str
    ) -> None:
        contents.set(f"do_{unique}", '{"totalQuestions": 1}')
        answers = [answer(item=item(id="q1"), score=score) for score in (1, 2, 3)]
        checking.send(learner.attempt(f"do_{unique}", "a1", [], events=answers))
        checking.requests(learner, 1)

    @pytest.mark.parametrize("cached", [None, {"totalQuestions": 0}, {"name": "Botany"}, "no object"])
    def test_are_refused_by_what_the_api_says_where_the_cache_knows_nothing(
        self,
        checking: Assessment,
        learner: Learner,
        contents: "redis.Redis",
        services: HttpServices,
        unique: str,
        cached: object,
    ) -> None:
        if cached is not None:
            contents.set(f"do_{unique}", json.dumps(cached))
        services.contents[f"do_{unique}"] = {"totalQuestions": 2}
        checking.send(
            learner.attempt(f"do_{unique}", "three", [(1, 2)] * 3), learner.attempt(f"do_{unique}", "two", [(1, 2)] * 2)
        )
        assert checking.attempt_ids(learner, 1) == ["two"]
        (failed,) = checking.failed(learner.user_id)
        assert reason(failed) == f"event has answers to 3 questions, but content 'do_{unique}' has 2"

    def test_are_not_looked_for_where_nobody_knows_the_number(
        self, checking: Assessment, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.contents[f"do_{unique}"] = {"name": "Botany", "totalQuestions": "many"}
        checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)] * 50))
        checking.requests(learner, 1)

    def test_of_an_unknown_content_are_refused(self, checking: Assessment, learner: Learner, unique: str) -> None:
        checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        (failed,) = checking.failed(learner.user_id)
        assert reason(failed) == f"content read API answered 404 'RESOURCE_NOT_FOUND' for content 'do_{unique}'"

    def test_are_refused_where_the_api_says_200_and_not_ok(
        self, checking: Assessment, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.switch(CONTENT, Switch(status=200))
        try:
            checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
            (failed,) = checking.failed(learner.user_id)
        finally:
            services.switch(CONTENT, Switch())
        assert reason(failed) == f"content read API answered 200 'SERVER_ERROR' for content 'do_{unique}'"

    def test_wait_for_an_api_that_is_down(
        self, checking: Assessment, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.contents[f"do_{unique}"] = {"totalQuestions": 1}
        services.switch(CONTENT, Switch(status=503, times=3))
        calls = services.requests[CONTENT]
        checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        checking.requests(learner, 1)
        assert services.requests[CONTENT] == calls + 4

    def test_are_not_counted_in_a_recompute_request(self, checking: Assessment, learner: Learner, unique: str) -> None:
        checking.send(learner.recompute(f"do_{unique}"))
        checking.requests(learner, 1)

    def test_are_no_fault_by_default(
        self, assessment: Assessment, learner: Learner, contents: "redis.Redis", unique: str
    ) -> None:
        contents.set(f"do_{unique}", '{"totalQuestions": 1}')
        assessment.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)] * 3))
        assessment.requests(learner, 1)
