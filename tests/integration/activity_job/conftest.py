"""The activity aggregate updater on a MiniCluster, started once per session."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from cassandra.cluster import Session

from local.config import load_config
from local.http_services import HttpServices
from local.servers import Redis
from local.world import World
from tests.support.activity_job import (
    AUDITS,
    FAILED,
    INPUT,
    PARTITIONS,
    REQUESTS,
    SYNCS,
    Job,
)
from tests.support.activity_learner import Learner
from tests.support.activity_servers import Servers
from tests.support.job_topics import JobTopics
from tests.support.minicluster import MiniCluster


@pytest.fixture(scope="package")
def running_job(
    world: World, cassandra_session: Session, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Job, MiniCluster]]:
    """With a Redis of its own, which is killed now and then."""
    redis = Redis(load_config({}).isolated(tmp_path_factory.mktemp("redis")))
    redis.start()
    topics = JobTopics(world, [INPUT, SYNCS, FAILED, AUDITS, REQUESTS], {INPUT: PARTITIONS})
    folder = tmp_path_factory.mktemp("activity")
    with HttpServices() as services, closing(topics):
        variables = {
            "AGGREGATES__REDIS__PORT": str(redis.port),
            "AGGREGATES__SEARCH_API": f"{services.base_url}/v3/search",
            "AGGREGATES__RELATION_CACHE__EMPTY_TTL_MS": "10",
            "AGGREGATES__RETRY__MAX_BACKOFF_MS": "200",
        }
        with MiniCluster(world, topics, folder, "jobs.activity_aggregate_updater", **variables) as cluster:
            yield Job(topics, Servers(world, cassandra_session, redis), redis, services), cluster
    redis.stop()


@pytest.fixture
def job(running_job: tuple[Job, MiniCluster]) -> Iterator[Job]:
    job, cluster = running_job
    with cluster.log_on_failure():
        yield job


@pytest.fixture
def learner(job: Job) -> Learner:
    return Learner(job.servers)
