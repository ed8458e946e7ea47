"""A TaskManager that is killed twice under load: how often a reader sees each message, with either kind of delivery."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial

import pytest
from confluent_kafka import Consumer, TopicPartition

from local.errors import LocalWorldError
from local.flink import FREQUENT_CHECKPOINTS
from local.flink_client import FlinkClient
from local.process import start_ended
from local.world import World
from tests.support.assessment import REQUESTS, Assessment, Learner
from tests.support.strategies import T0
from tests.support.waiting import wait_until

MODULE = "jobs.assessment_aggregator"
LEARNERS = 100
EVENTS_PER_SECOND = 60
START_SECONDS = 300
"""A bound that only a failing test reaches. On a busy machine a Python worker starts in two minutes."""
OPTIONS = {
    **FREQUENT_CHECKPOINTS,
    "restart-strategy.exponential-delay.initial-backoff": "200 ms",
    "restart-strategy.exponential-delay.max-backoff": "1 s",
}
EXACTLY_ONCE = {"execution.checkpointing.mode": "EXACTLY_ONCE"}


@dataclass(frozen=True, slots=True)
class Delivered:
    """What readers with both levels of isolation have seen, by the ids of messages."""

    committed: Counter[str]
    uncommitted: Counter[str]
    sent_at_ms: dict[str, int]
    """When each was sent for the first time."""


class Load:
    """A steady stream of attempts. Each causes one certificate request with an id of its own."""

    def __init__(self, topics: Assessment, unique: str) -> None:
        self._topics = topics
        self._learners = [Learner.unique(f"{unique}-{number}") for number in range(LEARNERS)]
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
        topic = topics.topic(REQUESTS)
        self._consumer = Consumer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "group.id": "reader",
                "isolation.level": isolation_level,
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, 0, 0)])
        self.ids = Counter[str]()
        """How often each message was seen, by its id."""
        self.sent_at_ms: dict[str, int] = {}
        """When each message was sent for the first time."""

    def read(self, timeout_seconds: float = 0.2) -> int:
        """Reads what has come; returns how many messages that was."""
        messages = self._consumer.consume(1000, timeout=timeout_seconds)
        for message in messages:
            assert message.error() is None, message.error()
            mid = json.loads(message.value())["mid"]
            self.ids[mid] += 1
            self.sent_at_ms.setdefault(mid, message.timestamp()[1])
        return len(messages)

    def has_read(self, count: int) -> bool:
        """Whether it has seen as many different messages, with those that have come now."""
        self.read()
        return len(self.ids) >= count

    def read_all(self) -> None:
        """When nothing is sent any more."""
        while self.read(timeout_seconds=3):
            pass

    def close(self) -> None:
        self._consumer.close()


@contextmanager
def running_job(world: World, topics: Assessment, delivery: str) -> Iterator[str]:
    environment = {"AGGREGATES__KAFKA__ENV": topics.env, "AGGREGATES__KAFKA__DELIVERY": delivery}
    options = OPTIONS | (EXACTLY_ONCE if delivery == "exactly_once" else {})
    job = world.submit(MODULE, parallelism=2, options=options, environment=environment)
    try:
        world.flink.client.wait_until_running(job, START_SECONDS)
        yield job
    finally:
        start_ended(world.flink.servers)
        world.flink.client.cancel(job)


def last_checkpoint_ms(client: FlinkClient, job: str) -> int:
    """When the last completed checkpoint was triggered."""
    return int(client.get(f"/jobs/{job}/checkpoints")["latest"]["completed"]["trigger_timestamp"])


def wait_until_something_would_repeat(client: FlinkClient, job: str, uncommitted: Reader) -> int:
    """Waits for a message that was sent after the last checkpoint was triggered. Returns when that was, in ms."""
    checkpoint_ms = 0

    def is_sent() -> bool:
        nonlocal checkpoint_ms
        uncommitted.read(timeout_seconds=0.05)
        checkpoint_ms = last_checkpoint_ms(client, job)
        return max(uncommitted.sent_at_ms.values(), default=0) > checkpoint_ms

    wait_until(is_sent, "a message is sent after a checkpoint", 120)
    return checkpoint_ms


def kill_twice(world: World, topics: Assessment, unique: str, delivery: str) -> tuple[Delivered, list[range]]:
    """What was delivered, and of each kill the time in ms from the last checkpoint's trigger to the kill."""
    client = world.flink.client
    kills: list[range] = []
    with (
        closing(Reader(world, topics, "read_committed")) as committed,
        closing(Reader(world, topics, "read_uncommitted")) as uncommitted,
        running_job(world, topics, delivery) as job,
    ):
        with Load(topics, unique) as load:
            for _ in range(2):
                client.wait_until_running(job, START_SECONDS, checkpoints=2)
                committed.read()
                enough = len(committed.ids) + EVENTS_PER_SECOND
                wait_until(partial(committed.has_read, enough), "messages come", 120)
                checkpoint_ms = wait_until_something_would_repeat(client, job, uncommitted)
                world.flink.task_managers[0].kill()
                kills.append(range(checkpoint_ms, time.time_ns() // 1_000_000 + 1))
                world.flink.task_managers[0].start()
            client.wait_until_running(job, START_SECONDS, checkpoints=2)
        wait_until(partial(committed.has_read, load.sent), "all messages can be read", 180)
        # What was sent once more would be committed by now.
        client.wait_until_running(job, 60, checkpoints=2)
        committed.read_all()
        wait_until(partial(uncommitted.has_read, load.sent), "all messages can be read", 60)
        uncommitted.read_all()
    delivered = Delivered(committed.ids, uncommitted.ids, uncommitted.sent_at_ms)
    assert len(delivered.committed) == load.sent
    print(
        f"{delivery}: {load.sent} events; repeats: {delivered.committed.total() - load.sent} for read_committed, "
        f"{delivered.uncommitted.total() - load.sent} for read_uncommitted; from the last checkpoint to each kill "
        f"{' and '.join(str(len(kill)) for kill in kills)} ms"
    )
    return delivered, kills


@pytest.fixture
def topics(mortal_world: World) -> Iterator[Assessment]:
    with closing(Assessment(mortal_world)) as topics:
        yield topics


def test_exactly_once_a_reader_of_what_is_committed_sees_each_message_once(
    mortal_world: World, topics: Assessment, unique: str
) -> None:
    delivered, _ = kill_twice(mortal_world, topics, unique, "exactly_once")
    assert set(delivered.committed.values()) == {1}


def test_at_least_once_repeats_are_no_more_than_was_sent_since_the_last_checkpoint(
    mortal_world: World, topics: Assessment, unique: str
) -> None:
    """Each repeat has the id of the first message: otherwise there would be more ids than events."""
    delivered, kills = kill_twice(mortal_world, topics, unique, "at_least_once")
    repeats = [mid for mid, count in delivered.committed.items() if count > 1]
    assert repeats
    assert all(any(delivered.sent_at_ms[mid] in kill for kill in kills) for mid in repeats)
    assert max(delivered.committed.values()) <= 2


def test_exactly_once_without_aligned_checkpoints_stops_the_start(mortal_world: World, topics: Assessment) -> None:
    environment = {"AGGREGATES__KAFKA__ENV": topics.env, "AGGREGATES__KAFKA__DELIVERY": "exactly_once"}
    with pytest.raises(LocalWorldError, match=r"execution\.checkpointing\.mode is AT_LEAST_ONCE"):
        mortal_world.submit(MODULE, options=OPTIONS, environment=environment)
