"""The topics of one job under test: filled, and read as the job's messages arrive."""

import uuid
from collections.abc import Callable, Iterable, Mapping

from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from common.servers.kafka import watermarks
from local.world import World
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Of what the producer sends; a topic takes a megabyte unless it is configured otherwise."""


class Inbox:
    """What a topic holds, from its beginning on, read as it arrives."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap_servers,
                "group.id": "inbox",
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        partitions = self._consumer.list_topics(topic, timeout=TIMEOUT_SECONDS).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])
        self._messages: list[Message] = []
        self._read_to = dict.fromkeys(partitions, 0)
        """By partition, the offset up to which all messages have been read."""

    def all(self) -> list[Message]:
        """Everything that the topic holds when this is called, and perhaps some of what arrives meanwhile."""
        ends = {
            partition: watermarks(self._consumer, TopicPartition(self._topic, partition), TIMEOUT_SECONDS)[1]
            for partition in self._read_to
        }

        def is_read() -> bool:
            self._poll()
            return all(self._read_to[partition] >= end for partition, end in ends.items())

        wait_until(is_read, f"{self._topic} is read up to {ends}")
        return self._messages

    def _poll(self) -> None:
        """Reads what has arrived."""
        for message in self._consumer.consume(1000, timeout=0.05):
            error = message.error()
            if error is None:
                self._messages.append(message)
                self._read_to[message.partition()] = message.offset() + 1
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                self._read_to[message.partition()] = message.offset()

    def wait_for(
        self, count: int, matches: Callable[[Message], bool] = lambda _: True, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> list[Message]:
        """Those that match, as soon as there are at least `count` of them."""
        found: list[Message] = []
        seen = 0

        def are_there() -> bool:
            nonlocal seen
            self._poll()
            found.extend(filter(matches, self._messages[seen:]))
            seen = len(self._messages)
            return len(found) >= count

        wait_until(are_there, f"{count} such messages in {self._topic}", timeout_seconds)
        return found

    def close(self) -> None:
        self._consumer.close()


class JobTopics:
    """Topics with an environment prefix of their own. With one partition each, messages stay in their order."""

    def __init__(self, world: World, names: Iterable[str], partitions: Mapping[str, int] | None = None) -> None:
        """`partitions` is the number of those topics that have more than one."""
        self._partitions = partitions or {}
        self.env = f"test-{uuid.uuid4().hex[:8]}"
        self._kafka = world.kafka
        self._producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "linger.ms": 5,
                "log_level": 0,
                "message.max.bytes": MAX_MESSAGE_BYTES,
            }
        )
        self._inboxes: dict[str, Inbox] = {}
        self.create(*names)

    def create(self, *names: str) -> None:
        """New ones, or deleted ones anew."""
        topics = {name: self.topic(name) for name in names}
        for partitions in {self._partitions.get(name, 1) for name in names}:
            self._kafka.create_topics(
                [topic for name, topic in topics.items() if self._partitions.get(name, 1) == partitions], partitions
            )
        self._inboxes |= {name: Inbox(self._kafka.bootstrap_servers, topic) for name, topic in topics.items()}

    def delete(self, name: str) -> None:
        """Returns when the broker does not know it any more."""
        self._inboxes.pop(name).close()
        topic, admin = self.topic(name), self._kafka.admin()
        admin.delete_topics([topic])[topic].result()
        wait_until(lambda: topic not in admin.list_topics(timeout=30).topics, f"{topic} is deleted")

    def configure(self, name: str, key: str, value: int) -> None:
        """Changes a setting of a topic."""
        entry = ConfigEntry(key, str(value), incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.topic(name), incremental_configs=[entry])
        # Without a name it would be gone, and the request with it, before the answer is there.
        admin = self._kafka.admin()
        admin.incremental_alter_configs([resource])[resource].result()

    def topic(self, name: str) -> str:
        """Its name in the broker."""
        return f"{self.env}.{name}"

    def produce(self, name: str, values: Iterable[bytes | None], timestamp_ms: int = 0, partition: int = 0) -> None:
        """Returns when the broker has all `values`; None is a tombstone. 0 is the time of this call."""
        refused: list[str] = []

        def check(error: object, _: Message) -> None:
            if error is not None:
                refused.append(str(error))

        for value in values:
            self._producer.produce(
                self.topic(name), value, partition=partition, timestamp=timestamp_ms, on_delivery=check
            )
            self._producer.poll(0)
        assert self._producer.flush(TIMEOUT_SECONDS) == 0
        assert not refused

    def inbox(self, name: str) -> Inbox:
        return self._inboxes[name]

    def close(self) -> None:
        for inbox in self._inboxes.values():
            inbox.close()
