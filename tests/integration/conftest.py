"""The HTTP services with a course, and a job on a MiniCluster that is started when the first test asks."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from cassandra.cluster import Session

from local.http_services import HttpServices
from local.world import World
from tests.support.assessment import PARTITIONS, Assessment
from tests.support.certificate_job import Course
from tests.support.minicluster import MiniCluster


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture
def course(world: World, cassandra_session: Session, services: HttpServices, unique: str) -> Course:
    return Course(world, cassandra_session, services, unique)


@pytest.fixture(scope="session")
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
