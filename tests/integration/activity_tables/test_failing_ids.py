"""A course about which the search API cannot answer, while it answers about others."""

import pytest

from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.domain.relations import leaf_nodes_key
from local.http_services import HttpServices
from tests.support.activity_learner import Learner
from tests.support.activity_servers import Running, Servers, refusal


async def test_fails_its_events_alone(servers: Servers, learner: Learner) -> None:
    other, unknown = Learner(servers), Learner(servers)
    with servers.relations() as client:
        for each in (learner, unknown):
            client.delete(leaf_nodes_key(each.course_id, each.course_id))

    with HttpServices() as services:
        services.failing.add(learner.course_id)
        config = servers.config(
            SEARCH_API=f"{services.base_url}/v3/search",
            HTTP__REQUEST_TIMEOUT_MS="190",
            HTTP__CALL_TIMEOUT_MS="200",
            HTTP__POISON_AFTER_MS="300",
        )
        async with Running(config) as process:
            events = (learner.completed("A"), unknown.completed("A"), other.completed("A"))
            with pytest.raises(WorldFault, match="answered with status 500"):
                await process.apply(*events)
            for _ in range(20):
                try:
                    failed, unknown_course, applied = await process.apply(*events)
                except WorldFault:
                    continue
                break
    assert refusal(failed).kind == "api_error"
    assert learner.course_id in refusal(failed).reason
    assert refusal(unknown_course).kind == "course_unknown"
    assert all(isinstance(part, Message) for part in applied)
    assert other.completed_count(other.course_id) == 1.0
