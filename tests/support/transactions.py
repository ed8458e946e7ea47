"""Messages that somebody else sends in transactions, as a job does with `kafka.delivery: exactly_once`."""

import uuid
from collections.abc import Sequence

from confluent_kafka import Producer

from local.world import World
from tests.support.waiting import TIMEOUT_SECONDS


def transaction(world: World, topic: str, values: Sequence[bytes]) -> Producer:
    """An open transaction with these values, which the broker has, in the first partition.

    To be committed or aborted.
    """
    producer = Producer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "transactional.id": str(uuid.uuid4()), "log_level": 0}
    )
    producer.init_transactions(TIMEOUT_SECONDS)
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(TIMEOUT_SECONDS) == 0
    return producer
