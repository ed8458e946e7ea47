"""Servers that may be killed."""

from collections.abc import Iterator

import pytest

from local.config import load_config
from local.flink import FlinkCluster
from local.world import World
from tests.support.flink_guest import FlinkGuest


@pytest.fixture(scope="package")
def mortal_world(running_flink_cluster: FlinkCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """All servers, with tables and topics. Who kills one starts it again. Flink is the session's."""
    config = load_config({}).isolated(tmp_path_factory.mktemp("faults"))
    with FlinkGuest(config, running_flink_cluster) as world:
        yield world
