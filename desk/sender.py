"""Sends the desk's events to Kafka, and returns when the brokers have them."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from common.config.model import KafkaConfig
from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.servers.kafka import client_properties

_FLUSH_SECONDS = 30.0
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""As ``jobs.replay`` has it, which the desk may not import: what an input topic accepted once, it accepts again."""


def send(kafka: KafkaConfig, messages: Sequence[Message]) -> None:
    """Raises WorldFault if the brokers have not acknowledged every message; it says how many they have.

    A message that cannot be sent does not hold up the others.
    """
    name, delivered, refused = f"Kafka {kafka.bootstrap_servers}", 0, list[str]()

    def note(error: KafkaError | None, _: object) -> None:
        nonlocal delivered
        if error is None:
            delivered += 1
        else:
            refused.append(error.str())

    try:
        producer = Producer(
            {
                **client_properties(kafka),
                "enable.idempotence": True,
                "message.max.bytes": _MAX_MESSAGE_BYTES,
                "log_level": 0,
            }
        )
        for message in messages:
            try:
                producer.produce(message.topic, message.value, message.key, on_delivery=note)
            except (KafkaException, BufferError) as error:  # it is too large, or the queue is full
                refused.append(str(error.args[0]))
        producer.flush(_FLUSH_SECONDS)
    except KafkaException as error:
        raise WorldFault(f"{name}: {error.args[0]}") from error
    if delivered < len(messages):
        why = refused[0] if refused else f"no answer within {_FLUSH_SECONDS:g} s"
        raise WorldFault(f"{name}: {delivered} of {len(messages)} events were delivered: {why}")
