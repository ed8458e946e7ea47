"""Latency of a job at a steady rate of events."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from itertools import islice

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from benchmarks.load import LATENCY_SEED, Entry, Event, Load
from benchmarks.rows import cassandra_config
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from common.servers.kafka import partitions_of
from local.world import ENVIRONMENT, World

PROBE_SECONDS = 0.1
"""The time between two probes: events whose rows are polled."""
POLL_SECONDS = 0.02
POLL_SHARE = 0.1
"""A probe that has waited for long polls again after this share of that time. With the same interval for all, many
waiting probes would keep Cassandra busy, and a backlog that they measure would never end. So what takes longer than
0.2 s may be shown up to a tenth too long."""
TIMEOUT_SECONDS = 120.0
"""How long rows or messages may be missing after the last event. At half of the job's rate no backlog builds up."""
TICK_SECONDS = 0.01
"""The events that are due are produced together. One at a time they cost the generator and Kafka, which share their
cores with Cassandra, more CPU time than they cost Cassandra."""
LINGER_MS = 1
"""Enough for the events of a tick to be one request. It is part of the latency."""


async def latencies_to_rows(world: World, load: Load, topic: str, rate: float, seconds: float) -> list[float]:
    """Produces ``rate`` events/s for ``seconds`` and returns latencies in seconds.

    A latency is the time from the Kafka timestamp of an event until a query finds it in ``aggregates``. Only one event
    every PROBE_SECONDS is queried, and none in the first five seconds. Raises TimeoutError if an entry does not come,
    KafkaException if the broker refuses an event.
    """
    cassandra = Cassandra(cassandra_config(world), Metrics())
    await cassandra.open()
    statement = await cassandra.prepare(
        "SELECT aggregates[?] FROM sunbird_courses.user_activity_agg "
        "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
    )
    producer = _Producer(world, topic)
    # Generated in advance, so that generating events does not take CPU from the job.
    events = list(islice(load.events(LATENCY_SEED), round(rate * (seconds + 5))))
    latencies: list[float] = []
    probes: list[asyncio.Task[None]] = []

    async def is_applied(entry: Entry) -> bool:
        user_id, course_id, batch_id = entry.enrolment
        (rows,) = await cassandra.read(
            statement, [(entry.key, ACTIVITY_TYPE, course_id, user_id, context_id(batch_id))]
        )
        return any((value or 0) >= entry.at_least for (value,) in rows)

    async def probe(event: Event) -> None:
        assert event.entry is not None
        acknowledged = asyncio.get_running_loop().create_future()
        producer.produce(event, acknowledged.set_result)
        written_at = await acknowledged
        while not await is_applied(event.entry):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(max(POLL_SECONDS, POLL_SHARE * (time.time() - written_at)))
        latencies.append(time.time() - written_at)

    next_probe = time.perf_counter() + 5
    async for due in _ticks(events, rate):
        if time.perf_counter() >= next_probe:
            next_probe += PROBE_SECONDS
            probes.append(asyncio.create_task(probe(due.pop())))
        for event in due:
            producer.produce(event)
        producer.poll()
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while missing := sum(not task.done() for task in probes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{missing} of {len(probes)} events are not in aggregates after {TIMEOUT_SECONDS:g} s")
        producer.poll()
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.gather(*probes)
    producer.close()
    await cassandra.close()
    return latencies


async def latencies_to_messages(world: World, load: Load, topic: str, rate: float, seconds: float) -> list[float]:
    """Produces ``rate`` events/s for ``seconds`` and returns the latencies of all events, in seconds.

    A latency is the time between the Kafka timestamps of an event and of its message. The first five seconds are not
    counted. Raises TimeoutError if a message does not come, KafkaException if the broker refuses an event.
    """
    producer = _Producer(world, topic)
    consumer = Consumer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "latencies", "auto.offset.reset": "latest"}
    )
    output = f"{ENVIRONMENT}.{load.output_topic}"
    consumer.assign(
        [
            TopicPartition(output, found.partition, consumer.get_watermark_offsets(found)[1])
            for found in partitions_of(consumer, output, 30)
        ]
    )
    events = list(islice(load.events(LATENCY_SEED), round(rate * (seconds + 5))))
    written_at: dict[int, float] = {}
    async for due in _ticks(events, rate):
        for event in due:
            producer.produce(event, partial(written_at.__setitem__, _event_time_ms(event.value)))
        producer.poll()
    producer.close()
    sent_at = receive(consumer, len(events), TIMEOUT_SECONDS)
    consumer.close()
    first = min(written_at.values()) + 5
    return [sent_at[key] / 1000 - at for key, at in written_at.items() if at >= first]


def receive(consumer: Consumer, count: int, timeout_seconds: float) -> dict[int, int]:
    """The Kafka timestamps in ms of ``count`` messages by the times of their events.

    Messages with the same event time count once. Raises TimeoutError if not all of them come in time.
    """
    sent_at: dict[int, int] = {}
    deadline = time.monotonic() + timeout_seconds
    while len(sent_at) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count - len(sent_at)} of {count} events have no message after {timeout_seconds:g} s")
        for message in consumer.consume(1_000, timeout=0.5):
            if error := message.error():
                raise KafkaException(error)
            sent_at[_event_time_ms(message.value())] = message.timestamp()[1]
    return sent_at


class _Producer:
    """Produces events on a topic."""

    def __init__(self, world: World, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": LINGER_MS})
        self._topic = topic
        self._refused: list[KafkaError] = []

    def produce(self, event: Event, acknowledged: Callable[[float], object] | None = None) -> None:
        """Calls ``acknowledged`` with the Kafka timestamp in seconds, in a later :meth:`poll`."""

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._refused.append(error)
            elif acknowledged is not None:
                acknowledged(message.timestamp()[1] / 1000)

        self._producer.produce(self._topic, event.value, on_delivery=on_delivery)

    def poll(self) -> None:
        """Handles the answers that have come. Raises KafkaException if the broker has refused an event."""
        self._producer.poll(0)
        if self._refused:
            raise KafkaException(self._refused[0])

    def close(self) -> None:
        """Waits for all answers. Raises KafkaException as :meth:`poll` does."""
        self._producer.flush()
        self.poll()


async def _ticks(events: list[Event], rate: float) -> AsyncIterator[list[Event]]:
    """Every TICK_SECONDS the events that are due at so many events/s, at least one."""
    started = time.perf_counter()
    sent = 0
    while sent < len(events):
        due = max(sent + 1, round((time.perf_counter() - started) * rate))
        yield events[sent:due]
        sent = due
        await asyncio.sleep(TICK_SECONDS)


def _event_time_ms(value: bytes | str | None) -> int:
    assert value is not None
    return int(msgspec.json.decode(value)["ets"])
