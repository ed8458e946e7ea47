"""The data of `make demo`: a course, its learners, their events, and the expected results. Plain values, no I/O.

The expected results are computed here as sums and maxima over the events, independently of the rules in the jobs.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.domain import topics
from local import generator
from local.expected import content_aggregates

_DAY_MS = 86_400_000
_START_MS = 1_715_657_560_000
ENROLLED_MS = _START_MS - _DAY_MS
"""When all learners were enrolled, in ms: before the first event."""
CROWD = 150
"""The number of learners without a story of their own. Their results are checked, too."""


@dataclass(slots=True)
class Learner:
    """One learner: the row that the old job has written, the learner's activity, and the expected results."""

    user_id: str
    name: str
    about: str
    old_agg: Mapping[str, int] = field(default_factory=dict)
    """The old column `agg`, written by the Scala job: whole numbers."""
    attempts: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Pairs of score and maximum score of the distinct attempts, by content, in the order in which they were made."""
    completed: set[str] = field(default_factory=set)
    gets_certificate: bool = False

    def expected_aggregates(self, course: generator.Course) -> dict[str, float]:
        """The expected column `aggregates` of the learner's row for the course."""
        expected: dict[str, float] = {}
        for content_id, scores in self.attempts.items():
            expected |= content_aggregates(content_id, scores)
        if self.completed:
            expected["completedCount"] = float(len(self.completed & set(course.contents)))
        return expected


@dataclass(frozen=True, slots=True)
class Story:
    """All data that is written before the jobs start, the events, and the expected counts."""

    course: generator.Course
    learners: Sequence[Learner]
    """The named learners come first."""
    named: int
    """The number of named learners, which the demo shows one by one."""
    attempts: Sequence[bytes]
    completions: Sequence[bytes]
    attempt_requests: int
    """The number of certificate requests that the attempts cause."""
    new_completions: int
    """The number of contents completed for the first time. Each gives two AUDIT events, `start` and `complete`."""
    completed_courses: int
    """The number of courses completed. Each gives one AUDIT event and one certificate request."""
    failed: Mapping[str, int]
    """The number of events on each failed topic, by the topic's name without the environment."""

    def best_score(self, learner: Learner, content_id: str) -> float:
        """The expected best score after merging both columns: `aggregates` wins over `agg`. 0 without an attempt."""
        expected = learner.expected_aggregates(self.course)
        return expected.get(f"score:{content_id}", float(learner.old_agg.get(f"score:{content_id}", 0)))


def build_story(run: int) -> Story:
    """Builds the story. The ids depend on `run`, so that the demo can run again on the same servers."""
    course = generator.course(run % 1_000_000, units=2, contents_per_unit=3)
    quiz, other_quiz = course.quizzes
    builder = _StoryBuilder(course, run)
    asha = builder.learner("Asha Rao", "best attempt 7.5 of 10; the old column has 7", {f"score:{quiz}": 7}, True)
    ravi = builder.learner("Ravi Menon", "best attempt 7.4 of 10; the old column has 7, too", {f"score:{quiz}": 7})
    meena = builder.learner(
        "Meena Iyer",
        "has a row only from the old job",
        {f"score:{quiz}": 8, f"max_score:{quiz}": 10, "completedCount": 5},
        True,
    )
    kiran = builder.learner("Kiran Das", "old column 9, new column 5.5: the new one wins", {f"score:{quiz}": 9})
    divya = builder.learner("Divya Nair", "events arrive twice, one attempt arrives late")
    sita = builder.learner("Sita Bora", "the best of 27 attempts is the first; one question has two choices")

    builder.attempt(asha, quiz, 6.25)
    builder.attempt(asha, quiz, 7.5)
    builder.attempt(asha, quiz, 7)
    builder.attempt(ravi, quiz, 7.4)
    builder.attempt(kiran, quiz, 5.5)
    builder.attempt(divya, quiz, 6.75)
    builder.attempt(divya, other_quiz, 3.25)
    builder.send_again(divya, quiz)
    builder.send_late(divya, quiz, 9)
    builder.attempt(sita, quiz, 9.5, has_several_choices=True)
    for number in range(26):
        builder.attempt(sita, quiz, number / 4)
    source = random.Random(run)
    crowd = [builder.learner(f"Learner {number}", "") for number in range(CROWD)]
    for learner in crowd:
        for content_id in course.quizzes:
            for _ in range(source.randrange(1, 4)):
                builder.attempt(learner, content_id, source.randrange(41) / 4)
    # Not of a learner whom the desk explains: their answers would say that something is wrong.
    builder.bad_attempts(divya)

    for learner in (asha, ravi, kiran):
        builder.complete(learner, course.contents[:4])
        builder.complete(learner, course.contents[4:])
    builder.complete(meena, course.contents)
    builder.complete(sita, course.contents[:3])
    builder.complete(divya, course.contents[:2])
    builder.complete_again(divya, course.contents[:2])
    for learner in crowd:
        count = source.randrange(1, len(course.contents) + 1)
        builder.complete(learner, course.contents[:count])
        best = max(score for attempts in learner.attempts.values() for score, _ in attempts)
        learner.gets_certificate = count == len(course.contents) and best >= 7.5
    builder.bad_completions()
    return Story(
        course=course,
        learners=builder.learners,
        named=len(builder.learners) - CROWD,
        attempts=builder.attempts,
        completions=builder.completions,
        attempt_requests=builder.attempt_requests,
        new_completions=sum(len(learner.completed) for learner in builder.learners),
        completed_courses=sum(learner.completed == set(course.contents) for learner in builder.learners),
        failed=builder.failed,
    )


