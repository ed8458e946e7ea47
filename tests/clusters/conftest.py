"""Three Cassandra nodes and three Kafka brokers, for all tests of this folder."""

from collections.abc import Iterator

import pytest

from local.config import load_config
from local.world import World


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All servers, with three Cassandra nodes and three Kafka brokers. Who kills one starts it again."""
    with World(load_config({}).isolated(tmp_path_factory.mktemp("three")).with_nodes(3)) as world:
        yield world
