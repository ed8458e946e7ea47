"""The events that learners send while servers fail, and the expected results. Plain values, no I/O.

The expected results are sets and sums over the events, computed independently of the rules in the jobs.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from common.domain import topics
from local import generator
from local.generator import Course

ATTEMPTS, COMPLETIONS = topics.ASSESS, topics.BATCH_JOB_REQUEST
FAILED_TOPIC = {ATTEMPTS: topics.ASSESS_FAILED, COMPLETIONS: topics.ACTIVITY_AGG_FAILED}

LEARNERS = 60
QUESTIONS = 10
"""The number of questions in an attempt, one point each."""
PASS_PERCENT = 75

_FIRST_TIME_MS = 1_715_657_560_000
_RECENT_EVENTS = 100
_ACTION = "batch-enrolment-update"


class Event(NamedTuple):
    """One record of an input topic. Its Kafka key is ``user_id``, so that the events of a learner stay in order."""

    topic: str
    user_id: str
    time_ms: int
    value: bytes


@dataclass
class Learner:
    """One learner, with the sums over the events so far."""

    user_id: str
    ability: float
    attempts: dict[str, dict[str, float]] = field(default_factory=dict)
    """Scores by attempt id, by content id."""
    counted_at: dict[str, int] = field(default_factory=dict)
    """The time in ms of the first event that completed each content, by content id."""
    completed_at: int | None = None
    """The time in ms of the event that completed the course."""

    @property
    def gets_certificate(self) -> bool:
        """Whether the learner has completed the course and has reached PASS_PERCENT in an attempt."""
        scores = [score for attempts in self.attempts.values() for score in attempts.values()]
        return self.completed_at is not None and max(scores, default=0) * 100 / QUESTIONS >= PASS_PERCENT


class Load:
    """An endless sequence of events, and the sums over those generated so far. Equal seeds give equal events."""

    def __init__(self, seed: int) -> None:
        """Different seeds share no courses and no learners."""
        self._source = random.Random(seed)
        self.course: Course = generator.course(seed)
        self.learners = [
            Learner(f"{self.course.course_id}-learner-{number}", self._source.uniform(0.3, 0.8))
            for number in range(LEARNERS)
        ]
        self.produced = Counter[tuple[str, int]]()
        """How often the event of a user and a time (ms) was generated. More messages than that are repeats."""
        self.failed: dict[str, set[bytes]] = {topic: set() for topic in FAILED_TOPIC.values()}
        """The events that must be on each failed topic."""
        self._recent: list[Event] = []
        self._number = 0

    def next_event(self) -> Event:
        """Generates the next event and adds it to the sums."""
        self._number += 1
        kinds: list[Callable[[int], Event]] = [self._attempt, self._completion, self._repeat, self._bad]
        (kind,) = self._source.choices(kinds, (45, 42, 8, 5))
        event = kind(_FIRST_TIME_MS + 1_000 * self._number)
        self.produced[event.user_id, event.time_ms] += 1
        return event

    def _attempt(self, time_ms: int) -> Event:
        learner = self._source.choice(self.learners)
        quiz = self._source.choice(self.course.quizzes)
        scores = [
            1.0 if self._source.random() < learner.ability else self._source.choice((0.0, 0.25, 0.5))
            for _ in range(QUESTIONS)
        ]
        attempts = learner.attempts.setdefault(quiz, {})
        event = generator.attempt(self.course, learner.user_id, quiz, len(attempts), scores, time_ms)
        attempts[event["attemptId"]] = sum(scores)
        return self._remember(Event(ATTEMPTS, learner.user_id, time_ms, generator.encode(event)))

    def _completion(self, time_ms: int) -> Event:
        learner = self._source.choice(self.learners)
        contents = self._source.sample(self.course.contents, self._source.randint(2, 5))
        for content_id in contents:
            learner.counted_at.setdefault(content_id, time_ms)
        if learner.completed_at is None and len(learner.counted_at) == len(self.course.contents):
            learner.completed_at = time_ms
        event = generator.completion(self.course, learner.user_id, contents, time_ms)
        return self._remember(Event(COMPLETIONS, learner.user_id, time_ms, generator.encode(event)))

    def _repeat(self, time_ms: int) -> Event:
        return self._source.choice(self._recent) if self._recent else self._attempt(time_ms)

    def _bad(self, time_ms: int) -> Event:
        topic = self._source.choice((ATTEMPTS, COMPLETIONS))
        identity = f"{self.course.course_id}-bad-{self._number}"
        event = generator.encode({"userId": identity, "edata": {"action": _ACTION, "userId": identity}})
        value = self._source.choice((event, event[:-1]))
        self.failed[FAILED_TOPIC[topic]].add(value)
        return Event(topic, identity, time_ms, value)

    def _remember(self, event: Event) -> Event:
        self._recent = [*self._recent[1 - _RECENT_EVENTS :], event]
        return event
