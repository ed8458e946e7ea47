"""Compares every row and message with the expected one. Pure, and independent of the code of the jobs."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from chaos.history import WRITE_TIME, History, Key, identity
from chaos.load import JOB_OF_FAILED_TOPIC, Learner, Load
from common.domain import topics

AUDITS, REQUESTS = topics.TELEMETRY_RAW, topics.ISSUE_CERTIFICATE_REQUEST
CERTIFICATES = topics.GENERATE_CERTIFICATE_REQUEST


class Kind(StrEnum):
    """The kinds of problems."""

    LOST = "lost"
    TWICE = "counted twice"
    WRONG = "wrong"
    MISSING_CERTIFICATE = "certificate missing"
    WRONG_CERTIFICATE = "certificate for the wrong learner"


class Problem(NamedTuple):
    """One wrong value. ``what`` describes it."""

    kind: Kind
    what: str


class Sent(NamedTuple):
    """One message: whom it is about, the time (ms) of the event that caused it, its id, and everything else in it."""

    user_id: str
    time_ms: int
    message_id: str
    body: dict[str, Any]
    """Without the ids, which the oracle only compares with each other."""
    attempt_id: str | None = None
    """Of a certificate request."""
    key: bytes | None = None
    """Of the Kafka record."""
    more_ids: tuple[str, ...] = ()
    """Those of an AUDIT event's session and device. Repeats have the same, too."""
    appended_ms: tuple[int, int] | None = None
    """When the broker appended the first and the last copy to the topic; None if the records do not say so."""


class Failed(NamedTuple):
    """A message on a failed topic, without the event: its metadata, and the key of the Kafka record."""

    job: str
    reason: str
    key: bytes | None


@dataclass(slots=True)
class Observed:
    """The rows and messages of one load."""

    values: dict[Key, Any] = field(default_factory=dict)
    """Every set column that a job writes, times in ms. Maps and lists are taken apart."""
    audits: list[Sent] = field(default_factory=list)
    requests: list[Sent] = field(default_factory=list)
    certificates: list[Sent] = field(default_factory=list)
    failed: dict[str, dict[bytes, set[Failed]]] = field(default_factory=dict)
    """By the event as the job received it, by topic. Repeats are equal."""
    written: range = range(0)
    """The ms in which the jobs could write."""


def compare(load: Load, observed: Observed) -> list[Problem]:
    """All problems; an empty list if everything is right."""
    histories = [History(load, learner, observed.values) for learner in load.learners]
    return [
        *_compare_values(_all(history.values() for history in histories), observed),
        *_compare_messages("AUDIT", _all(history.audits() for history in histories), observed.audits),
        *_compare_messages("certificate request", _all(history.requests() for history in histories), observed.requests),
        *_check_attempt_ids({learner.user_id: learner for learner in load.learners}, observed.requests),
        *_compare_certificates(histories, observed.certificates, observed.requests),
        *_compare_failed(load, observed.failed),
    ]


def _all(parts: Iterator[Iterator[tuple[Key, Any]]]) -> dict[Key, Any]:
    return {key: value for part in parts for key, value in part}


def _compare_values(right: Mapping[Key, Any], observed: Observed) -> Iterator[Problem]:
    for key in sorted(right.keys() | observed.values.keys()):
        wanted, actual = right.get(key), observed.values.get(key)
        if actual in observed.written if wanted is WRITE_TIME else actual == wanted:
            continue
        yield Problem(_kind(wanted, actual), f"{' '.join(key)} is {actual}, expected {wanted}")


def _kind(wanted: Any, actual: Any) -> Kind:
    if actual is None:
        return Kind.LOST
    if wanted is None:
        return Kind.TWICE
    if isinstance(wanted, int | float) and isinstance(actual, int | float):
        return Kind.LOST if actual < wanted else Kind.TWICE
    return Kind.WRONG


def _compare_messages(what: str, right: Mapping[Key, Any], messages: Sequence[Sent]) -> Iterator[Problem]:
    """Every expected message was sent. Each has the right content, and an id that only its repeats share.

    So a consumer recognises a repeat, and takes nothing else for one.
    """
    found = defaultdict[Key, list[Sent]](list)
    for sent in messages:
        found[identity(sent.user_id, sent.time_ms, sent.body)].append(sent)
    yield from _compare_ids(what, found)
    for key in sorted(right.keys() | found.keys()):
        name = f"{what} {' '.join(key)}"
        if key not in found:
            yield Problem(Kind.LOST, f"{name} is missing")
        elif key not in right:
            yield Problem(Kind.TWICE, f"{name} should not exist")
        else:
            yield from _compare_bodies(name, right[key], found[key])


def _compare_ids(what: str, found: Mapping[Key, Sequence[Sent]]) -> Iterator[Problem]:
    """No two messages share an id: a consumer that drops repeats would lose one of them."""
    owners: dict[str, Key] = {}
    for key in sorted(found):
        for message_id in sorted({sent.message_id for sent in found[key]}):
            owner = owners.setdefault(message_id, key)
            if owner != key:
                name = f"{what} {' '.join(key)}"
                yield Problem(Kind.LOST, f"{name} has the id of {' '.join(owner)}: {message_id}")


def _compare_bodies(name: str, right: Mapping[str, Any], messages: Sequence[Sent]) -> Iterator[Problem]:
    for body in {str(sent.body): sent.body for sent in messages if sent.body != right}.values():
        yield Problem(Kind.WRONG, f"{name} is {body}, expected {right}")
    for key in {sent.key for sent in messages if sent.key is not None}:
        yield Problem(Kind.WRONG, f"{name} has the key {key!r}, expected none")
    if len(ids := {(sent.message_id, *sent.more_ids) for sent in messages}) > 1:
        yield Problem(Kind.TWICE, f"{name} has several ids: {sorted(ids)}")


