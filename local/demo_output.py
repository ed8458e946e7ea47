"""Reads the messages that the jobs send during the demo, and shows how many there are."""

import time
from collections.abc import Mapping

import msgspec
from confluent_kafka import Consumer, Message, TopicPartition
from rich.console import Console
from rich.live import Live
from rich.table import Table

from common.domain import topics
from common.servers.kafka import partitions_of, watermarks
from local.errors import LocalWorldError
from local.world import World

REQUESTS, AUDITS = topics.ISSUE_CERTIFICATE_REQUEST, topics.TELEMETRY_RAW
CERTIFICATES = topics.GENERATE_CERTIFICATE_REQUEST
FAILED = tuple(topics.INPUT_OF)

TIMEOUT_SECONDS = 90.0
"""How long to wait for the next message. A slow machine may take longer in all, as long as messages arrive."""
POLL_SECONDS = 0.25


class OutputTopics:
    """Consumes the topics that the jobs write, from their current end."""

    def __init__(self, world: World, environment: str, console: Console) -> None:
        """The topics are those of ``environment``. ``console`` shows the progress."""
        self._environment = environment
        self._console = console
        self._consumer = Consumer(
            {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "demo", "log_level": 0}
        )
        self.messages: dict[str, list[Message]] = {topic: [] for topic in (REQUESTS, AUDITS, CERTIFICATES, *FAILED)}
        partitions = []
        for topic in self.messages:
            name = f"{self._environment}.{topic}"
            for found in partitions_of(self._consumer, name, 30):
                _, end = watermarks(self._consumer, found, 30)
                partitions.append(TopicPartition(name, found.partition, end))
        self._consumer.assign(partitions)

    def wait_for(self, expected: Mapping[str, int], what: str) -> None:
        """Shows the progress until each topic has at least the expected number of messages.

        ``what`` is the title. Raises LocalWorldError if no message arrives for TIMEOUT_SECONDS.
        """
        started = last_arrival = time.monotonic()
        with Live(console=self._console, refresh_per_second=4) as live:
            while True:
                arrived = self._consumer.consume(1_000, timeout=POLL_SECONDS)
                for message in arrived:
                    self.messages[message.topic().removeprefix(f"{self._environment}.")].append(message)
                now = time.monotonic()
                live.update(self._progress(expected, what, now - started))
                if all(self._count(topic) >= count for topic, count in expected.items()):
                    break
                if arrived:
                    last_arrival = now
                elif now - last_arrival > TIMEOUT_SECONDS:
                    raise LocalWorldError(
                        f"no message for {TIMEOUT_SECONDS:g} s: see the logs of the jobs in .local/flink"
                    )
        if not self._console.is_terminal:
            self._console.line()  # rich omits it without a terminal

    def _progress(self, expected: Mapping[str, int], what: str, seconds: float) -> Table:
        table = Table("topic", "messages", "expected", title=f"{what}, {seconds:.1f} s", title_justify="left")
        for topic, count in expected.items():
            table.add_row(f"{self._environment}.{topic}", str(self._count(topic)), str(count))
        return table

    def _count(self, topic: str) -> int:
        # Counted by learner: one with two requests in flight may get two messages.
        return len(certified_learners(self.messages)) if topic == CERTIFICATES else len(self.messages[topic])


def certified_learners(messages: Mapping[str, list[Message]]) -> set[str]:
    """The ids of the users for whom a certificate is requested from the generator. ``messages`` are by topic."""
    return {msgspec.json.decode(message.value())["edata"]["userId"] for message in messages[CERTIFICATES]}
