"""A benchmark whose messages do not come ends with an error instead of waiting for ever."""

from collections.abc import Iterator
from contextlib import closing

import pytest
from confluent_kafka import Consumer, TopicPartition

from benchmarks.latency import receive
from local.world import World
from tests.conftest import Topics


@pytest.fixture
def topic(topics: Topics) -> str:
    return topics.create("latency")


@pytest.fixture
def consumer(world: World, topic: str) -> Iterator[Consumer]:
    with closing(Consumer({"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": topic})) as consumer:
        consumer.assign([TopicPartition(topic, 0, 0)])
        yield consumer


def test_all_messages_are_received_by_the_times_of_their_events(topics: Topics, topic: str, consumer: Consumer) -> None:
    topics.produce(topic, [b'{"ets": 7}', b'{"ets": 7}', b'{"ets": 8}'])
    assert receive(consumer, 2, 60).keys() == {7, 8}


def test_a_message_that_never_comes_is_an_error(topics: Topics, topic: str, consumer: Consumer) -> None:
    topics.produce(topic, [b'{"ets": 7}'])
    with pytest.raises(TimeoutError, match=r"^[12] of 2 events have no message after 1 s$"):
        receive(consumer, 2, 1)
