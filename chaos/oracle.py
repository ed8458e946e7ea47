"""Compares the rows and messages with the expected ones. Pure, and independent of the code of the jobs."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from chaos.load import QUESTIONS, Learner, Load
from local.expected import content_aggregates


class Kind(StrEnum):
    """The kinds of problems."""

    LOST = "lost"
    TWICE = "counted twice"
    MISSING_CERTIFICATE = "certificate missing"
    WRONG_CERTIFICATE = "certificate for the wrong learner"


class Problem(NamedTuple):
    """One wrong value. ``what`` describes it."""

    kind: Kind
    what: str


class Sent(NamedTuple):
    """One message. ``about`` is the part of its content that is compared, ``message_id`` is its ``mid``."""

    user_id: str
    about: tuple[Any, ...]
    message_id: str


@dataclass(slots=True)
class Observed:
    """The rows and messages of one load. Unset columns are left out."""

    numbers: dict[tuple[str, ...], float] = field(default_factory=dict)
    """The numbers that the oracle reads. The key is the table, the key columns, and the column or map entry."""
    audits: set[Sent] = field(default_factory=set)
    requests: set[Sent] = field(default_factory=set)
    certificates: set[Sent] = field(default_factory=set)
    failed: dict[str, set[bytes]] = field(default_factory=dict)
    """The events on each failed topic, as the jobs received them."""


def compare(load: Load, observed: Observed) -> list[Problem]:
    """All problems; an empty list if everything is right."""
    return [
        *_compare_numbers(_expected_numbers(load), observed.numbers),
        *_compare_sets("AUDIT", _expected_audits(load), {sent[:2] for sent in observed.audits}),
        *_check_message_ids(observed.audits),
        *_compare_numbers(_expected_requests(load), _count_requests(observed.requests)),
        *_compare_certificates(load, {sent.user_id for sent in observed.certificates}),
        *(
            problem
            for topic in load.failed.keys() | observed.failed.keys()
            for problem in _compare_sets(topic, load.failed.get(topic, set()), observed.failed.get(topic, set()))
        ),
    ]


def _expected_numbers(load: Load) -> dict[tuple[str, ...], float]:
    numbers: dict[tuple[str, ...], float] = {}
    for learner in load.learners:
        user_id = learner.user_id
        for content_id, attempts in learner.attempts.items():
            for attempt_id, score in attempts.items():
                numbers["attempt", user_id, content_id, attempt_id, "score"] = score
                numbers["attempt", user_id, content_id, attempt_id, "max_score"] = QUESTIONS
            row = ("aggregates", load.course.course_id, user_id)
            expected = content_aggregates(content_id, [(score, QUESTIONS) for score in attempts.values()])
            numbers |= {(*row, key): value for key, value in expected.items()}
        for content_id in learner.counted_at:
            numbers["content", user_id, content_id, "viewcount"] = 1
            numbers["content", user_id, content_id, "completedcount"] = 1
        if learner.counted_at:
            collections = {load.course.course_id: load.course.contents, **dict(load.course.units)}
            for collection_id, contents in collections.items():
                if done := learner.counted_at.keys() & set(contents):
                    numbers["aggregates", collection_id, user_id, "completedCount"] = len(done)
            numbers["enrolment", user_id, "progress"] = len(learner.counted_at)
        numbers["enrolment", user_id, "status"] = 2 if learner.completed_at else 1 if learner.counted_at else 0
        if learner.completed_at is not None:
            numbers["enrolment", user_id, "completedon"] = learner.completed_at
    return numbers


def _expected_audits(load: Load) -> set[tuple[str, tuple[Any, ...]]]:
    return {(learner.user_id, about) for learner in load.learners for about in _audits_of(learner)}


def _audits_of(learner: Learner) -> set[tuple[Any, ...]]:
    audits: set[tuple[Any, ...]] = {
        (content_id, kind, time_ms)
        for content_id, time_ms in learner.counted_at.items()
        for kind in ("start", "complete")
    }
    if learner.completed_at is not None:
        audits.add((learner.user_id, "enrol-complete", learner.completed_at))
    return audits


def _expected_requests(load: Load) -> dict[tuple[str, ...], float]:
    """One request for each attempt and one for the completed course, by learner."""
    return {
        ("certificate requests", learner.user_id): number
        for learner in load.learners
        if (number := sum(map(len, learner.attempts.values())) + (learner.completed_at is not None))
    }


def _count_requests(requests: Iterable[Sent]) -> dict[tuple[str, ...], float]:
    return dict(Counter(("certificate requests", sent.user_id) for sent in requests))


def _compare_numbers(
    expected: Mapping[tuple[str, ...], float], found: Mapping[tuple[str, ...], float]
) -> list[Problem]:
    problems = []
    for key in sorted(expected.keys() | found.keys()):
        right, actual = expected.get(key), found.get(key)
        if right == actual:
            continue
        is_lost = actual is None or (right is not None and actual < right)
        kind = Kind.LOST if is_lost else Kind.TWICE
        problems.append(Problem(kind, f"{' '.join(key)} is {actual}, expected {right}"))
    return problems


def _compare_sets(what: str, expected: Set[Any], found: Set[Any]) -> list[Problem]:
    return [
        *(Problem(Kind.LOST, f"{what} {value} is missing") for value in sorted(expected - found)),
        *(Problem(Kind.TWICE, f"{what} {value} should not exist") for value in sorted(found - expected)),
    ]


def _check_message_ids(messages: Iterable[Sent]) -> list[Problem]:
    """Consumers recognize a repeat by its id, so messages with equal content must have equal ids."""
    ids = defaultdict[tuple[Any, ...], set[str]](set)
    for sent in messages:
        ids[sent[:2]].add(sent.message_id)
    return [Problem(Kind.TWICE, f"{about} has several ids: {found}") for about, found in ids.items() if len(found) > 1]


def _compare_certificates(load: Load, found: Set[str]) -> list[Problem]:
    expected = {learner.user_id for learner in load.learners if learner.gets_certificate}
    return [
        *(Problem(Kind.MISSING_CERTIFICATE, user_id) for user_id in sorted(expected - found)),
        *(Problem(Kind.WRONG_CERTIFICATE, user_id) for user_id in sorted(found - expected)),
    ]
