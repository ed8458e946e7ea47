"""Real servers for the tests that want them, started once per session and only when the first test asks.

They live in a temporary folder on free ports, so the tests run beside a `make up`. Tests share the tables and brokers:
they keep out of each other's way by ids and topics of their own (`unique`, `topics.create`).
"""

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import redis
from cassandra.cluster import Session
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from common.servers.kafka import watermarks
from local.config import Config, load_config
from local.flink import FlinkCluster
from local.process import start_ended
from local.world import CASSANDRA, FLINK, KAFKA, REDIS, World
from tests.support.assessment import Learner
from tests.support.cassandra_session import connect
from tests.support.scheduling import ByServers
from tests.support.tables import Tables
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

# Both checks measure the wall clock: they fail on a busy machine, and without a `.hypothesis` folder, where the first
# text drawn builds the table of Unicode. pytest's timeout bounds each test instead.
hypothesis.settings.register_profile("tests", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("tests")

TESTS = Path(__file__).parent
LAYERS = ("clusters", "integration", "faults")


def pytest_configure(config: pytest.Config) -> None:
    for layer in LAYERS:
        config.addinivalue_line("markers", f"{layer}: everything in tests/{layer}; needs real servers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        layer = item.path.relative_to(TESTS).parts[0]
        if layer in LAYERS:
            item.add_marker(layer)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


@pytest.fixture(scope="session")
def world_config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Of the servers that the session shares."""
    return load_config({}).isolated(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def world(world_config: Config) -> Iterator[World]:
    """Kafka, Cassandra and Redis, with tables and topics. Do not kill them: start a World of your own for that."""
    with World(world_config, {KAFKA, CASSANDRA, REDIS}) as world:
        yield world


@pytest.fixture(scope="session")
def running_flink_cluster(world_config: Config) -> Iterator[FlinkCluster]:
    with World(world_config, {FLINK}) as world:
        yield world.flink


@pytest.fixture
def flink_cluster(running_flink_cluster: FlinkCluster) -> Iterator[FlinkCluster]:
    """A standalone cluster with two free slots. Jobs are submitted with `world.submit` or `flink_cluster.submit`."""
    yield running_flink_cluster
    # The tests that follow are not to fail of it, too.
    ended = start_ended(running_flink_cluster.servers)
    client = running_flink_cluster.client
    client.cancel_all(client.jobs())
    assert not ended, "\n".join(
        f"{server.name} ended by itself: {line}" for server in ended for line in server.log_lines() if " ERROR " in line
    )


@pytest.fixture(scope="session")
def cassandra_session(world: World) -> Iterator[Session]:
    """What the jobs wrote is read back with the driver's own API, so with code that the jobs do not use."""
    with connect(world.cassandra) as session:
        yield session


@pytest.fixture(scope="session")
def redis_client(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(decode_responses=True) as client:
        yield client


@pytest.fixture
def unique() -> str:
    """A text that no other test has: the start of its ids."""
    return uuid.uuid4().hex[:12]


@pytest.fixture
def learner(unique: str) -> Learner:
    return Learner.unique(unique)


@pytest.fixture(scope="session")
def tables(cassandra_session: Session) -> Tables:
    return Tables(cassandra_session)


@pytest.fixture(scope="session")
def topics(world: World) -> "Topics":
    return Topics(world)


class Topics:
    """Topics of the session's Kafka: made, filled and read as a whole."""

    def __init__(self, world: World) -> None:
        self._world = world
        # Without its log: it would complain that the broker is gone when the session ends.
        self._producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": 0, "log_level": 0})

    def create(self, name: str, partitions: int = 1) -> str:
        """A new topic whose name starts with `name` and is no other's."""
        topic = f"{name}.{uuid.uuid4().hex[:12]}"
        self._world.kafka.create_topics([topic], partitions)
        return topic

    def produce(self, topic: str, values: Iterable[bytes | None], key: bytes | None = None) -> None:
        """Returns when the broker has all `values`."""
        refused: list[str] = []
        for value in values:
            self._producer.produce(
                topic, value, key, on_delivery=lambda error, _: refused.append(str(error)) if error else None
            )
            self._producer.poll(0)
        assert self._producer.flush(TIMEOUT_SECONDS) == 0
        assert not refused

    def read(self, topic: str) -> list[Message]:
        """Everything that is in the topic now, partition by partition."""
        consumer = Consumer(
            {
                "bootstrap.servers": self._world.kafka.bootstrap_servers,
                "group.id": "tests",
                "enable.auto.commit": False,
                "enable.partition.eof": False,
            }
        )
        try:
            messages: list[Message] = []
            for partition in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
                first, end = watermarks(consumer, TopicPartition(topic, partition), 30)
                consumer.assign([TopicPartition(topic, partition, first)])
                while first < end:
                    for message in consumer.consume(end - first, timeout=30):
                        assert message.error() is None, message.error()
                        messages.append(message)
                        first = message.offset() + 1
            return messages
        finally:
            consumer.close()

    def wait_for(self, topic: str, count: int, timeout_seconds: float = TIMEOUT_SECONDS) -> list[Message]:
        """What is in the topic as soon as that is at least `count` messages."""
        wait_until(lambda: len(self.read(topic)) >= count, f"{count} messages in {topic}", timeout_seconds)
        return self.read(topic)
