"""Servers that may be killed."""

from collections.abc import Iterator

import pytest

from local.config import load_config
from local.world import World


@pytest.fixture(scope="session")
def mortal_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All servers and a Flink cluster with tables and topics. Who kills one starts it again."""
    with World(load_config({}).isolated(tmp_path_factory.mktemp("faults"))) as world:
        yield world
