"""An API of which some instances fail for every id: no id is at fault."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from local.http_services import USER
from tests.support.api_client import USER_READ, Client, client, until
from tests.support.instances import Instances

USERS = ("u-1", "u-2", "u-3")


@asynccontextmanager
async def reading(services: Instances) -> AsyncIterator[Client]:
    services.users |= {user_id: {"firstName": "Asha"} for user_id in USERS}
    url = services.base_url + USER_READ
    async with client(url, poison_after_ms=300, initial_backoff_ms=50, max_backoff_ms=50) as learner:
        yield learner


async def check_in_step(services: Instances, learner: Client) -> None:
    """The first failure has no control. Another request takes its place, so that the tries go on in step."""
    before = services.requests[USER]
    waiting = asyncio.create_task(learner.get("u-3"))
    await until(lambda: services.requests[USER] > before)
    await learner.get("u-1")
    assert (await waiting).is_success


@pytest.mark.parametrize("bad", [0, 1])
async def test_an_id_and_its_controls_do_not_take_turns_on_connections_to_different_instances(bad: int) -> None:
    with Instances(2) as services:
        async with reading(services) as learner:
            await asyncio.gather(learner.get("u-1"), learner.get("u-2"))
            assert services.connections == 2
            services.bad = {bad}
            await check_in_step(services, learner)


async def test_a_balancer_that_takes_the_instances_in_turn_makes_no_id_poison() -> None:
    with Instances(2, per_request=True) as services:
        async with reading(services) as learner:
            await learner.get("u-1")
            services.bad = {1}
            await check_in_step(services, learner)


async def test_a_connection_that_has_brought_5xx_is_not_used_again() -> None:
    with Instances(1) as services:
        async with reading(services) as learner:
            await learner.get("u-1")
            await learner.get("u-2")
            assert services.connections == 1
            services.bad = {0}
            waiting = asyncio.create_task(learner.get("u-3"))
            async with asyncio.timeout(20):
                await until(lambda: services.connections >= 4)
            services.bad = set()
            await waiting
