"""A failed topic that a job has written in transactions, as it does with `kafka.delivery: exactly_once`."""

from collections.abc import Sequence

from confluent_kafka import Producer

from common.config.loader import load
from common.domain import messages
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.replay import replay
from local.world import World
from tests.conftest import Topics


def transaction(world: World, topic: str, users: Sequence[str]) -> Producer:
    """An open transaction with a failed event of each user. To be committed or aborted."""
    producer = Producer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "transactional.id": f"{topic}-{users[0]}", "log_level": 0}
    )
    producer.init_transactions(30)
    producer.begin_transaction()
    for user in users:
        message = messages.failed(topic, "AssessmentAggregator", b'{"userId":"%s"}' % user.encode(), "no course")
        producer.produce(topic, message.value)
    producer.flush(30)
    return producer


def test_only_what_is_committed_is_replayed_and_each_of_it_once(world: World, topics: Topics, unique: str) -> None:
    environment = world.job_environment("jobs.assessment_aggregator") | {"AGGREGATES__KAFKA__ENV": f"replay-{unique}"}
    config = load(AssessmentAggregatorConfig, environ=environment)
    input_topic, failed_topic = config.kafka.topic(config.input_topic), config.kafka.topic(config.failed_topic)
    world.kafka.create_topics([input_topic, failed_topic], 1)

    transaction(world, failed_topic, ["u-1", "u-2"]).commit_transaction(30)
    transaction(world, failed_topic, ["aborted"]).abort_transaction(30)
    assert replay(config) == {"sent": 2}
    assert replay(config) == {}

    transaction(world, failed_topic, ["u-3"]).commit_transaction(30)
    still_open = transaction(world, failed_topic, ["u-4"])
    assert replay(config) == {"sent": 1}
    still_open.commit_transaction(30)
    assert replay(config) == {"sent": 1}
    assert [message.value() for message in topics.read(input_topic)] == [
        b'{"userId":"u-%d"}' % number for number in range(1, 5)
    ]
