"""A content that the content read API cannot answer for holds up no other event."""

import asyncio
import json

import pytest

from common.config.loader import load
from common.domain.messages import Message
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from local.http_services import CONTENT, HttpServices, Switch
from local.world import World
from tests.support.api_client import until
from tests.support.assessment import FAILED, REQUESTS, Learner
from tests.support.job_process import running
from tests.support.tables import Tables


@pytest.fixture
def config(world: World, services: HttpServices) -> AssessmentAggregatorConfig:
    """That checks the number of questions, with calls that end before the limit: batches are applied again."""
    variables = {
        "SKIP_MISSING_RECORDS": "true",
        "CONTENT_READ_API": f"{services.base_url}/content/v3/read/",
        "HTTP__CONNECT_TIMEOUT_MS": "189",
        "HTTP__REQUEST_TIMEOUT_MS": "190",
        "HTTP__CALL_TIMEOUT_MS": "200",
        "HTTP__POISON_AFTER_MS": "600",
    }
    environment = {f"AGGREGATES__{name}": value for name, value in variables.items()}
    return load(AssessmentAggregatorConfig, environ=world.job_environment("jobs.assessment_aggregator") | environment)


def attempt(learner: Learner, content_id: str) -> bytes:
    return json.dumps(learner.attempt(content_id, "a1", [(1, 2)])).encode()


def topics_of(messages: list[Message]) -> list[str]:
    return [message.topic for message in messages]


async def test_seven_events_behind_it_go_on(
    config: AssessmentAggregatorConfig, services: HttpServices, tables: Tables, unique: str
) -> None:
    first, *others, last = (Learner.unique(f"{unique}-{number}") for number in range(9))
    services.contents[f"do_{unique}"] = {"totalQuestions": 1}
    services.failing.add(f"do_{unique}poison")
    async with running(AssessmentAggregator(config)) as job:
        failed, *applied, failed_too = await job.apply(
            attempt(first, f"do_{unique}poison"),
            *(attempt(other, f"do_{unique}") for other in others),
            attempt(last, f"do_{unique}poison"),
        )
    assert list(map(topics_of, applied)) == [[f"dev.{REQUESTS}"]] * 7
    for (message,) in (failed, failed_too):
        assert message.topic == f"dev.{FAILED}"
        reason = json.loads(message.value)["metadata"]["validation_error"]
        assert reason.startswith(f"content_read API has not answered 'do_{unique}poison' for ")
    assert all(len(tables.attempts(other)) == 1 for other in others)
    assert tables.attempts(first) == tables.attempts(last) == []


async def test_while_the_api_answers_for_no_content_all_wait(
    config: AssessmentAggregatorConfig, services: HttpServices, unique: str
) -> None:
    learners = [Learner.unique(f"{unique}-{number}") for number in range(3)]
    services.contents |= {f"do_{unique}{number}": {"totalQuestions": 1} for number in range(3)}
    async with running(AssessmentAggregator(config)) as job:
        await job.apply(attempt(learners[0], f"do_{unique}0"))
        services.switch(CONTENT, Switch(status=503))
        before = services.requests[CONTENT]
        applying = asyncio.create_task(
            job.apply(*(attempt(learner, f"do_{unique}{number}") for number, learner in enumerate(learners)))
        )
        # One at a time, a second apart: this is far beyond the limit.
        await until(lambda: services.requests[CONTENT] >= before + 8)
        assert not applying.done()
        services.switch(CONTENT, Switch())
        assert [topics_of(messages) for messages in await applying] == [[f"dev.{REQUESTS}"]] * 3
