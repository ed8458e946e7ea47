"""A failed topic goes back to its input topic: payload restored, key kept, nothing twice, nothing lost."""

from pathlib import Path
from typing import Any

import pytest

from common import messages
from common.config import load
from common.events import BadEvent
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.replay import main, replay
from local.world import World
from tests.conftest import Topics

EVENTS = [b'{"userId":"u-1","score":7.50}', b'{"userId":"u-2","metadata":{"a":1}}', b"\xff not JSON"]
REASONS = ["course is missing", "course is missing", "not JSON"]


@pytest.fixture
def config(world: World, unique: str) -> AssessmentAggregatorConfig:
    env = f"replay-{unique}"
    config = load(AssessmentAggregatorConfig, environ={**world.job_environment(), "AGGREGATES__KAFKA__ENV": env})
    world.kafka.create_topics([config.kafka.topic(config.input_topic), config.kafka.topic(config.failed_topic)], 2)
    return config


def fail(topics: Topics, config: AssessmentAggregatorConfig) -> None:
    topic = config.kafka.topic(config.failed_topic)
    for event, reason in zip(EVENTS, REASONS, strict=True):
        message = messages.failed(topic, "AssessmentAggregator", event, BadEvent("kind", reason))
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
    assert replay(config, "course is") == {"sent": 2, "passed over": 1, "not of a failed topic": 1}
    assert [value for _, value in arrived(topics, config)] == EVENTS[:2]


def test_the_command(
    topics: Topics,
    config: AssessmentAggregatorConfig,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in world.job_environment().items():
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
