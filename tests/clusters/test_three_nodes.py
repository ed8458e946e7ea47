"""Three Cassandra nodes and three Kafka brokers: any one may be lost, and the jobs lose nothing."""

from collections.abc import Iterator

import pytest
from cassandra import ConsistencyLevel
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import ConfigResource

from chaos.observe import open_tables
from chaos.run import start_jobs
from chaos.sabotage import Sabotage
from common.domain import topics
from common.servers.kafka import watermarks
from local.world import ENVIRONMENT, World
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


def test_what_is_acknowledged_while_one_is_lost_is_there_while_another_is_lost(
    cluster: World, session: Session, unique: str
) -> None:
    topic = f"{unique}.survivors"
    cluster.kafka.create_topics([topic])
    cluster.cassandra_nodes[1].kill()
    cluster.kafka_brokers[1].kill()
    insert = session.prepare("INSERT INTO course_batch (courseid, batchid) VALUES (?, ?)")
    execute_concurrent_with_args(session, insert, [(unique, str(number)) for number in NUMBERS], concurrency=16)
    refused: list[str] = []
    producer = Producer({"bootstrap.servers": cluster.kafka.bootstrap_servers, "log_level": 0})
    for number in NUMBERS:
        producer.produce(
            topic, str(number), str(number), on_delivery=lambda error, _: refused.append(str(error)) if error else None
        )
    assert producer.flush(120) == 0
    assert refused == []

    cluster.cassandra_nodes[1].launch()
    cluster.kafka_brokers[1].start()
    cluster.cassandra_nodes[1].wait_until_ready()
    cluster.wait_until_nodes_see_each_other()
    wait_until(cluster.kafka.has_all_replicas, "all replicas are in sync", 120)

    cluster.cassandra_nodes[2].kill()
    cluster.kafka_brokers[2].kill()
    rows = session.execute("SELECT batchid FROM course_batch WHERE courseid = %s", [unique])
    assert {row.batchid for row in rows} == set(map(str, NUMBERS))
    assert _number_of_records(cluster, topic) == len(NUMBERS)

    cluster.cassandra_nodes[2].launch()
    cluster.kafka_brokers[2].start()
    cluster.cassandra_nodes[2].wait_until_ready()
    cluster.wait_until_nodes_see_each_other()
    wait_until(cluster.kafka.has_all_replicas, "all replicas are in sync", 120)


def _number_of_records(cluster: World, topic: str) -> int:
    consumer = Consumer({"bootstrap.servers": cluster.kafka.bootstrap_servers, "group.id": topic, "log_level": 0})
    try:
        partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
        return sum(watermarks(consumer, TopicPartition(topic, number), 60)[1] for number in partitions)
    finally:
        consumer.close()


@pytest.mark.timeout(1_200)
def test_nothing_is_lost_and_nothing_is_counted_twice(cluster: World) -> None:
    """The short form of `make chaos`. Half of the learners have events in several partitions.

    Workers and TaskManagers are killed in tests/faults, with one node of each.
    """
    faults = ("kill -9 Cassandra", "kill -9 Kafka")
    with start_jobs(cluster, pauses=[0], sabotage=Sabotage(), report=print) as run:
        run.seed(1, faults, len(faults))
    assert run.tolls.keys() == set(faults)
    assert run.problems == []
    assert run.cluster.restarts == 0
