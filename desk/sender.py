"""Sends the desk's events to Kafka, and returns when the brokers have them."""

from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Producer

from common.config.model import KafkaConfig
from common.domain.faults import WorldFault
from common.domain.messages import Message
from common.servers.kafka import client_properties

_FLUSH_SECONDS = 30.0


def send(kafka: KafkaConfig, messages: Sequence[Message]) -> None:
    """Raises WorldFault if the brokers have not acknowledged every message."""
    refused: list[KafkaError] = []
    try:
        producer = Producer({**client_properties(kafka), "enable.idempotence": True, "log_level": 0})
        for message in messages:
            producer.produce(
                message.topic,
                message.value,
                message.key,
                on_delivery=lambda error, _: refused.append(error) if error else None,
            )
        left = producer.flush(_FLUSH_SECONDS)
    except KafkaException as error:
        raise WorldFault(f"Kafka {kafka.bootstrap_servers}: {error.args[0]}") from error
    if left or refused:
        why = refused[0].str() if refused else f"no answer within {_FLUSH_SECONDS:g} s"
        raise WorldFault(f"Kafka {kafka.bootstrap_servers}: the event was not delivered: {why}")
