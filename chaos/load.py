"""The events that learners send while servers fail. Plain values, no I/O.

A load remembers what it has sent. What must become of it is the business of the oracle.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from common.domain import messages, topics
from local import generator
from local.generator import Course

ATTEMPTS, COMPLETIONS, SYNCS = topics.ASSESS, topics.BATCH_JOB_REQUEST, topics.ENROLMENT_SYNC_REQUEST
CERTIFICATE_REQUESTS = topics.ISSUE_CERTIFICATE_REQUEST
"""A load itself sends only bad ones."""
FAILED_TOPIC = {
    ATTEMPTS: topics.ASSESS_FAILED,
    COMPLETIONS: topics.ACTIVITY_AGG_FAILED,
    SYNCS: topics.ACTIVITY_AGG_FAILED,
    CERTIFICATE_REQUESTS: topics.ISSUE_CERTIFICATE_FAILED,
}
JOB_OF_FAILED_TOPIC = {
    topics.ASSESS_FAILED: "AssessmentAggregator",
    topics.ACTIVITY_AGG_FAILED: "ActivityAggregateUpdater",
    topics.ISSUE_CERTIFICATE_FAILED: "CollectionCertPreProcessor",
}

COHORT = 16
"""The number of learners who are active at the same time."""
EVENTS_PER_LEARNER = 56
"""About as many, then the cohort has finished, and the next one begins. A wrong row of a learner who has finished stays
wrong; that of an active one would soon be written anew, from all of the learner's rows."""
COHORTS = 20

QUESTIONS = 10
"""The number of questions in an attempt, one point each."""
PASS_PERCENT = 75

_FIRST_TIME_MS = 1_715_657_560_000
_STEP_MS = 1_000
_LATE_MS = 300 * _STEP_MS + _STEP_MS // 2
"""How much earlier an event happened that was sent late. The half step keeps all times of a load distinct."""
_RECENT_EVENTS = 100
_OWN_METADATA = ({"tries": 36_893_488_147_419_103_233, "by": "Désirée"}, "an event may have any", {"src": "its own"})
"""What a bad event may have under the name under which the jobs give the reason. They keep it, digit for digit."""


class Event(NamedTuple):
    """One record of an input topic. ``key`` is its Kafka key."""

    topic: str
    key: str
    user_id: str
    time_ms: int
    value: bytes


class Submission(NamedTuple):
    """An attempt as it was sent: the number of the attempt, and the scores of its questions."""

    number: int
    scores: tuple[float, ...]
    time_ms: int
    has_several_choices: bool


class Completion(NamedTuple):
    """An event that says that contents are completed."""

    time_ms: int
    contents: tuple[str, ...]


class Refusal(NamedTuple):
    """What the failed topic must have about a bad event: how the reason begins, and the Kafka key."""

    reason: str
    key: bytes | None


@dataclass
class Learner:
    """One learner, and what was sent about the learner so far."""

    user_id: str
    ability: float
    is_spread: bool
    """Whether the learner's events are spread over the partitions, so that their order is not defined."""
    attempts: dict[str, dict[str, Submission]] = field(default_factory=dict)
    """By attempt id, by content id."""
    completions: list[Completion] = field(default_factory=list)
    """In the order in which they were sent."""
    recomputed_at: list[int] = field(default_factory=list)
    """The times (ms) of the requests to compute the learner's aggregates again."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing was sent about the learner."""
        return not (self.attempts or self.completions or self.recomputed_at)


