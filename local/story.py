"""What happens in `make demo`, and what must come of it: a course, its learners, their events. Plain values, no I/O.

The expectations are worked out here from the produced events with sums and maxima, apart from the rules of the jobs.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.domain import topics
from local import generator

_DAY_MS = 86_400_000
CROWD = 150
"""Learners who only make the load believable; their scores are checked like everyone's."""


@dataclass(slots=True)
class Learner:
    """One learner: what the old job left behind, what the learner does, and what has to be there in the end."""

    user_id: str
    name: str
    about: str
    old_agg: Mapping[str, int] = field(default_factory=dict)
    """Of the column `agg`, whole numbers, written before the change."""
    attempts: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """Score and maximum of each distinct attempt, by content, in the order of their ids."""
    completed: set[str] = field(default_factory=set)
    gets_certificate: bool = False

    def expected_aggregates(self, course: generator.Course) -> dict[str, float]:
        """The column `aggregates` of the course's row."""
        expected: dict[str, float] = {}
        for content_id, scores in self.attempts.items():
            best, best_max = max(scores, key=lambda score_and_max: score_and_max[0])
            expected[f"score:{content_id}"] = best
            expected[f"max_score:{content_id}"] = best_max
            expected[f"attempts_count:{content_id}"] = float(len(scores))
        if self.completed:
            expected["completedCount"] = float(len(self.completed & set(course.contents)))
        return expected


@dataclass(frozen=True, slots=True)
class Story:
    """Everything that is written, produced and expected."""

    course: generator.Course
    learners: Sequence[Learner]
    """The named ones first."""
    named: int
    attempts: Sequence[bytes]
    completions: Sequence[bytes]
    attempt_requests: int
    """Certificate requests that the attempts must cause."""
    new_completions: int
    """Contents that are completed for the first time: two AUDIT events each, `start` and `complete`."""
    completed_courses: int
    """One AUDIT event and one certificate request each."""
    failed: Mapping[str, int]
    """How many events must be on each failed topic (without environment)."""

    def best_score(self, learner: Learner, content_id: str) -> float:
        """Of both columns, the new one first."""
        expected = learner.expected_aggregates(self.course)
        return expected.get(f"score:{content_id}", float(learner.old_agg.get(f"score:{content_id}", 0)))


def tell(run: int) -> Story:
    """The story with ids of its own for each `run`, so that it can be told again on the same servers."""
    course = generator.course(run % 1_000_000, units=2, contents_per_unit=3)
    quiz, other_quiz = course.quizzes
    teller = _Teller(course, run)
    asha = teller.learner("Asha Rao", "7.5 of 10 at best: 7 in the old column", {f"score:{quiz}": 7}, True)
    ravi = teller.learner("Ravi Menon", "7.4 of 10: 7 in the old column, too", {f"score:{quiz}": 7})
    meena = teller.learner(
        "Meena Iyer",
        "has only the old column",
        {f"score:{quiz}": 8, f"max_score:{quiz}": 10, "completedCount": 5},
        True,
    )
    kiran = teller.learner("Kiran Das", "old column 9, new column 5.5: the new one counts", {f"score:{quiz}": 9})
    divya = teller.learner("Divya Nair", "sends everything twice, and one attempt late")

    teller.attempt(asha, quiz, 6.25)
    teller.attempt(asha, quiz, 7.5)
    teller.attempt(asha, quiz, 7)
    teller.attempt(ravi, quiz, 7.4)
    teller.attempt(kiran, quiz, 5.5)
    teller.attempt(divya, quiz, 6.75)
    teller.attempt(divya, other_quiz, 3.25)
    teller.send_again(divya, quiz)
    teller.send_late(divya, quiz, 9)
    source = random.Random(run)
    crowd = [teller.learner(f"Learner {number}", "") for number in range(CROWD)]
    for learner in crowd:
        for content_id in course.quizzes:
            for _ in range(source.randrange(1, 4)):
                teller.attempt(learner, content_id, source.randrange(41) / 4)
    teller.bad_attempts(asha)

    for learner in (asha, ravi, kiran):
        teller.complete(learner, course.contents[:4])
        teller.complete(learner, course.contents[4:])
    teller.complete(meena, course.contents)
    teller.complete(divya, course.contents[:2])
    teller.complete_again(divya, course.contents[:2])
    for learner in crowd:
        count = source.randrange(1, len(course.contents) + 1)
        teller.complete(learner, course.contents[:count])
        best = max(score for attempts in learner.attempts.values() for score, _ in attempts)
        learner.gets_certificate = count == len(course.contents) and best >= 7.5
    teller.bad_completions()
    return Story(
        course=course,
        learners=teller.learners,
        named=len(teller.learners) - CROWD,
        attempts=teller.attempts,
        completions=teller.completions,
        attempt_requests=teller.attempt_requests,
        new_completions=sum(len(learner.completed) for learner in teller.learners),
        completed_courses=sum(learner.completed == set(course.contents) for learner in teller.learners),
        failed=teller.failed,
    )


