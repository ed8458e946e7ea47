"""What the oracle of the chaos runs expects is what the rules of the jobs decide, in every order of the events.

The two share no code. So a wrong expectation shows up here, in seconds and without servers.
"""

import random

import pytest

from chaos.load import FAILED_TOPIC, Event, Load
from chaos.oracle import AUDITS, CERTIFICATES, REQUESTS, compare
from chaos.sent import SentMessages
from tests.support.rules_pipeline import Pipeline

EVENTS = 300


def _in_another_order(load: Load, events: list[Event], source: random.Random) -> list[Event]:
    """The events of learners that are spread over the partitions, overtaken by later ones. The others stay in order."""
    spread = {learner.user_id for learner in load.learners if learner.is_spread}
    positions = [position for position, event in enumerate(events) if event.user_id in spread]
    moved = sorted(positions, key=lambda position: position + source.uniform(0, EVENTS / 4))
    shuffled = list(events)
    for position, origin in zip(positions, moved, strict=True):
        shuffled[position] = events[origin]
    return shuffled


@pytest.mark.parametrize("seed", range(1, 7))
@pytest.mark.parametrize("is_in_order", [True, False], ids=["as sent", "in another order"])
def test_what_the_rules_decide_is_right(seed: int, is_in_order: bool) -> None:
    load = Load(seed, cohort=4)
    events = [load.next_event() for _ in range(EVENTS)]
    pipeline = Pipeline(load)
    for event in events if is_in_order else _in_another_order(load, events, random.Random(seed)):
        pipeline.apply(event)
    sending = SentMessages()
    for message in pipeline.sent:
        sending.add(message.topic, message.value)
    observed = sending.of(load)
    observed.values, observed.written = pipeline.observed.values, pipeline.observed.written
    assert compare(load, observed) == []
    assert sending.repeats(load) == 0


@pytest.mark.parametrize("topic", [AUDITS, REQUESTS, CERTIFICATES, *FAILED_TOPIC.values()])
def test_a_message_that_was_sent_again_is_a_repeat(topic: str) -> None:
    load = Load(1, cohort=4)
    pipeline = Pipeline(load)
    sending = SentMessages()
    # More than once around the cohort, so that somebody gets a certificate.
    while not any(message.topic == topic for message in pipeline.sent):
        pipeline.apply(load.next_event())
    for message in pipeline.sent:
        sending.add(message.topic, message.value)
    assert sending.repeats(load) == 0
    again = next(message for message in reversed(pipeline.sent) if message.topic == topic)
    sending.add(again.topic, again.value)
    assert sending.repeats(load) == 1
