"""A failed topic goes back to its input topic: payload restored, key kept, nothing twice, nothing lost."""

import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from common.config.loader import load
from common.domain import messages
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.replay import main, replay
from local.world import World
from tests.conftest import Topics
from tests.support.assessment import Assessment, Learner
from tests.support.tables import Tables
from tests.support.waiting import wait_until

EVENTS = [b'{"userId":"u-1","score":7.50}', b'{"userId":"u-2","metadata":{"a":1}}', b"\xff not JSON"]
REASONS = ["course is missing", "course is missing", "not JSON"]


@pytest.fixture
def config(world: World, unique: str) -> AssessmentAggregatorConfig:
    env = f"replay-{unique}"
    config = load(
        AssessmentAggregatorConfig,
        environ={**world.job_environment("jobs.assessment_aggregator"), "AGGREGATES__KAFKA__ENV": env},
    )
    world.kafka.create_topics([config.kafka.topic(config.input_topic), config.kafka.topic(config.failed_topic)], 2)
    return config


def fail(topics: Topics, config: AssessmentAggregatorConfig) -> None:
    topic = config.kafka.topic(config.failed_topic)
    for event, reason in zip(EVENTS, REASONS, strict=True):
        message = messages.failed(topic, "AssessmentAggregator", event, reason)
        topics.produce(topic, [message.value], message.key)


def arrived(topics: Topics, config: AssessmentAggregatorConfig) -> list[tuple[Any, Any]]:
    received = topics.read(config.kafka.topic(config.input_topic))
    return sorted(((message.key(), message.value()) for message in received), key=repr)


def test_events_come_back_as_they_were_and_only_once(topics: Topics, config: AssessmentAggregatorConfig) -> None:
    fail(topics, config)
    assert replay(config, dry_run=True) == {"would be sent": 3}
    assert arrived(topics, config) == []
    assert replay(config) == {"sent": 3}
    expected = sorted(zip([b"u-1", b"u-2", None], EVENTS, strict=True), key=repr)
    assert arrived(topics, config) == expected
    assert replay(config) == {}
    assert arrived(topics, config) == expected
    fail(topics, config)
    assert replay(config) == {"sent": 3}


def test_only_events_with_the_reason(topics: Topics, config: AssessmentAggregatorConfig) -> None:
    fail(topics, config)
    topics.produce(config.kafka.topic(config.failed_topic), [b'{"userId":"u-3"}'])
    assert replay(config, "course is", dry_run=True) == {
        "would be sent": 2,
        "passed over": 1,
        "not of a failed topic": 1,
    }
    assert replay(config, "course is") == {"sent": 2, "passed over": 1, "not of a failed topic": 1}
    assert [value for _, value in arrived(topics, config)] == EVENTS[:2]
    assert replay(config, "course is") == {}
    # Each reason has its own place in the topic.
    assert replay(config, "not JSON") == {"sent": 1, "passed over": 2, "not of a failed topic": 1}
    assert {value for _, value in arrived(topics, config)} == set(EVENTS)
    assert replay(config) == {"sent": 3, "not of a failed topic": 1}


def test_only_events_that_failed_since_a_time(topics: Topics, config: AssessmentAggregatorConfig) -> None:
    fail(topics, config)
    failed_topic = config.kafka.topic(config.failed_topic)
    last = max(message.timestamp()[1] for message in topics.read(failed_topic))
    wait_until(lambda: time.time() * 1000 > last, "the clock has passed the time of the last event", 5)
    since_ms = last + 1
    assert replay(config, since_ms=since_ms, dry_run=True) == {}
    later = failed_event(config, b'{"userId":"u-4"}')
    topics.produce(failed_topic, [later])
    assert replay(config, since_ms=since_ms, dry_run=True) == {"would be sent": 1}
    assert replay(config, since_ms=since_ms) == {"sent": 1}
    assert [value for _, value in arrived(topics, config)] == [b'{"userId":"u-4"}']
    assert replay(config, since_ms=since_ms) == {}


def test_a_broker_that_refuses_an_event_gets_it_again(
    world: World, topics: Topics, config: AssessmentAggregatorConfig
) -> None:
    fail(topics, config)
    topics.produce(config.kafka.topic(config.failed_topic), [failed_event(config, b"x" * 1000)])
    limit_messages(world, config, "500")
    with pytest.raises(KafkaException, match="MSG_SIZE_TOO_LARGE"):
        replay(config)
    limit_messages(world, config, "1000000")
    # A partition that went through before the refusal has its place; the one that was refused goes again, whole.
    assert 1 <= replay(config)["sent"] <= 4
    assert replay(config) == {}
    assert {value for _, value in arrived(topics, config)} == {*EVENTS, b"x" * 1000}


def limit_messages(world: World, config: AssessmentAggregatorConfig, max_bytes: str) -> None:
    resource = ConfigResource(
        ConfigResource.Type.TOPIC,
        config.kafka.topic(config.input_topic),
        incremental_configs=[ConfigEntry("max.message.bytes", max_bytes, incremental_operation=AlterConfigOpType.SET)],
    )
    admin = world.kafka.admin()
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def failed_event(config: AssessmentAggregatorConfig, value: bytes) -> bytes:
    topic = config.kafka.topic(config.failed_topic)
    return messages.failed(topic, "AssessmentAggregator", value, "reason").value


def test_a_job_applies_what_has_come_back(
    world: World, assessment: Assessment, learner: Learner, tables: Tables
) -> None:
    leaf_nodes = f"{learner.course_id}:{learner.course_id}:leafnodes"
    event = learner.attempt("do_2", "a1", [(7.5, 10)])
    config = load(
        AssessmentAggregatorConfig,
        environ={**world.job_environment("jobs.assessment_aggregator"), "AGGREGATES__KAFKA__ENV": assessment.env},
    )
    with world.redis.client(db=10) as relations:
        relations.sadd(leaf_nodes, "do_1")
        assessment.send(event)
        assessment.failed(learner.user_id)
        relations.sadd(leaf_nodes, "do_2")
    counts = replay(config, learner.course_id)
    assert counts["sent"] == 1
    assessment.requests(learner, 1)
    assert tables.aggregates(learner).aggregates["score:do_2"] == 7.5
    assert len(assessment.failed(learner.user_id)) == 1


def test_the_command(
    topics: Topics,
    config: AssessmentAggregatorConfig,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in world.job_environment("jobs.assessment_aggregator").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGGREGATES__KAFKA__ENV", config.kafka.env)
    fail(topics, config)
    assert main(["--job", "assessment_aggregator"]) == 0
    assert capsys.readouterr().out == "3 sent\n"
    assert main(["--job", "assessment_aggregator"]) == 0
    assert capsys.readouterr().out == "nothing to replay\n"
    monkeypatch.setenv("AGGREGATES__KAFKA__ENV", "no-such-env")
    assert main(["--job", "assessment_aggregator"]) == 1
    assert capsys.readouterr().err.startswith("Kafka: ")
    with pytest.raises(SystemExit, match="2"):
        main(["--job", "assessment_aggregator", "--config", str(Path("no-such-file"))])