def _check_attempt_ids(learners: Mapping[str, Learner], requests: Sequence[Sent]) -> Iterator[Problem]:
    """``attemptId`` depends on the attempts that were stored when the request was made, so several ones are right.

    It is one of the learner's attempts, or "" where the attempts are at several contents or there is none yet. The
    request for a completed course has none.
    """
    for sent in requests:
        learner = learners.get(sent.user_id)
        if learner is None:
            continue  # reported as a message that should not exist
        possible: set[str | None] = {identity for attempts in learner.attempts.values() for identity in attempts}
        if sent.time_ms in {completion.time_ms for completion in learner.completions}:
            possible = {None}
        elif len(learner.attempts) > 1 or sent.time_ms in learner.recomputed_at:
            possible.add("")
        if sent.attempt_id not in possible:
            what = f"certificate request {sent.user_id} {sent.time_ms} has the attemptId {sent.attempt_id!r}"
            yield Problem(Kind.WRONG, what)


def _compare_certificates(
    histories: Sequence[History], certificates: Sequence[Sent], requests: Sequence[Sent]
) -> Iterator[Problem]:
    """Who gets a certificate has each message that is due (see :func:`_due`), and each message answers a request."""
    found = defaultdict[str, dict[int, list[Sent]]](lambda: defaultdict(list))
    for sent in certificates:
        found[sent.user_id][sent.time_ms].append(sent)
    yield from _compare_ids(
        "certificate",
        {(user_id, str(time_ms)): those for user_id, times in found.items() for time_ms, those in times.items()},
    )
    right = {history.user_id: history for history in histories if history.gets_certificate}
    for user_id in sorted(right.keys() - found.keys()):
        yield Problem(Kind.MISSING_CERTIFICATE, user_id)
    for user_id in sorted(found.keys() - right.keys()):
        yield Problem(Kind.WRONG_CERTIFICATE, user_id)
    for user_id in sorted(found.keys() & right.keys()):
        for due in _due(right[user_id], [sent for sent in requests if sent.user_id == user_id]):
            if found[user_id].keys().isdisjoint(due):
                times = " or ".join(map(str, sorted(due)))
                yield Problem(Kind.MISSING_CERTIFICATE, f"{user_id}: none answers the request of {times}")
        times_of_requests = set(right[user_id].request_times())
        for time_ms, messages in found[user_id].items():
            name = f"certificate {user_id} {time_ms}"
            if time_ms not in times_of_requests:
                yield Problem(Kind.TWICE, f"{name} answers no request")
            yield from _compare_bodies(name, right[user_id].certificate(time_ms), messages)


def _due(history: History, requests: Sequence[Sent]) -> Iterator[frozenset[int]]:
    """Times (ms) of requests of a learner who gets a certificate. Of each set, at least one request is answered by one.

    Rows are written before the request about them is sent, and a score or a completion never goes away again. So a
    request is answered if it was sent later than the rows of the completed course and those of a passed attempt were
    written. They were when the first copy of their own request was appended to the topic: what was appended later was
    also handled later. The jobs know of no issued certificate during a run, so each such request is answered.

    Of the request of the completed course and that of a passed attempt, the one whose rows were written later is
    answered. That is also true if nobody knows when they were appended.

    **Not checked**: all other requests. They may have been handled before the learner had earned the certificate, or
    after it: in parallel with the events of the other job, in any order and, after a fault, again. So they may be
    answered, or not.
    """
    appended = _appended_ms(requests)
    known = {sent.time_ms for sent in requests}
    completed_at, passed_at = history.completed_at, set(history.passed_at)
    assert completed_at is not None
    completed_ms = appended[completed_at][0] if completed_at in appended else math.inf
    passed_ms = min((appended[time_ms][0] for time_ms in passed_at & appended.keys()), default=math.inf)
    alone = {
        time_ms
        for time_ms, (_, last_ms) in appended.items()
        if (time_ms == completed_at or last_ms > completed_ms) and (time_ms in passed_at or last_ms > passed_ms)
    }
    yield from (frozenset({time_ms}) for time_ms in sorted(alone))
    for time_ms in sorted(passed_at & known):
        pair = frozenset({time_ms, completed_at})
        if completed_at in known and pair.isdisjoint(alone):
            yield pair


def _appended_ms(requests: Sequence[Sent]) -> dict[int, tuple[int, int]]:
    """When the first and the last copy of each request were appended, as far as it is known, by the request's time."""
    copies = defaultdict[int, list[int]](list)
    for sent in requests:
        copies[sent.time_ms] += sent.appended_ms or ()
    return {time_ms: (min(appended), max(appended)) for time_ms, appended in copies.items() if appended}


def _compare_failed(load: Load, found: Mapping[str, Mapping[bytes, set[Failed]]]) -> Iterator[Problem]:
    """Every bad event is on the failed topic as it was sent, with job, reason and the user id as the key."""
    for topic in sorted(load.failed.keys() | found.keys()):
        right, actual = load.failed.get(topic, {}), found.get(topic, {})
        for value in sorted(right.keys() | actual.keys()):
            if value not in actual:
                yield Problem(Kind.LOST, f"{topic} {value!r} is missing")
            elif value not in right:
                yield Problem(Kind.TWICE, f"{topic} {value!r} should not exist")
            else:
                yield from (
                    Problem(Kind.WRONG, f"{topic} {value!r} has {failed}, expected {right[value]}")
                    for failed in sorted(actual[value], key=str)
                    if failed.job != JOB_OF_FAILED_TOPIC[topic]
                    or not failed.reason.startswith(right[value].reason)
                    or failed.key != right[value].key
                )
