"""A Kafka topic of the jobs, as the benchmarks fill and count it."""

from collections.abc import Iterable
from functools import cached_property

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from common.servers.kafka import partitions_of
from jobs import config_class
from local.world import ENVIRONMENT, World


def consumer_group(job: str) -> str:
    """That of a job which runs in the world, such as ``assessment_aggregator``."""
    return f"{ENVIRONMENT}-{config_class(job).consumer_group}"


class Topic:
    """A topic in the world's Kafka. Its clients look for the brokers until it is closed."""

    def __init__(self, world: World, name: str, group: str = "benchmark") -> None:
        """``name`` is without the environment. ``group`` is the consumer group that :meth:`committed` asks for."""
        self.name = f"{ENVIRONMENT}.{name}"
        self._bootstrap_servers = world.kafka.bootstrap_servers
        self._consumer = Consumer({"bootstrap.servers": self._bootstrap_servers, "group.id": group})
        self._partitions = partitions_of(self._consumer, self.name, 30)

    @cached_property
    def _producer(self) -> Producer:
        return Producer(
            {"bootstrap.servers": self._bootstrap_servers, "linger.ms": 20, "compression.type": "lz4"},
        )

    def produce(self, values: Iterable[bytes]) -> int:
        """Produces all values, waits until they are delivered, and returns how many there were."""
        produced = 0
        for value in values:
            while True:
                try:
                    self._producer.produce(self.name, value)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            produced += 1
        self._producer.flush()
        return produced

    def end(self) -> int:
        """The number of messages that were ever produced."""
        return sum(self._consumer.get_watermark_offsets(partition, cached=False)[1] for partition in self._partitions)

    def first(self, count: int) -> list[bytes]:
        """The values of the first ``count`` messages, or of all that there are."""
        return [message.value() for message in self._read(min(count, self.end()))]

    def times_ms(self) -> list[int]:
        """The timestamps of all messages, in order."""
        return sorted(message.timestamp()[1] for message in self._read(self.end()))

    def committed(self) -> int:
        """The number of messages that the consumer group has committed."""
        return sum(max(partition.offset, 0) for partition in self._consumer.committed(self._partitions))

    def _read(self, count: int) -> list[Message]:
        self._consumer.assign([TopicPartition(self.name, each.partition, 0) for each in self._partitions])
        messages: list[Message] = []
        while len(messages) < count:
            messages += self._consumer.consume(min(count - len(messages), 1_000), timeout=1)
        return messages

    def close(self) -> None:
        """Ends the clients."""
        self._consumer.close()
        self.__dict__.pop("_producer", None)