class _StoryBuilder:
    def __init__(self, course: generator.Course, run: int) -> None:
        self._course = course
        self._run = run
        self._now_ms = _START_MS
        self._last: dict[tuple[str, str], dict[str, Any]] = {}
        self._last_completion: dict[str, dict[str, Any]] = {}
        self.learners: list[Learner] = []
        self.attempts: list[bytes] = []
        self.completions: list[bytes] = []
        self.attempt_requests = 0
        self.failed = {topics.ASSESS_FAILED: 0, topics.ACTIVITY_AGG_FAILED: 0}

    def learner(
        self, name: str, about: str, old_agg: Mapping[str, int] | None = None, gets_certificate: bool = False
    ) -> Learner:
        user_id = f"{name.partition(' ')[0].lower()}-{len(self.learners)}-{self._run}"
        learner = Learner(user_id, name, about, old_agg or {}, gets_certificate=gets_certificate)
        self.learners.append(learner)
        return learner

    def attempt(self, learner: Learner, content_id: str, score: float, *, has_several_choices: bool = False) -> None:
        """A new attempt of 10 questions of one point each that together give `score`."""
        self._now_ms += 1_000
        number = len(learner.attempts.setdefault(content_id, []))
        event = generator.attempt(self._course, learner.user_id, content_id, number, _split(score), self._now_ms)
        if has_several_choices:
            event = generator.with_several_choices(event)
        learner.attempts[content_id].append((score, 10.0))
        self._last[learner.user_id, content_id] = event
        self._send(event)

    def send_again(self, learner: Learner, content_id: str) -> None:
        """The latest attempt again, as a duplicate event: no row changes, and its certificate request is sent again."""
        self._send(self._last[learner.user_id, content_id])

    def send_late(self, learner: Learner, content_id: str, score: float) -> None:
        """An older event of the latest attempt, dated an hour earlier. The job must skip it."""
        last = self._last[learner.user_id, content_id]
        earlier_ms = last["assessmentTs"] - 3_600_000
        event = generator.attempt(self._course, learner.user_id, content_id, 0, _split(score), earlier_ms)
        self.attempts.append(generator.encode(event | {"attemptId": last["attemptId"]}))

    def bad_attempts(self, learner: Learner) -> None:
        """Five invalid events, which must go to the failed topic."""
        good = self._last[learner.user_id, self._course.contents[2]]
        bad = [
            generator.encode(good)[:500],
            generator.encode({key: value for key, value in good.items() if key != "batchId"}),
            generator.encode(good | {"contentId": "do_of_another_course"}),
            generator.encode(good | {"assessmentTs": "yesterday"}),
            b"\xff\xfe not even text",
        ]
        self.attempts += bad
        self.failed[topics.ASSESS_FAILED] += len(bad)

    def complete(self, learner: Learner, content_ids: Sequence[str]) -> None:
        """The learner completes contents, which the Course Service sends in one event."""
        self._now_ms += 1_000
        event = generator.completion(self._course, learner.user_id, content_ids, self._now_ms)
        learner.completed.update(content_ids)
        self.completions.append(generator.encode(event))
        self._last_completion[learner.user_id] = event

    def complete_again(self, learner: Learner, content_ids: Sequence[str]) -> None:
        """The same contents again, a day later. They must not be counted twice."""
        event = generator.completion(self._course, learner.user_id, content_ids, self._now_ms + _DAY_MS)
        self.completions.append(generator.encode(event))

    def bad_completions(self) -> None:
        """Two invalid events: an unknown course, and truncated JSON."""
        unknown = generator.Course("do_unknown", self._course.batch_id, ())
        self.completions.append(generator.encode(generator.completion(unknown, "somebody", ["do_1"], self._now_ms)))
        self.completions.append(b'{"edata": {"action": "batch-enrolment-update"')
        self.failed[topics.ACTIVITY_AGG_FAILED] += 2

    def _send(self, event: dict[str, Any]) -> None:
        self.attempts.append(generator.encode(event))
        self.attempt_requests += 1


def _split(score: float) -> list[float]:
    """Ten scores from 0 to 1 whose sum is `score`."""
    whole = int(score)
    rest = round(score - whole, 2)
    return ([1.0] * whole + [rest] + [0.0] * 10)[:10]
