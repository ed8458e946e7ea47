"""Latency of a job at a steady rate of events."""

import asyncio
import time
from itertools import islice

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from benchmarks.load import Entry, Event, Load
from benchmarks.rows import cassandra_config
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from local.world import ENVIRONMENT, World

PROBE_SECONDS = 0.1
"""The time between two probes: events whose rows are polled."""
POLL_SECONDS = 0.02
TIMEOUT_SECONDS = 120.0
"""How long rows or messages may be missing after the last event. At half of the job's rate no backlog builds up."""
LINGER_MS = 5
"""Without lingering, each event is a produce request, which costs Kafka more CPU than the event costs the job."""


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
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": LINGER_MS})
    # Generated in advance, so that generating events does not take CPU from the job.
    events = list(islice(load.events(seed=2), round(rate * (seconds + 5))))
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

        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                acknowledged.set_exception(KafkaException(error))
            else:
                acknowledged.set_result(message.timestamp()[1] / 1000)

        producer.produce(topic, event.value, on_delivery=on_delivery)
        written_at = await acknowledged
        while not await is_applied(event.entry):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(POLL_SECONDS)
        latencies.append(time.time() - written_at)

    started = time.perf_counter()
    next_probe = started + 5
    for number, event in enumerate(events):
        due = started + number / rate
        while (now := time.perf_counter()) < due:
            producer.poll(0)
            await asyncio.sleep(min(due - now, 0.002))
        if now >= next_probe:
            next_probe = now + PROBE_SECONDS
            probes.append(asyncio.create_task(probe(event)))
        else:
            producer.produce(topic, event.value)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while missing := sum(not task.done() for task in probes):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{missing} of {len(probes)} events are not in aggregates after {TIMEOUT_SECONDS:g} s")
        producer.poll(0)
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.gather(*probes)
    producer.flush()
    await cassandra.close()
    return latencies


async def latencies_to_messages(world: World, load: Load, topic: str, rate: float, seconds: float) -> list[float]:
    """Produces ``rate`` events/s for ``seconds`` and returns the latencies of all events, in seconds.

    A latency is the time between the Kafka timestamps of an event and of its message. The first five seconds are not
    counted. Raises TimeoutError if a message does not come, KafkaException if the broker refuses an event.
    """
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": LINGER_MS})
    consumer = Consumer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "latencies", "auto.offset.reset": "latest"}
    )
    output = f"{ENVIRONMENT}.{load.output_topic}"
    consumer.assign(
        [
            TopicPartition(output, number, consumer.get_watermark_offsets(TopicPartition(output, number))[1])
            for number in consumer.list_topics(output).topics[output].partitions
        ]
    )
    events = list(islice(load.events(seed=2), round(rate * (seconds + 5))))
    written_at: dict[int, int] = {}

    refused: list[KafkaError] = []

    def on_delivery(error: KafkaError | None, message: Message) -> None:
        if error is not None:
            refused.append(error)
        else:
            written_at[_event_time_ms(message)] = message.timestamp()[1]

    started = time.perf_counter()
    for number, event in enumerate(events):
        due = started + number / rate
        while (now := time.perf_counter()) < due:
            producer.poll(0)
            await asyncio.sleep(min(due - now, 0.002))
        producer.produce(topic, event.value, on_delivery=on_delivery)
    producer.flush()
    if refused:
        raise KafkaException(refused[0])
    sent_at = receive(consumer, len(events), TIMEOUT_SECONDS)
    consumer.close()
    first = min(written_at.values()) + 5_000
    return [(sent_at[key] - at) / 1000 for key, at in written_at.items() if at >= first]


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
            sent_at[_event_time_ms(message)] = message.timestamp()[1]
    return sent_at


def _event_time_ms(message: Message) -> int:
    return int(msgspec.json.decode(message.value())["ets"])
