"""A course about which the search API cannot answer, while it answers about others."""

from collections.abc import Sequence

import pytest

from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.domain.relations import leaf_nodes_key
from common.flink.job import Outcome
from jobs.activity_aggregate_updater.events import LearnerEvent
from local.http_services import HttpServices
from tests.support.activity_learner import Learner
from tests.support.activity_servers import Running, Servers, refusal


async def applied(servers: Servers, failing: Learner, events: Sequence[LearnerEvent]) -> list[Outcome]:
    """What becomes of a batch, of which the first try fails because of ``failing``'s course."""
    with HttpServices() as services:
        services.failing.add(failing.course_id)
        config = servers.config(
            SEARCH_API=f"{services.base_url}/v3/search",
            HTTP__CONNECT_TIMEOUT_MS="189",
            HTTP__REQUEST_TIMEOUT_MS="190",
            HTTP__CALL_TIMEOUT_MS="200",
            HTTP__POISON_AFTER_MS="300",
        )
        async with Running(config) as process:
            with pytest.raises(WorldFault, match="answered with status 500"):
                await process.apply(*events)
            for _ in range(20):
                try:
                    return list(await process.apply(*events))
                except WorldFault:
                    continue
    raise AssertionError("its events were never refused")


def without_leaf_nodes(servers: Servers, *learners: Learner) -> None:
    with servers.relations() as client:
        for learner in learners:
            client.delete(leaf_nodes_key(learner.course_id, learner.course_id))


async def test_fails_its_events_alone(servers: Servers, learner: Learner) -> None:
    other, unknown = Learner(servers), Learner(servers)
    without_leaf_nodes(servers, learner, unknown)
    events = [learner.completed("A"), unknown.completed("A"), other.completed("A")]
    failed, unknown_course, counted = await applied(servers, learner, events)
    assert refusal(failed).kind == "api_error"
    assert learner.course_id in refusal(failed).reason
    assert refusal(unknown_course).kind == "course_unknown"
    assert all(isinstance(part, Message) for part in counted)
    assert other.completed_count(other.course_id) == 1.0


async def test_also_where_it_is_the_only_course_that_was_ever_searched_for(servers: Servers, learner: Learner) -> None:
    without_leaf_nodes(servers, learner)
    (failed,) = await applied(servers, learner, [learner.completed("A")])
    assert refusal(failed).kind == "api_error"
