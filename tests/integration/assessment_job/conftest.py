"""The relation cache that the assessment aggregator reads, and the job, which is started when the first test asks."""

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from local.world import World
from tests.support.assessment import PARTITIONS, Assessment
from tests.support.minicluster import MiniCluster


@pytest.fixture
def relations(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=10) as client:
        yield client


@pytest.fixture(scope="package")
def running_assessment(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Assessment, MiniCluster]]:
    folder = tmp_path_factory.mktemp("assessment")
    # What a test puts right in Redis is seen at once.
    variables = {"AGGREGATES__RELATION_CACHE__EMPTY_TTL_MS": "1"}
    with (
        closing(Assessment(world, PARTITIONS)) as topics,
        MiniCluster(world, topics, folder, "jobs.assessment_aggregator", **variables) as cluster,
    ):
        yield topics, cluster


@pytest.fixture
def assessment(running_assessment: tuple[Assessment, MiniCluster]) -> Iterator[Assessment]:
    """The assessment aggregator as it is configured by default, running."""
    topics, cluster = running_assessment
    with cluster.log_on_failure():
        yield topics
