"""Attempts with more questions than their content has, where the job is configured to check that."""

import json
from collections.abc import Awaitable, Callable, Iterator

import pytest
import redis

from common.config.loader import load
from common.domain.messages import Message
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from local.http_services import CONTENT, HttpServices, Switch
from local.world import World
from tests.support.assessment import FAILED, REQUESTS, Assessment, Learner
from tests.support.job_process import running
from tests.support.strategies import JsonObject, answer, item
from tests.support.tables import Tables


@pytest.fixture
def contents(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=5) as client:
        yield client


class Outcome:
    """What a batch of events has sent."""

    def __init__(self, messages: list[Message]) -> None:
        self.requests: list[str] = []
        """The attempt of each certificate request."""
        self.reasons: list[str] = []
        """Why each refused event is on the failed topic."""
        for message in messages:
            document = json.loads(message.value)
            if message.topic == f"dev.{REQUESTS}":
                self.requests.append(document["edata"]["attemptId"])
            else:
                assert message.topic == f"dev.{FAILED}"
                self.reasons.append(document["metadata"]["validation_error"])


Apply = Callable[..., Awaitable[Outcome]]


@pytest.fixture
def apply(world: World, services: HttpServices) -> Apply:
    """A job with ``skip_missing_records``: by default the number of questions is not checked."""
    variables = {
        "AGGREGATES__SKIP_MISSING_RECORDS": "true",
        "AGGREGATES__CONTENT_READ_API": f"{services.base_url}/content/v3/read/",
        "AGGREGATES__AGG_DETAILS_TIME_ZONE": "Asia/Kolkata",
        "AGGREGATES__HTTP__INITIAL_BACKOFF_MS": "5",
    }
    environment = world.job_environment("jobs.assessment_aggregator") | variables

    async def apply(*events: JsonObject) -> Outcome:
        async with running(AssessmentAggregator(load(AssessmentAggregatorConfig, environ=environment))) as job:
            sent = await job.apply(*(json.dumps(event).encode() for event in events))
        return Outcome([message for messages in sent for message in messages])

    return apply


class TestTooManyQuestions:
    async def test_are_refused_by_what_the_cache_says(
        self,
        apply: Apply,
        learner: Learner,
        tables: Tables,
        contents: "redis.Redis",
        services: HttpServices,
        unique: str,
    ) -> None:
        events = []
        keys = {"totalQuestions": 2, "totalquestions": "2", "total_questions": 2.0}
        for key, total in keys.items():
            contents.set(f"do_{unique}{key}", json.dumps({"name": "Botany", key: total}))
            events.append(learner.attempt(f"do_{unique}{key}", "three", [(1, 2)] * 3))
            events.append(learner.attempt(f"do_{unique}{key}", "two", [(1, 2)] * 2))
        outcome = await apply(*events)
        assert len(outcome.requests) == 3
        assert {row.attempt_id for row in tables.attempts(learner)} == {"two"}
        assert outcome.reasons == [
            f"event has answers to 3 questions, but content 'do_{unique}{key}' has 2" for key in keys
        ]
        assert services.requests[CONTENT] == 0
        assert tables.aggregates(learner).agg_details[0].count('"May 14, 2024, 2:42:40 PM"') == 1

    async def test_are_unique_ones(self, apply: Apply, learner: Learner, contents: "redis.Redis", unique: str) -> None:
        contents.set(f"do_{unique}", '{"totalQuestions": 1}')
        answers = [answer(item=item(id="q1"), score=score) for score in (1, 2, 3)]
        outcome = await apply(learner.attempt(f"do_{unique}", "a1", [], events=answers))
        assert (outcome.requests, outcome.reasons) == (["a1"], [])

    @pytest.mark.parametrize("cached", [None, {"totalQuestions": 0}, {"name": "Botany"}, "no object"])
    async def test_are_refused_by_what_the_api_says_where_the_cache_knows_nothing(
        self,
        apply: Apply,
        learner: Learner,
        contents: "redis.Redis",
        services: HttpServices,
        unique: str,
        cached: object,
    ) -> None:
        if cached is not None:
            contents.set(f"do_{unique}", json.dumps(cached))
        services.contents[f"do_{unique}"] = {"totalQuestions": 2}
        outcome = await apply(
            learner.attempt(f"do_{unique}", "three", [(1, 2)] * 3), learner.attempt(f"do_{unique}", "two", [(1, 2)] * 2)
        )
        assert outcome.requests == ["two"]
        assert outcome.reasons == [f"event has answers to 3 questions, but content 'do_{unique}' has 2"]

    async def test_are_not_looked_for_where_nobody_knows_the_number(
        self, apply: Apply, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.contents[f"do_{unique}"] = {"name": "Botany", "totalQuestions": "many"}
        outcome = await apply(learner.attempt(f"do_{unique}", "a1", [(1, 2)] * 50))
        assert (outcome.requests, outcome.reasons) == (["a1"], [])

    async def test_of_an_unknown_content_are_refused(self, apply: Apply, learner: Learner, unique: str) -> None:
        outcome = await apply(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        assert outcome.requests == []
        assert outcome.reasons == [f"content read API answered 404 'RESOURCE_NOT_FOUND' for content 'do_{unique}'"]

    async def test_are_refused_where_the_api_says_200_and_not_ok(
        self, apply: Apply, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.switch(CONTENT, Switch(status=200))
        outcome = await apply(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        assert outcome.requests == []
        assert outcome.reasons == [f"content read API answered 200 'SERVER_ERROR' for content 'do_{unique}'"]

    async def test_wait_for_an_api_that_is_down(
        self, apply: Apply, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.contents[f"do_{unique}"] = {"totalQuestions": 1}
        services.switch(CONTENT, Switch(status=503, times=3))
        outcome = await apply(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        assert (outcome.requests, outcome.reasons) == (["a1"], [])
        assert services.requests[CONTENT] == 4

    async def test_are_not_counted_in_a_recompute_request(self, apply: Apply, learner: Learner, unique: str) -> None:
        outcome = await apply(learner.recompute(f"do_{unique}"))
        assert (len(outcome.requests), outcome.reasons) == (1, [])

    async def test_of_an_unknown_content_do_not_refuse_a_recompute_request_of_the_same_batch(
        self, apply: Apply, learner: Learner, unique: str
    ) -> None:
        outcome = await apply(learner.attempt(f"do_{unique}", "a1", [(1, 2)]), learner.recompute(f"do_{unique}"))
        assert len(outcome.requests) == 1
        assert outcome.reasons == [f"content read API answered 404 'RESOURCE_NOT_FOUND' for content 'do_{unique}'"]

    def test_are_no_fault_by_default(
        self, assessment: Assessment, learner: Learner, contents: "redis.Redis", unique: str
    ) -> None:
        contents.set(f"do_{unique}", '{"totalQuestions": 1}')
        assessment.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)] * 3))
        assessment.requests(learner, 1)
