"""Messages to Kafka, each known to be with the broker before anybody is told that it was captured."""

import asyncio
import threading
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException, Message, Producer

from common.config.model import KafkaConfig
from common.domain.faults import WorldFault
from common.servers.kafka import client_properties

_POLL_SECONDS = 0.1


class Record(NamedTuple):
    """A message; its key is the user id, so that a user's attempts keep their order."""

    topic: str
    key: str
    value: bytes


class Publisher:
    """A producer whose deliveries are awaited in one event loop. ``start`` and ``close`` it there."""

    def __init__(self, kafka: KafkaConfig, timeout_ms: int, max_message_in_bytes: int) -> None:
        """Connects in the background. ``timeout_ms`` is that of a message with all its retries."""
        self._loop = asyncio.get_running_loop()
        self._timeout_ms = timeout_ms
        self._producer = Producer(
            client_properties(kafka)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 5,
                "delivery.timeout.ms": timeout_ms,
                "message.max.bytes": max_message_in_bytes,
            }
        )
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="kafka deliveries")
        self._thread.start()

    async def publish(self, records: Sequence[Record]) -> None:
        """Returns when the broker has acknowledged all. Raises WorldFault; some may have been delivered then."""
        if not records:
            return
        deliveries = [self._produce(record) for record in records]
        # Waits for all even if one fails, so that nobody is left without an ear.
        outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _produce(self, record: Record) -> "asyncio.Future[None]":
        delivery: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: object, _: Message) -> None:
            self._loop.call_soon_threadsafe(_settle, delivery, error)

        try:
            self._producer.produce(record.topic, record.value, record.key, on_delivery=on_delivery)
        except (BufferError, KafkaException) as error:
            _settle(delivery, error)
        return delivery

    async def ping(self) -> None:
        """Raises WorldFault if no broker answers."""
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=self._timeout_ms / 1000)
        except KafkaException as error:
            raise WorldFault(f"Kafka: {error}") from error

    async def close(self) -> None:
        """Waits for what is on its way, then ends."""
        await asyncio.to_thread(self._producer.flush, self._timeout_ms / 1000)
        self._is_closing.set()
        await asyncio.to_thread(self._thread.join)

    def _poll(self) -> None:
        while not self._is_closing.is_set():
            self._producer.poll(_POLL_SECONDS)


def _settle(delivery: "asyncio.Future[None]", error: object) -> None:
    if delivery.done():
        return  # who waited for it has run out of time
    if error is None:
        delivery.set_result(None)
    else:
        delivery.set_exception(WorldFault(f"Kafka: {error}"))
