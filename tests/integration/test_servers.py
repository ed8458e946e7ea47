"""The local world does what the jobs and the other tests rely on."""

import re
import socket
import time
from pathlib import Path
from typing import cast

import pytest
import redis
from cassandra.cluster import Session
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME

from common.domain import topics
from local.config import Config, load_config
from local.errors import LocalWorldError
from local.prerequisites import find_java
from local.servers import Cassandra, Redis
from local.world import ENVIRONMENT, REDIS, World
from tests.conftest import Topics
from tests.support.waiting import TIMEOUT_SECONDS


@pytest.fixture
def other_config(tmp_path: Path) -> Config:
    """Of servers that only one test starts."""
    return load_config({}).isolated(tmp_path)


def test_all_topics_are_there_with_the_configured_partitions(world: World) -> None:
    found = world.kafka.admin().list_topics(timeout=TIMEOUT_SECONDS).topics
    assert {f"{ENVIRONMENT}.{topic}" for topic in topics.ALL} <= set(found)
    assert len(found[f"{ENVIRONMENT}.telemetry.assess"].partitions) == world.config.kafka.partitions


def test_topics_can_be_made_twice(world: World, topics: Topics) -> None:
    topic = topics.create("twice", partitions=3)
    world.kafka.create_topics([topic], partitions=3)
    assert len(world.kafka.admin().list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions) == 3


def test_records_have_the_time_of_the_broker_where_the_topic_is_set_so(
    world: World, topics: Topics, unique: str
) -> None:
    """The chaos runs compare the times at which requests were appended."""
    topic = f"appended.{unique}"
    world.kafka.create_topics([topic], 1, {"message.timestamp.type": "LogAppendTime"})
    topics.produce(topic, [b"{}"])
    (message,) = topics.read(topic)
    kind, time_ms = message.timestamp()
    assert kind == TIMESTAMP_LOG_APPEND_TIME
    assert abs(time_ms / 1000 - time.time()) < 60


def test_what_is_produced_is_read_back_as_it_was(topics: Topics) -> None:
    topic = topics.create("bytes", partitions=2)
    values = [b"{}", b"", b"\xff\xfe", None]
    topics.produce(topic, values, key=b"user")
    messages = topics.read(topic)
    assert [message.value() for message in messages] == values
    assert {message.key() for message in messages} == {b"user"}


def test_the_group_coordinator_is_warm(world: World) -> None:
    """The first group of a broker waits more than 3 s for this topic unless it is there already."""
    offsets = (
        world.kafka.admin().list_topics("__consumer_offsets", timeout=TIMEOUT_SECONDS).topics["__consumer_offsets"]
    )
    assert {partition.leader >= 0 for partition in offsets.partitions.values()} == {True}


def test_cassandra_acknowledges_only_what_is_on_disk(cassandra_session: Session) -> None:
    query = "SELECT value FROM system_views.settings WHERE name = 'commitlog_sync'"
    assert cassandra_session.execute(query).one().value == "batch"


def test_redis_acknowledges_only_what_is_on_disk(redis_client: "redis.Redis") -> None:
    # The client's type covers its asynchronous twin, too, whose answer is awaited.
    settings = cast(dict[str, str], redis_client.config_get("append*"))
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"


def test_a_taken_port_is_named_with_its_server_and_its_keys(other_config: Config) -> None:
    with (
        socket.create_server(("127.0.0.1", other_config.redis.port)),
        pytest.raises(LocalWorldError) as caught,
    ):
        Redis(other_config).start()
    text = str(caught.value)
    assert f"port {other_config.redis.port} for Redis is used by another program" in text
    assert "redis.port in local/config.yaml" in text
    assert "SUNBIRD_LOCAL_REDIS_PORT" in text


def test_a_server_that_dies_at_its_start_shows_the_end_of_its_log(other_config: Config) -> None:
    redis_server = Redis(other_config)
    redis_server.state_folder.mkdir(parents=True)
    (redis_server.state_folder / "appendonly.aof").write_text("*no such file format\r\n")
    (redis_server.state_folder / "appendonlydir").write_text("newer versions keep a folder of this name")
    started = time.monotonic()
    with pytest.raises(
        LocalWorldError, match=re.escape(f"Redis ended during its start. The end of {redis_server.log_file}")
    ):
        redis_server.start()
    assert time.monotonic() - started < other_config.start_timeout_seconds / 2
    assert not redis_server.is_running


def test_a_server_that_does_not_answer_in_time_is_given_up(other_config: Config) -> None:
    hasty = other_config.model_copy(update={"start_timeout_seconds": 0.01})
    cassandra = Cassandra(hasty, find_java())
    try:
        with pytest.raises(LocalWorldError, match=r"Cassandra was not ready after 0\.01 s"):
            cassandra.start()
    finally:
        cassandra.stop()
    assert not cassandra.is_running


def test_a_world_that_cannot_start_leaves_nothing_running(other_config: Config) -> None:
    world = World(other_config)
    with (
        socket.create_server(("127.0.0.1", other_config.kafka.port)),
        pytest.raises(LocalWorldError, match="for Kafka is used by another program"),
    ):
        world.start()
    assert [server.name for server in world.servers if server.is_running] == []


def test_a_chosen_server_starts_alone(other_config: Config) -> None:
    with World(other_config, {REDIS}) as world:
        assert [server.name for server in world.servers if server.is_running] == ["Redis"]
        with world.redis.client() as client:
            assert client.set("a", 1)
    assert not world.redis.is_running