class Load:
    """An endless sequence of events. Equal seeds give equal events."""

    def __init__(self, seed: int, cohort: int = COHORT) -> None:
        """Different seeds share no courses and no learners."""
        self._source = random.Random(seed)
        self._cohort = cohort
        self.course: Course = generator.course(seed)
        self.learners = [
            Learner(f"{self.course.course_id}-learner-{number}", self._source.uniform(0.3, 0.8), number % 2 == 1)
            for number in range(COHORTS * cohort)
        ]
        self.produced = Counter[tuple[str, int]]()
        """How often the event of a user and a time (ms) was generated. More messages than that are repeats."""
        self.failed: dict[str, dict[bytes, Refusal]] = {topic: {} for topic in FAILED_TOPIC.values()}
        """The events that must be on each failed topic."""
        self._recent: list[Event] = []
        self._number = 0

    def next_event(self) -> Event:
        """Generates the next event and remembers it."""
        self._number += 1
        kinds: list[Callable[[int], Event]] = [
            self._attempt,
            self._completion,
            self._sync,
            self._repeat,
            self._bad,
            self._recompute,
            self._other_action,
        ]
        (kind,) = self._source.choices(kinds, (40, 37, 5, 8, 5, 3, 2))
        time_ms = _FIRST_TIME_MS + _STEP_MS * self._number
        # Learners who were offline send what they did when they are online again.
        event = kind(time_ms - _LATE_MS if self._source.random() < 0.1 else time_ms)
        self.produced[event.user_id, event.time_ms] += 1
        return event

    def attempt_event(self, learner: Learner, content_id: str, submission: Submission) -> dict[str, Any]:
        """The event with which the attempt was sent."""
        number, scores, time_ms, has_several_choices = submission
        event = generator.attempt(self.course, learner.user_id, content_id, number, scores, time_ms)
        return generator.with_several_choices(event) if has_several_choices else event

    def _learner(self) -> Learner:
        first = self._number // (EVENTS_PER_LEARNER * self._cohort) % COHORTS * self._cohort
        return self._source.choice(self.learners[first : first + self._cohort])

    def _attempt(self, time_ms: int) -> Event:
        learner = self._learner()
        quiz = self._source.choice(self.course.quizzes)
        scores = tuple(
            1.0 if self._source.random() < learner.ability else self._source.choice((0.0, 0.25, 0.5))
            for _ in range(QUESTIONS)
        )
        attempts = learner.attempts.setdefault(quiz, {})
        submission = Submission(len(attempts), scores, time_ms, self._source.random() < 0.1)
        event = self.attempt_event(learner, quiz, submission)
        attempts[event["attemptId"]] = submission
        return self._remember(self._event(ATTEMPTS, learner, time_ms, event))

    def _completion(self, time_ms: int) -> Event:
        learner = self._learner()
        contents = tuple(self._source.sample(self.course.contents, self._source.randint(2, 5)))
        learner.completions.append(Completion(time_ms, contents))
        event = generator.completion(self.course, learner.user_id, contents, time_ms)
        return self._remember(self._event(COMPLETIONS, learner, time_ms, event))

    def _recompute(self, time_ms: int) -> Event:
        """Asks for the aggregates of an enrolment to be computed again from its stored attempts."""
        learner = self._learner()
        if not learner.attempts:
            return self._attempt(time_ms)
        learner.recomputed_at.append(time_ms)
        event = {
            "userId": learner.user_id,
            "courseId": self.course.course_id,
            "batchId": self.course.batch_id,
            "contentId": self._source.choice(list(learner.attempts)),
            "assessmentTs": time_ms,
            "events": [],
        }
        return self._event(ATTEMPTS, learner, time_ms, event)

    def _sync(self, time_ms: int) -> Event:
        """A sync changes nothing that completions have not changed, so the learner's history stays as it is."""
        learner, course = self._learner(), self.course
        request = messages.enrolment_sync(
            SYNCS, user_id=learner.user_id, course_id=course.course_id, batch_id=course.batch_id, time_ms=time_ms
        )
        return self._remember(self._record(SYNCS, learner, time_ms, request.value))

    def _other_action(self, time_ms: int) -> Event:
        """Another service's event on the same topic. Nothing may come of it."""
        learner = self._learner()
        event = generator.completion(self.course, learner.user_id, self.course.contents, time_ms)
        event["edata"]["action"] = "batch-enrolment-delete"
        return self._event(COMPLETIONS, learner, time_ms, event)

    def _repeat(self, time_ms: int) -> Event:
        return self._source.choice(self._recent) if self._recent else self._attempt(time_ms)

    def _bad(self, time_ms: int) -> Event:
        """An event that no job can apply: a field is missing or of the wrong type, or it is cut off."""
        topic = self._source.choice(list(FAILED_TOPIC))
        user_id = f"{self.course.course_id}-bad-{self._number}"
        event, reason = _bad_event(topic, user_id)
        if self._source.random() < 0.5:
            event = {"metadata": self._source.choice(_OWN_METADATA), **event}
        value, refusal = generator.encode(event), Refusal(reason, user_id.encode())
        if self._source.random() < 0.4:
            # No user id can be read.
            value, refusal = value[:-1], Refusal("event is not JSON: ", None)
        self.failed[FAILED_TOPIC[topic]][value] = refusal
        return Event(topic, user_id, user_id, time_ms, value)

    def _event(self, topic: str, learner: Learner, time_ms: int, event: dict[str, Any]) -> Event:
        return self._record(topic, learner, time_ms, generator.encode(event))

    def _record(self, topic: str, learner: Learner, time_ms: int, value: bytes) -> Event:
        key = f"{learner.user_id} {self._number}" if learner.is_spread else learner.user_id
        return Event(topic, key, learner.user_id, time_ms, value)

    def _remember(self, event: Event) -> Event:
        self._recent = [*self._recent[1 - _RECENT_EVENTS :], event]
        return event


def _bad_event(topic: str, user_id: str) -> tuple[dict[str, Any], str]:
    """An event that is bad on this topic, and how the reason begins."""
    if topic == ATTEMPTS:
        return {"userId": user_id, "edata": {}}, "event has no courseId: "
    if topic == CERTIFICATE_REQUESTS:
        request = {"action": "issue-certificate", "userIds": [user_id], "batchId": user_id, "courseId": 7}
        return {"edata": request}, "event has a wrong field: "
    action = "batch-enrolment-update" if topic == COMPLETIONS else "user-enrolment-sync"
    return {"edata": {"action": action, "userId": user_id}}, "event has no edata.courseId: "
