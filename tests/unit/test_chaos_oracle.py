"""The oracle of the chaos runs notices each kind of harm. That the jobs can do such harm is shown by `--sabotage`."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from chaos.history import WRITE_TIME, History, Key
from chaos.load import ATTEMPTS, COMPLETIONS, FAILED_TOPIC, JOB_OF_FAILED_TOPIC, SYNCS, Load
from chaos.oracle import Failed, Kind, Observed, Problem, Sent, compare

COHORT = 4
EVENTS = 300
WRITTEN = range(1_790_000_000_000, 1_790_000_900_000)


@pytest.fixture(scope="module")
def load() -> Load:
    load = Load(4, COHORT)
    for _ in range(EVENTS):
        load.next_event()
    return load


@pytest.fixture(scope="module")
def histories(load: Load) -> list[History]:
    return [History(load, learner, {}) for learner in load.learners]


def earned_at(history: History) -> int:
    """The time (ms) of the request from which on all lead to a certificate, if each is handled at once."""
    assert history.completed_at is not None
    return max(history.completed_at, min(history.passed_at))


@pytest.fixture(scope="module")
def right(load: Load, histories: list[History]) -> Observed:
    values = dict(item for history in histories for item in history.values())
    completed = {(history.user_id, history.completed_at) for history in histories}
    requests = []
    for history in histories:
        attempts = next(learner for learner in load.learners if learner.user_id == history.user_id).attempts
        for (user_id, time_ms, *_), body in history.requests():
            is_of_course = (user_id, int(time_ms)) in completed
            attempt_id = None if is_of_course else next(iter(next(iter(attempts.values()))))
            # As if each event were applied as soon as it happens.
            appended_ms = int(time_ms), int(time_ms)
            message_id = f"id {user_id} {time_ms}"
            requests.append(Sent(user_id, int(time_ms), message_id, body, attempt_id, appended_ms=appended_ms))
    return Observed(
        values={key: WRITTEN.start if value is WRITE_TIME else value for key, value in values.items()},
        audits=[
            Sent(key[0], int(key[1]), f"id {key}", body) for history in histories for key, body in history.audits()
        ],
        requests=requests,
        certificates=[
            Sent(history.user_id, time_ms, f"id {history.user_id} {time_ms}", history.certificate(time_ms))
            for history in histories
            if history.gets_certificate
            for time_ms in history.request_times()
            if time_ms >= earned_at(history)
        ],
        failed={
            topic: {
                value: {Failed(JOB_OF_FAILED_TOPIC[topic], f"{refusal.reason}...", refusal.key)}
                for value, refusal in values.items()
            }
            for topic, values in load.failed.items()
        },
        written=WRITTEN,
    )


@pytest.fixture
def observed(right: Observed) -> Observed:
    """Everything as it must be, to be harmed by one test."""
    return Observed(
        dict(right.values),
        list(right.audits),
        list(right.requests),
        list(right.certificates),
        {topic: {event: set(rest) for event, rest in events.items()} for topic, events in right.failed.items()},
        right.written,
    )


def test_nothing_is_wrong(load: Load, observed: Observed) -> None:
    assert compare(load, observed) == []


def test_the_load_has_everything(load: Load, histories: list[History]) -> None:
    active = [history for history in histories if history.request_times()]
    certified = sum(history.gets_certificate for history in active)
    assert 0 < certified < sum(history.completed_at is not None for history in active) < len(active)
    assert COHORT < len(active) < len(load.learners)
    assert max(load.produced.values()) > 1
    assert {event.topic for event in load._recent} == {ATTEMPTS, COMPLETIONS, SYNCS}
    assert any(learner.recomputed_at for learner in load.learners)
    assert {learner.is_spread for learner in load.learners} == {False, True}
    assert load.failed.keys() == set(FAILED_TOPIC.values())
    for topic, bad in load.failed.items():
        assert len({refusal.reason for refusal in bad.values()}) == 2, topic
        assert {refusal.key is None for refusal in bad.values()} == {False, True}, topic
        assert {b"metadata" in value for value in bad} == {False, True}, topic


def test_the_events_of_some_learners_have_one_key_and_those_of_others_many() -> None:
    load = Load(3)
    keys: dict[str, set[str]] = {}
    for _ in range(500):
        event = load.next_event()
        keys.setdefault(event.user_id, set()).add(event.key)
    for learner in load.learners:
        if not learner.is_idle:
            assert (len(keys[learner.user_id]) > 1) == learner.is_spread


def test_no_two_events_of_a_load_have_the_same_time_unless_one_repeats_the_other() -> None:
    load = Load(5)
    events = {(event.time_ms, event.value) for event in (load.next_event() for _ in range(2_000))}
    assert len(events) == len({time_ms for time_ms, _ in events})


def test_the_same_seed_is_the_same_load() -> None:
    first, second = Load(1), Load(1)
    assert [first.next_event() for _ in range(500)] == [second.next_event() for _ in range(500)]


Harm = Callable[[Observed], None]


def _change(column: str, change: Callable[[Any], Any]) -> Harm:
    """Changes the first value of a column, or of a map or list in it. None deletes it."""

    def harm(observed: Observed) -> None:
        key = next(key for key in observed.values if column in key[2:])
        value = change(observed.values[key])
        if value is None:
            del observed.values[key]
        else:
            observed.values[key] = value

    return harm


def _add(key: Key, value: Any) -> Harm:
    return lambda observed: observed.values.update({key: value})


def _lose(_: Any) -> None:
    return None


def _double_the_questions(observed: Observed) -> None:
    *row, column, _ = next(key for key in observed.values if "question" in key)
    (question,) = [value for key, value in observed.values.items() if key == (*row, column, "0")]
    observed.values[(*row, column, "10")] = question


def _double_the_details(observed: Observed) -> None:
    *row, column, _ = next(key for key in observed.values if "agg_details" in key)
    number = sum(key[:-1] == (*row, column) for key in observed.values)
    observed.values[(*row, column, str(number))] = observed.values[(*row, column, "0")]


ROWS = {
    "a lost score": (_change("total_score", _lose), Kind.LOST),
    "a lower score": (_change("total_score", lambda score: score - 0.25), Kind.LOST),
    "a higher maximum": (_change("total_max_score", lambda score: score + 1), Kind.TWICE),
    "another text of the total": (_change("grand_total", lambda text: f"{text}0"), Kind.WRONG),
    "another time of the attempt": (_change("last_attempted_on", lambda time: time + 1), Kind.TWICE),
    "an attempt created before the run": (_change("created_on", lambda _: WRITTEN.start - 1), Kind.WRONG),
    "an attempt updated after the run": (_change("updated_on", lambda _: WRITTEN.stop), Kind.WRONG),
    "a lost question": (_change("question", _lose), Kind.LOST),
    "a doubled question": (_double_the_questions, Kind.TWICE),
    "a changed question": (_change("question", lambda question: question | {"duration": None}), Kind.WRONG),
    "a changed answer": (_change("question", lambda question: question | {"resvalues": []}), Kind.WRONG),
    "a lower best score": (_change("aggregates", lambda score: score - 0.25), Kind.LOST),
    "a lost time of an aggregate": (_change("agg_last_updated", _lose), Kind.LOST),
    "a wrong time of an aggregate": (_change("agg_last_updated", lambda _: 0), Kind.WRONG),
    "a lost detail": (_change("agg_details", _lose), Kind.LOST),
    "a doubled detail": (_double_the_details, Kind.TWICE),
    "a changed detail": (_change("agg_details", lambda detail: detail | {"score": 0}), Kind.WRONG),
    "the old column": (_add(("aggregates", "do_1", "somebody", "agg", "score:do_1"), 7), Kind.TWICE),
    "a content viewed twice": (_change("viewcount", lambda count: count + 1), Kind.TWICE),
    "a lost count of views": (_change("viewcount", _lose), Kind.LOST),
    "a content completed twice": (_change("completedcount", lambda count: count + 1), Kind.TWICE),
    "a lost count of completions": (_change("completedcount", _lose), Kind.LOST),
    "a content of nobody": (_add(("content", "somebody", "do_1", "viewcount"), 1), Kind.TWICE),
    "a count with another write time": (_change("counted at", lambda time: time + 1), Kind.TWICE),
    "counts with two write times": (_change("counted at", lambda time: (time, time + 1)), Kind.WRONG),
    "a lost status of a content": (_change("contentstatus", _lose), Kind.LOST),
    "a lower status of a content": (_change("contentstatus", lambda _: 1), Kind.LOST),
    "a lower status of an enrolment": (_change("status", lambda status: status - 1), Kind.LOST),
    "an enrolment without a status": (_change("status", _lose), Kind.LOST),
    "a lower progress": (_change("progress", lambda progress: progress - 1), Kind.LOST),
    "an enrolment without its time": (_change("datetime", _lose), Kind.LOST),
    "another time of completion": (_change("completedon", lambda time: time + 1), Kind.TWICE),
}


@pytest.mark.parametrize(("harm", "kind"), ROWS.values(), ids=ROWS.keys())
def test_every_harm_to_a_row_is_noticed(load: Load, observed: Observed, harm: Harm, kind: Kind) -> None:
    harm(observed)
    assert [problem.kind for problem in compare(load, observed)] == [kind]


_KEY_COLUMNS = {"attempt": 3, "aggregates": 2, "content": 2, "enrolment": 1}
"""How many columns the key of a row has, by table."""


def _columns(keys: Iterable[Key]) -> set[tuple[str, str]]:
    """Pairs of table and column."""
    return {(table, path[_KEY_COLUMNS[table]]) for table, *path in keys}


def test_every_column_is_harmed(right: Observed) -> None:
    harmed: set[tuple[str, str]] = set()
    for harm, _ in ROWS.values():
        observed = replace(right, values=dict(right.values))
        harm(observed)
        harmed |= _columns(key for key, value in right.values.items() if observed.values.get(key) != value)
    assert harmed == _columns(right.values)


def _of(messages: str, change: Callable[[list[Sent]], None]) -> Harm:
    return lambda observed: change(getattr(observed, messages))


def _replace_first(**changes: Any) -> Callable[[list[Sent]], None]:
    def change(messages: list[Sent]) -> None:
        messages[0] = messages[0]._replace(**changes)

    return change


def _change_body(*path: str) -> Callable[[list[Sent]], None]:
    def change(messages: list[Sent]) -> None:
        messages[0] = deepcopy(messages[0])
        body = messages[0].body
        for name in path[:-1]:
            body = body[name]
        body[path[-1]] = "another"

    return change


def _lose_last(messages: list[Sent]) -> None:
    messages.pop()


def _send_again_with_another_id(messages: list[Sent]) -> None:
    messages.append(messages[0]._replace(message_id="another"))


def _send_again_in_another_session(messages: list[Sent]) -> None:
    messages.append(messages[0]._replace(more_ids=("another",)))


def _share_an_id(messages: list[Sent]) -> None:
    messages[-1] = messages[-1]._replace(message_id=messages[0].message_id)


def _lose_failed(observed: Observed) -> None:
    observed.failed[FAILED_TOPIC["telemetry.assess"]].popitem()


def _refuse_a_good_event(observed: Observed) -> None:
    observed.failed["issue.certificate.failed"][b"{}"] = {Failed("CollectionCertPreProcessor", "event has ...", None)}


def _change_failed(topic: str, **changes: Any) -> Harm:
    def harm(observed: Observed) -> None:
        failed = observed.failed[topic]
        value = next(iter(failed))
        failed[value] = {each._replace(**changes) for each in failed[value]}

    return harm


def _refuse_again_for_another_reason(observed: Observed) -> None:
    (failed, *_) = observed.failed["activity.agg.failed"].values()
    failed.add(next(iter(failed))._replace(reason="internal error: KeyError"))


MESSAGES = {
    "a lost AUDIT event": (_of("audits", _lose_last), Kind.LOST),
    "an AUDIT event with another id": (_of("audits", _send_again_with_another_id), Kind.TWICE),
    "an AUDIT event of another session": (_of("audits", _send_again_in_another_session), Kind.TWICE),
    "two AUDIT events with one id": (_of("audits", _share_an_id), Kind.LOST),
    "another field of an AUDIT event": (_of("audits", _change_body("context", "channel")), Kind.WRONG),
    "other columns in an AUDIT event": (_of("audits", _change_body("edata", "props")), Kind.WRONG),
    "a lost request": (_of("requests", _lose_last), Kind.LOST),
    "a request with another id": (_of("requests", _send_again_with_another_id), Kind.TWICE),
    "two requests with one id": (_of("requests", _share_an_id), Kind.LOST),
    "another field of a request": (_of("requests", _change_body("edata", "reIssue")), Kind.WRONG),
    "a request with somebody else's attempt": (_of("requests", _replace_first(attempt_id="another")), Kind.WRONG),
    "another name in a certificate": (_of("certificates", _change_body("edata", "courseName")), Kind.WRONG),
    "another date in a certificate": (_of("certificates", _change_body("edata", "issuedDate")), Kind.WRONG),
    "a certificate with another id": (_of("certificates", _send_again_with_another_id), Kind.TWICE),
    "two certificates with one id": (_of("certificates", _share_an_id), Kind.LOST),
    "a lost failed event": (_lose_failed, Kind.LOST),
    "a refused good event": (_refuse_a_good_event, Kind.TWICE),
    "another reason": (_change_failed("telemetry.assess.failed", reason="internal error: KeyError"), Kind.WRONG),
    "another reason for a repeat": (_refuse_again_for_another_reason, Kind.WRONG),
    "another job": (_change_failed("issue.certificate.failed", job="AssessmentAggregator"), Kind.WRONG),
    "a failed event of another user": (_change_failed("activity.agg.failed", key=b"another"), Kind.WRONG),
    "an AUDIT event with a key": (_of("audits", _replace_first(key=b"a user")), Kind.WRONG),
    "a request with a key": (_of("requests", _replace_first(key=b"a user")), Kind.WRONG),
    "a certificate with a key": (_of("certificates", _replace_first(key=b"a user")), Kind.WRONG),
}


@pytest.mark.parametrize(("harm", "kind"), MESSAGES.values(), ids=MESSAGES.keys())
def test_every_harm_to_a_message_is_noticed(load: Load, observed: Observed, harm: Harm, kind: Kind) -> None:
    harm(observed)
    assert [problem.kind for problem in compare(load, observed)] == [kind]


@pytest.mark.parametrize("messages", ["audits", "requests", "certificates"])
def test_one_id_for_all_messages_is_noticed_for_each_but_one(load: Load, observed: Observed, messages: str) -> None:
    sent = getattr(observed, messages)
    assert len(sent) > 1
    sent[:] = [each._replace(message_id="x") for each in sent]
    assert [problem.kind for problem in compare(load, observed)] == [Kind.LOST] * (len(sent) - 1)


def test_a_learner_without_a_certificate_that_was_earned_and_one_with_a_certificate_that_was_not(
    load: Load, observed: Observed, histories: list[History]
) -> None:
    user_id = observed.certificates[0].user_id
    others = [sent for sent in observed.certificates if sent.user_id != user_id]
    problems = compare(load, replace(observed, certificates=others))
    assert problems == [(Kind.MISSING_CERTIFICATE, user_id)]
    without = next(history.user_id for history in histories if not history.gets_certificate)
    wrong = Sent(without, 1, "wrong", {})
    problems = compare(load, replace(observed, certificates=[*observed.certificates, wrong]))
    assert problems == [(Kind.WRONG_CERTIFICATE, without)]


def test_each_certificate_that_must_be_there_is_missed(load: Load, observed: Observed) -> None:
    sent_to = [sent.user_id for sent in observed.certificates]
    assert len(sent_to) > len(set(sent_to))
    for number, lost in enumerate(observed.certificates):
        certificates = observed.certificates[:number] + observed.certificates[number + 1 :]
        others = f": none answers the request of {lost.time_ms}" if sent_to.count(lost.user_id) > 1 else ""
        problems = compare(load, replace(observed, certificates=certificates))
        assert problems == [(Kind.MISSING_CERTIFICATE, f"{lost.user_id}{others}")]


def test_a_request_that_may_have_been_handled_later_may_have_a_certificate(
    load: Load, observed: Observed, histories: list[History]
) -> None:
    early = [
        Sent(history.user_id, time_ms, f"early {history.user_id} {time_ms}", history.certificate(time_ms))
        for history in histories
        if history.gets_certificate
        for time_ms in history.request_times()
        if time_ms < earned_at(history)
    ]
    assert early
    assert compare(load, replace(observed, certificates=[*observed.certificates, *early])) == []


def test_of_completion_and_passed_attempt_one_has_a_certificate_also_if_nobody_knows_when(
    load: Load, observed: Observed, histories: list[History]
) -> None:
    requests = [sent._replace(appended_ms=None) for sent in observed.requests]
    history = next(history for history in histories if history.gets_certificate and len(history.passed_at) == 1)
    others = [sent for sent in observed.certificates if sent.user_id != history.user_id]
    pair = {history.completed_at, *history.passed_at}

    def problems(time_ms: int) -> list[Problem]:
        only = Sent(history.user_id, time_ms, "id", history.certificate(time_ms))
        return compare(load, replace(observed, requests=requests, certificates=[*others, only]))

    for time_ms in history.request_times():
        kinds = [problem.kind for problem in problems(time_ms)]
        assert kinds == ([] if time_ms in pair else [Kind.MISSING_CERTIFICATE])


def test_where_the_order_is_not_defined_every_order_is_right_and_no_other(load: Load, observed: Observed) -> None:
    """The first event of a content is not the one that was counted, but another one; rows and messages agree."""
    learner, content_id, other = next(
        (learner, content_id, completion.time_ms)
        for learner in load.learners
        if learner.is_spread
        for completion in learner.completions[1:]
        for content_id in completion.contents
        if observed.values["content", learner.user_id, content_id, "counted at"] != completion.time_ms
        and History(load, learner, {}).completed_at is None
    )
    key = ("content", learner.user_id, content_id, "counted at")
    first = observed.values[key]
    observed.values[key] = other
    # The AUDIT events are still those of the first event.
    assert sorted(problem.kind for problem in compare(load, observed)) == [*[Kind.TWICE] * 2, *[Kind.LOST] * 2]
    observed.audits = [
        Sent(key[0], int(key[1]), f"id {key}", body)
        for learner in load.learners
        for key, body in History(load, learner, observed.values).audits()
    ]
    assert compare(load, observed) == []
    observed.values[key] = first + 7
    assert Kind.TWICE in {problem.kind for problem in compare(load, observed)}
