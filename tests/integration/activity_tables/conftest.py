"""The session's tables and relation cache, and a learner."""

import pytest
from cassandra.cluster import Session

from local.world import World
from tests.support.activity_learner import Learner
from tests.support.activity_servers import Servers


@pytest.fixture(scope="session")
def servers(world: World, cassandra_session: Session) -> Servers:
    return Servers(world, cassandra_session)


@pytest.fixture
def learner(servers: Servers) -> Learner:
    return Learner(servers)