class _Teller:
    def __init__(self, course: generator.Course, run: int) -> None:
        self._course = course
        self._run = run
        self._now_ms = 1_715_657_560_000
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

    def attempt(self, learner: Learner, content_id: str, score: float) -> None:
        """A new attempt of 10 questions of one point each that together give `score`."""
        self._now_ms += 1_000
        number = len(learner.attempts.setdefault(content_id, []))
        event = generator.attempt(self._course, learner.user_id, content_id, number, _split(score), self._now_ms)
        learner.attempts[content_id].append((score, 10.0))
        self._last[learner.user_id, content_id] = event
        self._send(event)

    def send_again(self, learner: Learner, content_id: str) -> None:
        """The same event once more: it changes nothing and sends its request again."""
        self._send(self._last[learner.user_id, content_id])

    def send_late(self, learner: Learner, content_id: str, score: float) -> None:
        """The same attempt as it was an hour before it was finished: skipped."""
        last = self._last[learner.user_id, content_id]
        earlier_ms = last["assessmentTs"] - 3_600_000
        event = generator.attempt(self._course, learner.user_id, content_id, 0, _split(score), earlier_ms)
        self.attempts.append(generator.encode(event | {"attemptId": last["attemptId"]}))

    def bad_attempts(self, learner: Learner) -> None:
        """Five events that no job can use."""
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
        """The learner finishes contents; the Course Service sends them in one event."""
        self._now_ms += 1_000
        event = generator.completion(self._course, learner.user_id, content_ids, self._now_ms)
        learner.completed.update(content_ids)
        self.completions.append(generator.encode(event))
        self._last_completion[learner.user_id] = event

    def complete_again(self, learner: Learner, content_ids: Sequence[str]) -> None:
        """The same contents a day later: not counted a second time."""
        event = generator.completion(self._course, learner.user_id, content_ids, self._now_ms + _DAY_MS)
        self.completions.append(generator.encode(event))

    def bad_completions(self) -> None:
        """A course that nobody knows, and an event that is none."""
        unknown = generator.Course("do_unknown", self._course.batch_id, ())
        self.completions.append(generator.encode(generator.completion(unknown, "somebody", ["do_1"], self._now_ms)))
        self.completions.append(b'{"edata": {"action": "batch-enrolment-update"')
        self.failed[topics.ACTIVITY_AGG_FAILED] += 2

    def _send(self, event: dict[str, Any]) -> None:
        self.attempts.append(generator.encode(event))
        self.attempt_requests += 1


def _split(score: float) -> list[float]:
    """Ten question scores of at most 1 that add up to `score`."""
    whole = int(score)
    rest = round(score - whole, 2)
    return ([1.0] * whole + [rest] + [0.0] * 10)[:10]
