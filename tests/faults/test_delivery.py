"""A TaskManager that is killed under load: how often a reader sees each message, with either kind of delivery.

Two jobs, one of each kind, run on it side by side.
"""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial

import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from common.servers.kafka import watermarks
from local.errors import LocalWorldError
from local.flink import ALIGNED_CHECKPOINTS, FREQUENT_CHECKPOINTS, submit_all
from local.flink_client import FlinkClient
from local.process import start_ended
from local.world import World
from tests.support.assessment import REQUESTS, Assessment, Learner
from tests.support.strategies import T0
from tests.support.waiting import wait_until

MODULE = "jobs.assessment_aggregator"
LEARNERS = 1_000
EVENTS_PER_SECOND = 60
"""Of each job."""
START_SECONDS = 300
"""A bound that only a failing test reaches. On a busy machine a Python worker starts in two minutes."""
OPTIONS = {
    **FREQUENT_CHECKPOINTS,
    "restart-strategy.exponential-delay.initial-backoff": "200 ms",
    "restart-strategy.exponential-delay.max-backoff": "1 s",
}


class Load:
    """A steady stream of attempts. Each causes one certificate request with an id of its own."""

    def __init__(self, topics: Assessment) -> None:
        self._topics = topics
        self._learners = [Learner.unique(f"{topics.env}-{number}") for number in range(LEARNERS)]
        self._thread = threading.Thread(target=self._run)
        self._ends = threading.Event()
        self.sent = 0

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._ends.wait(0.05):
            due = int((time.monotonic() - started) * EVENTS_PER_SECOND)
            numbers = range(self.sent, due)
            self._topics.send(
                *(
                    self._learners[number % LEARNERS].attempt("do_1", f"a{number}", [(1, 2)], T0 + number)
                    for number in numbers
                )
            )
            self.sent += len(numbers)


class Reader:
    """Reads the certificate requests from the beginning."""

    def __init__(self, world: World, topics: Assessment, isolation_level: str) -> None:
        self._partition = TopicPartition(topics.topic(REQUESTS), 0, 0)
        self._read_to = 0
        self._consumer = Consumer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "group.id": "reader",
                "isolation.level": isolation_level,
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "log_level": 0,
            }
        )
        self._consumer.assign([self._partition])
        self.ids = Counter[str]()
        """How often each message was seen, by its id."""
        self.sent_at_ms: dict[str, int] = {}
        """When each message was sent for the first time."""

    def read(self, timeout_seconds: float = 0.2) -> None:
        """Reads what has come."""
        for message in self._consumer.consume(1000, timeout=timeout_seconds):
            if error := message.error():
                assert error.code() == KafkaError._PARTITION_EOF, error
                # Behind the marks of transactions, which are no messages.
                self._read_to = message.offset()
                continue
            self._read_to = message.offset() + 1
            mid = json.loads(message.value())["mid"]
            self.ids[mid] += 1
            self.sent_at_ms.setdefault(mid, message.timestamp()[1])

    def has_read(self, count: int) -> bool:
        """Whether it has seen as many different messages, with those that have come now."""
        self.read()
        return len(self.ids) >= count

    def read_all(self) -> None:
        """When nothing is sent any more."""
        _, end = watermarks(self._consumer, self._partition, 60)

        def is_read() -> bool:
            self.read()
            return self._read_to >= end

        wait_until(is_read, f"{self._partition.topic} is read up to {end}", 120)

    def close(self) -> None:
        self._consumer.close()


def last_checkpoint(client: FlinkClient, job: str) -> range:
    """From the trigger of the last completed checkpoint to its end, in ms."""
    completed = client.get(f"/jobs/{job}/checkpoints")["latest"]["completed"]
    trigger_ms = int(completed["trigger_timestamp"])
    return range(trigger_ms, trigger_ms + int(completed["end_to_end_duration"]))


