"""Messages to Kafka. Nobody is told that an attempt was captured before the brokers have acknowledged it."""

import asyncio
import threading
from collections.abc import Sequence

from confluent_kafka import KafkaException, Producer
from confluent_kafka import Message as Delivered

from common.config.model import KafkaConfig
from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.servers.kafka import client_properties

_POLL_SECONDS = 0.1
_PING_TIMEOUT_SECONDS = 2.0
"""A health check that waits longer would delay the end of the process."""


class Publisher:
    """A producer whose deliveries are awaited. Created, used and closed in one event loop."""

    def __init__(self, kafka: KafkaConfig, timeout_ms: int, max_message_in_bytes: int) -> None:
        """Connects in the background. ``timeout_ms`` is the time for a message with all its retries."""
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

    async def publish(self, messages: Sequence[Message]) -> None:
        """Returns when the brokers have acknowledged all messages.

        Raises WorldFault if one was not delivered. Others may have been delivered then.
        """
        if not messages:
            return
        deliveries = [self._produce(message) for message in messages]
        # Waits for all of them even if one fails: an error that nobody awaits would only be logged.
        outcomes = await asyncio.gather(*deliveries, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def _produce(self, message: Message) -> "asyncio.Future[None]":
        delivery: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: object, _: Delivered) -> None:
            self._loop.call_soon_threadsafe(_settle, delivery, error)

        try:
            self._producer.produce(message.topic, message.value, message.key, on_delivery=on_delivery)
        except (BufferError, KafkaException) as error:
            _settle(delivery, error)
        return delivery

    async def ping(self) -> None:
        """Raises WorldFault if no broker answers within 2 s."""
        try:
            await asyncio.to_thread(self._producer.list_topics, timeout=_PING_TIMEOUT_SECONDS)
        except KafkaException as error:
            raise WorldFault(f"Kafka: {error}") from error

    async def close(self) -> None:
        """Waits for the messages in flight, then ends."""
        await asyncio.to_thread(self._producer.flush, self._timeout_ms / 1000)
        self._is_closing.set()
        await asyncio.to_thread(self._thread.join)

    def _poll(self) -> None:
        while not self._is_closing.is_set():
            self._producer.poll(_POLL_SECONDS)


def _settle(delivery: "asyncio.Future[None]", error: object) -> None:
    if delivery.done():
        return  # its request has timed out
    if error is None:
        delivery.set_result(None)
    else:
        delivery.set_exception(WorldFault(f"Kafka: {error}"))
