"""The relation cache that the assessment aggregator reads."""

from collections.abc import Iterator

import pytest
import redis

from local.world import World


@pytest.fixture
def relations(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=10) as client:
        yield client
