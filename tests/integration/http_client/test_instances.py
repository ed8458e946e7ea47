"""An API of which some instances fail for every id: no id is at fault."""

import asyncio

import pytest

from tests.support.api_client import USER_READ, client, until
from tests.support.instances import Instances

POISON_AFTER_MS = 300
USERS = ("u-1", "u-2", "u-3")


@pytest.mark.parametrize("bad", [0, 1])
async def test_an_id_and_its_control_do_not_take_turns_on_connections_to_different_instances(bad: int) -> None:
    with Instances(2) as services:
        services.users |= {user_id: {"firstName": "Asha"} for user_id in USERS}
        async with client(services.base_url + USER_READ, poison_after_ms=POISON_AFTER_MS) as learner:
            await asyncio.gather(learner.get("u-1"), learner.get("u-2"))
            assert services.connections == 2
            services.bad = {bad}
            assert (await learner.get("u-3")).is_success


async def test_a_connection_that_has_brought_5xx_is_not_used_again() -> None:
    with Instances(1) as services:
        services.users |= {user_id: {"firstName": "Asha"} for user_id in USERS}
        async with client(services.base_url + USER_READ) as learner:
            await learner.get("u-1")
            await learner.get("u-2")
            assert services.connections == 1
            services.bad = {0}
            waiting = asyncio.create_task(learner.get("u-3"))
            async with asyncio.timeout(20):
                await until(lambda: services.connections >= 4)
            services.bad = set()
            await waiting
