"""What the oracle of the chaos runs expects is what the rules of the jobs decide, in every order of the events.

The two share no code. So a wrong expectation shows up here, in seconds and without servers.
"""

import random
from dataclasses import replace

import pytest

from chaos.load import FAILED_TOPIC, Event, Load
from chaos.oracle import AUDITS, CERTIFICATES, REQUESTS, Kind, Observed, compare
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
    sending = _sending(pipeline)
    assert compare(load, _observed(load, pipeline, sending)) == []
    assert sending.repeats(load) == 0


@pytest.mark.parametrize("seed", range(1, 11))
def test_what_is_decided_later_and_again_after_crashes_is_right(seed: int) -> None:
    """Requests are handled at any time later. Events whose rows were written are applied again, with others."""
    load, source = Load(seed, cohort=4), random.Random(seed)
    sent = [load.next_event() for _ in range(EVENTS)]
    events = _in_another_order(load, sent, source) if seed % 2 else sent
    pipeline = Pipeline(load, delays=source)
    position = 0
    while position < len(events):
        if source.random() < 0.1:
            for event in events[position : position + source.randint(1, 6)]:
                pipeline.crash(event)
            position = max(0, position - source.randint(0, 10))
        pipeline.apply(events[position])
        position += 1
    pipeline.finish()
    observed = _observed(load, pipeline, _sending(pipeline))
    assert compare(load, observed) == []
    # Those that must be there are missed, each by itself.
    due = 0
    for certificate in observed.certificates:
        others = [other for other in observed.certificates if other is not certificate]
        problems = compare(load, replace(observed, certificates=others))
        assert [problem.kind for problem in problems] in ([], [Kind.MISSING_CERTIFICATE])
        due += len(problems)
    users = {sent.user_id for sent in observed.certificates}
    assert due >= len(users) > 0
    every_second = replace(observed, certificates=observed.certificates[::2])
    assert Kind.MISSING_CERTIFICATE in {problem.kind for problem in compare(load, every_second)}


def _sending(pipeline: Pipeline) -> SentMessages:
    """The messages of the pipeline, of which each was appended a ms after the one before."""
    sending = SentMessages()
    for number, message in enumerate(pipeline.sent):
        sending.add(message.topic, message.value, message.key, number)
    return sending


def _observed(load: Load, pipeline: Pipeline, sending: SentMessages) -> Observed:
    observed = sending.of(load)
    observed.values, observed.written = pipeline.observed.values, pipeline.observed.written
    return observed


@pytest.mark.parametrize("topic", [AUDITS, REQUESTS, CERTIFICATES, *FAILED_TOPIC.values()])
def test_a_message_that_was_sent_again_is_a_repeat(topic: str) -> None:
    load = Load(1, cohort=4)
    pipeline = Pipeline(load)
    # More than once around the cohort, so that somebody gets a certificate.
    while not any(message.topic == topic for message in pipeline.sent):
        pipeline.apply(load.next_event())
    sending = _sending(pipeline)
    assert sending.repeats(load) == 0
    again = next(message for message in reversed(pipeline.sent) if message.topic == topic)
    sending.add(again.topic, again.value, again.key)
    assert sending.repeats(load) == 1
