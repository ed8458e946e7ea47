"""A failed topic that a job has written in transactions, as it does with `kafka.delivery: exactly_once`."""

from common.config.loader import load
from common.domain import messages
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.replay import replay
from local.world import World
from tests.conftest import Topics
from tests.support.transactions import transaction


def failed_events(topic: str, *users: str) -> list[bytes]:
    return [
        messages.failed(topic, "AssessmentAggregator", b'{"userId":"%s"}' % user.encode(), "no course").value
        for user in users
    ]


def test_only_what_is_committed_is_replayed_and_each_of_it_once(world: World, topics: Topics, unique: str) -> None:
    environment = world.job_environment("jobs.assessment_aggregator") | {"AGGREGATES__KAFKA__ENV": f"replay-{unique}"}
    config = load(AssessmentAggregatorConfig, environ=environment)
    input_topic, failed_topic = config.kafka.topic(config.input_topic), config.kafka.topic(config.failed_topic)
    world.kafka.create_topics([input_topic, failed_topic], 1)

    transaction(world, failed_topic, failed_events(failed_topic, "u-1", "u-2")).commit_transaction(30)
    transaction(world, failed_topic, failed_events(failed_topic, "aborted")).abort_transaction(30)
    assert replay(config) == {"sent": 2}
    assert replay(config) == {}

    transaction(world, failed_topic, failed_events(failed_topic, "u-3")).commit_transaction(30)
    still_open = transaction(world, failed_topic, failed_events(failed_topic, "u-4"))
    assert replay(config) == {"sent": 1}
    still_open.commit_transaction(30)
    assert replay(config) == {"sent": 1}
    assert [message.value() for message in topics.read(input_topic)] == [
        b'{"userId":"u-%d"}' % number for number in range(1, 5)
    ]