class Delivery:
    """A job with one kind of delivery, its load, and readers with both levels of isolation."""

    def __init__(self, world: World, delivery: str, stack: ExitStack) -> None:
        self._world = world
        self._delivery = delivery
        self._topics = stack.enter_context(closing(Assessment(world)))
        self.load = Load(self._topics)
        self.committed, self.uncommitted = (
            stack.enter_context(closing(Reader(world, self._topics, isolation_level)))
            for isolation_level in ("read_committed", "read_uncommitted")
        )
        self.seen: set[str] = set()
        """The ids that were read before the kill."""
        self.checkpoint = range(0)
        """The last one before the kill."""
        self.killed_ms = 0

    def submit(self) -> str:
        environment = {"AGGREGATES__KAFKA__ENV": self._topics.env, "AGGREGATES__KAFKA__DELIVERY": self._delivery}
        options = OPTIONS | (ALIGNED_CHECKPOINTS if self._delivery == "exactly_once" else {})
        return self._world.submit(MODULE, parallelism=2, options=options, environment=environment)

    def would_repeat(self, job: str) -> bool:
        """Whether a message was sent after the last checkpoint had completed."""
        self.uncommitted.read(timeout_seconds=0.05)
        self.seen = set(self.uncommitted.ids)
        completed_ms = last_checkpoint(self._world.flink.client, job).stop
        return max(self.uncommitted.sent_at_ms.values(), default=0) > completed_ms

    def read_all(self) -> None:
        """When the load has ended: what is committed, and then what was sent."""
        for reader in (self.committed, self.uncommitted):
            wait_until(partial(reader.has_read, self.load.sent), "all messages can be read", 180)
            reader.read_all()
        assert len(self.committed.ids) == self.load.sent
        print(
            f"{self._delivery}: {self.load.sent} events; "
            f"repeats: {self.committed.ids.total() - self.load.sent} for read_committed, "
            f"{self.uncommitted.ids.total() - self.load.sent} for read_uncommitted; "
            f"from the last checkpoint to the kill {self.killed_ms - self.checkpoint.start} ms"
        )


@pytest.fixture(scope="module")
def deliveries(mortal_world: World) -> Iterator[Mapping[str, Delivery]]:
    """Both kinds, after a kill."""
    client = mortal_world.flink.client
    with ExitStack() as stack:
        # The one that repeats comes last: its last checkpoint is then looked at right before the kill.
        deliveries = {name: Delivery(mortal_world, name, stack) for name in ("exactly_once", "at_least_once")}
        jobs = submit_all({name: each.submit for name, each in deliveries.items()}, client.cancel_all)
        try:
            kill(mortal_world, deliveries, jobs)
        finally:
            start_ended(mortal_world.flink.servers)
            client.cancel_all(jobs.values())
        yield deliveries


def kill(world: World, deliveries: Mapping[str, Delivery], jobs: Mapping[str, str]) -> None:
    """Under load, and when something would repeat. Then everything is read."""
    client = world.flink.client
    for job in jobs.values():
        client.wait_until_running(job, START_SECONDS)
    with ExitStack() as loads:
        for each in deliveries.values():
            loads.enter_context(each.load)
        for each in deliveries.values():
            # Behind a checkpoint, where messages are sent exactly once.
            wait_until(partial(each.committed.has_read, EVENTS_PER_SECOND), "messages come", START_SECONDS)
        for job in jobs.values():
            client.wait_until_running(job, START_SECONDS, checkpoints=1)
        wait_until(
            lambda: all(each.would_repeat(jobs[name]) for name, each in deliveries.items()),
            "messages are sent after the checkpoints",
            120,
        )
        world.flink.task_managers[0].kill()
        for name, each in deliveries.items():
            each.killed_ms = time.time_ns() // 1_000_000
            # Without a TaskManager no other one completes.
            each.checkpoint = last_checkpoint(client, jobs[name])
    # Without load: on a busy machine, what comes during a long recovery would take longer still.
    world.flink.task_managers[0].start()
    for job in jobs.values():
        client.wait_until_running(job, START_SECONDS, checkpoints=1)
    for each in deliveries.values():
        wait_until(partial(each.committed.has_read, each.load.sent), "all messages can be read", START_SECONDS)
    for job in jobs.values():
        # What was sent once more would be committed by now.
        client.wait_until_running(job, START_SECONDS, checkpoints=2)
    for each in deliveries.values():
        each.read_all()


def test_exactly_once_a_reader_of_what_is_committed_sees_each_message_once(
    deliveries: Mapping[str, Delivery],
) -> None:
    assert set(deliveries["exactly_once"].committed.ids.values()) == {1}


def test_at_least_once_repeats_are_no_more_than_was_sent_since_the_last_checkpoint(
    deliveries: Mapping[str, Delivery],
) -> None:
    """Each repeat has the id of the first message: otherwise there would be more ids than events."""
    delivery = deliveries["at_least_once"]
    repeats = {mid for mid, count in delivery.committed.ids.items() if count > 1}
    sent_at_ms = delivery.uncommitted.sent_at_ms
    # Usually some. None if a checkpoint has completed in the moment before the kill.
    assert repeats >= {mid for mid in delivery.seen if sent_at_ms[mid] > delivery.checkpoint.stop}
    assert all(delivery.checkpoint.start <= sent_at_ms[mid] <= delivery.killed_ms for mid in repeats)
    assert max(delivery.committed.ids.values()) <= 2


def test_exactly_once_without_aligned_checkpoints_stops_the_start(mortal_world: World) -> None:
    environment = {"AGGREGATES__KAFKA__DELIVERY": "exactly_once"}
    with pytest.raises(LocalWorldError, match=r"execution\.checkpointing\.mode is AT_LEAST_ONCE"):
        mortal_world.submit(MODULE, options=OPTIONS, environment=environment)
