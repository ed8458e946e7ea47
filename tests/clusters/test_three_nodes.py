"""Three Cassandra nodes and three Kafka brokers: any one may be lost, and the jobs lose nothing."""

import asyncio
from collections.abc import Iterator

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource

from chaos.cluster import PARALLELISM
from chaos.observe import open_tables
from chaos.run import start_jobs
from chaos.sabotage import Sabotage
from common.domain import topics
from common.servers.kafka import watermarks
from local.world import ENVIRONMENT, World
from tests.support.list_writer import list_writer
from tests.support.waiting import wait_until

NUMBERS = range(300)


@pytest.fixture
def session(cluster: World) -> Iterator[Session]:
    """Reads and writes with a quorum."""
    with open_tables(cluster) as session:
        yield session


def test_every_row_has_three_replicas(session: Session) -> None:
    query = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'sunbird_courses'"
    assert session.execute(query).one().replication["replication_factor"] == "3"
    # Refused unless all replicas answer.
    statement = session.prepare("SELECT * FROM course_batch WHERE courseid = 'none'")
    statement.consistency_level = ConsistencyLevel.ALL
    assert session.execute(statement).one() is None


def test_every_partition_has_three_replicas_and_two_acknowledge(cluster: World) -> None:
    admin = cluster.kafka.admin()
    metadata = admin.list_topics(timeout=30)
    assert set(metadata.brokers) == {1, 2, 3}
    for topic in topics.ALL:
        partitions = metadata.topics[f"{ENVIRONMENT}.{topic}"].partitions.values()
        assert {len(partition.replicas) for partition in partitions} == {3}
    resource = ConfigResource(ConfigResource.Type.TOPIC, f"{ENVIRONMENT}.{topics.ASSESS}")
    settings = admin.describe_configs([resource])[resource].result()
    assert settings["min.insync.replicas"].value == "2"


@pytest.mark.timeout(1_200)
def test_nothing_is_lost_and_nothing_is_counted_twice(cluster: World) -> None:
    """The short form of `make chaos`. Half of the learners have events in several partitions.

    Workers and TaskManagers are killed in tests/faults, with one node of each.
    """
    faults = ("kill -9 Cassandra and Kafka",)
    with start_jobs(cluster, pauses=[0], sabotage=Sabotage(), report=print) as run:
        for job in run.cluster.jobs.values():
            assert {vertex.parallelism for vertex in cluster.flink.client.vertices(job)} == {PARALLELISM}
        run.seed(1, faults, len(faults))
    assert run.tolls.keys() == set(faults)
    assert run.problems == []
    assert run.cluster.restarts == 0


@pytest.mark.timeout(600)
async def test_what_is_acknowledged_while_one_is_lost_is_there_once_while_another_is_lost(
    cluster: World, unique: str
) -> None:
    """The last test of the cluster: those that are lost at its end stay away."""
    topic = f"{unique}.survivors"
    cluster.kafka.create_topics([topic])
    async with list_writer(cluster.cassandra.port, request_timeout_ms=12_000) as writer:
        stop = asyncio.Event()
        load = asyncio.ensure_future(writer.run(stop))
        await writer.wait_for_rows(500)
        cluster.cassandra_nodes[1].kill()
        cluster.kafka_brokers[1].kill()
        await writer.wait_for_rows(500)
        await asyncio.to_thread(_produce, cluster, topic)

        cluster.cassandra_nodes[1].launch()
        cluster.kafka_brokers[1].launch()
        await asyncio.to_thread(_wait_until_whole, cluster)

        await writer.wait_for_rows(100)
        cluster.cassandra_nodes[2].kill()
        cluster.kafka_brokers[2].kill()
        await writer.wait_for_rows(500)
        stop.set()
        await load
        assert await writer.wrong_rows() == {}
    assert await asyncio.to_thread(_number_of_records, cluster, topic) == len(NUMBERS)


def _produce(cluster: World, topic: str) -> None:
    refused: list[str] = []
    producer = Producer({"bootstrap.servers": cluster.kafka.bootstrap_servers, "log_level": 0})
    for number in NUMBERS:
        producer.produce(
            topic, str(number), str(number), on_delivery=lambda error, _: refused.append(str(error)) if error else None
        )
    assert producer.flush(120) == 0
    assert refused == []


def _wait_until_whole(cluster: World) -> None:
    for server in (*cluster.cassandra_nodes, *cluster.kafka_brokers):
        server.wait_until_ready()
    cluster.wait_until_nodes_see_each_other()
    wait_until(cluster.kafka.has_all_replicas, "all replicas are in sync", 120)


def _number_of_records(cluster: World, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": cluster.kafka.bootstrap_servers, "group.id": topic, "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        return sum(watermarks(consumer, TopicPartition(topic, number), 60)[1] for number in partitions)
    finally:
        consumer.close()
