"""What is left unread of an enrolment with many attempts changes nothing."""

import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.attempts import AssessmentEvent
from jobs.assessment_aggregator.many_attempts import LARGE, LargeEnrolments, unread_attempts
from jobs.assessment_aggregator.rules import Attempt, Decision, Unread, attempt_key, decide, submitted_keys
from local.expected import content_aggregates
from tests.support.assessment_rules import NOW_MS, SETTINGS, recompute, stored, submitted
from tests.support.strategies import ASHA, assessment_events, stored_attempts

ATTEMPTS = [
    stored("a", "do_1", score=1.0),
    stored("b", "do_1", score=2.0),
    stored("a", "do_2", score=3.0),
    stored("b", "do_2", score=3.0, max_score=7.0),
    stored("draft", "do_2", score=None),
    stored("a", "do_3", score=0.0, time_ms=None),
]

Row = tuple[dict[str, float], list[str]]
"""``aggregates`` and ``agg_details``."""


def row_of(attempts: list[Attempt]) -> Row:
    """As the job has written it."""
    changes = decide(attempts, [recompute()], (), SETTINGS, NOW_MS).aggregates
    assert changes is not None
    return dict(changes.aggregates), list(changes.agg_details)


def decide_unread(attempts: list[Attempt], events: list[AssessmentEvent], row: Row) -> Decision | None:
    """Only the attempts that the events submit are read. None if that is not possible."""
    keys = submitted_keys(events)
    unread = unread_attempts(*row, keys)
    if unread is None:
        return None
    read = [attempt for attempt in attempts if attempt_key(attempt) in keys]
    return decide(read, events, (), SETTINGS, NOW_MS, unread)


def different(parts: list[list[Attempt]]) -> list[Attempt]:
    return list({attempt_key(attempt): attempt for part in parts for attempt in part}.values())


def row_after(row: Row, decision: Decision) -> Row:
    if decision.aggregates is None:
        return row
    return {**row[0], **decision.aggregates.aggregates}, list(decision.aggregates.agg_details)


def test_only_the_attempts_that_the_events_submit_are_needed() -> None:
    row = row_of(ATTEMPTS)
    decision = decide_unread(ATTEMPTS, [submitted("c", "do_1", score=9.0)], row)

    assert decision is not None
    assert decision.aggregates is not None
    assert decision.aggregates.aggregates == content_aggregates("do_1", [(1.0, 10.0), (2.0, 10.0), (9.0, 10.0)])
    everything = decide(ATTEMPTS, [submitted("c", "do_1", score=9.0)], (), SETTINGS, NOW_MS)
    assert row_after(row, decision) == row_after(row, everything)
    assert decision.results == everything.results


@given(
    st.lists(stored_attempts(), min_size=2, max_size=3),
    st.lists(assessment_events(st.just(ASHA), recomputes=False), min_size=1, max_size=2),
)
def test_it_ends_with_the_same_rows_and_messages(parts: list[list[Attempt]], events: list[AssessmentEvent]) -> None:
    attempts = different(parts)
    row = row_of(attempts)
    decision = decide_unread(attempts, events, row)

    if decision is not None:
        everything = decide(attempts, events, (), SETTINGS, NOW_MS)
        assert row_after(row, decision) == row_after(row, everything)
        assert decision.attempts == everything.attempts
        assert decision.results == everything.results


@given(st.lists(stored_attempts(), min_size=2, max_size=3), assessment_events(st.just(ASHA), recomputes=False))
def test_after_a_crash_between_the_two_writes_the_replay_mends_the_row(
    parts: list[list[Attempt]], event: AssessmentEvent
) -> None:
    attempts = different(parts)
    row = row_of(attempts)
    everything = decide(attempts, [event], (), SETTINGS, NOW_MS)
    written = {attempt_key(attempt): attempt for attempt in (*attempts, *everything.attempts)}

    replayed = decide_unread(list(written.values()), [event], row)

    if replayed is not None:
        assert row_after(row, replayed) == row_after(row, everything)


def doubled(row: Row) -> Row:
    return row[0], row[1] * 2


def in_another_order(row: Row) -> Row:
    return row[0], row[1][::-1]


def without_an_element(row: Row) -> Row:
    return row[0], row[1][:-1]


def with_a_foreign_element(row: Row) -> Row:
    return row[0], [*row[1], "old"]


def without_elements(row: Row) -> Row:
    return row[0], []


def without_an_aggregate(row: Row) -> Row:
    return {key: value for key, value in row[0].items() if key != "max_score:do_2"}, row[1]


def with_another_score(row: Row) -> Row:
    return {**row[0], "score:do_2": 2.5}, row[1]


def with_a_content_without_attempts(row: Row) -> Row:
    return {**row[0], "score:do_9": 2.5}, row[1]


@pytest.mark.parametrize(
    "change",
    [
        doubled,
        in_another_order,
        without_an_element,
        with_a_foreign_element,
        without_elements,
        without_an_aggregate,
        with_another_score,
        with_a_content_without_attempts,
    ],
)
def test_a_row_that_this_job_has_not_written_is_not_relied_on(change: Callable[[Row], Row]) -> None:
    row = row_of(ATTEMPTS)
    assert unread_attempts(*row, ()) is not None
    assert unread_attempts(*change(row), ()) is None


def test_what_is_read_is_not_among_what_is_unread() -> None:
    aggregates, details = row_of(ATTEMPTS)
    unread = unread_attempts(aggregates, details, {("do_1", "b"), ("do_1", "new")})
    assert told(unread) == [
        ("do_1", "a", 1.0, 10.0, details[0]),
        ("do_2", "a", 3.0, 10.0, details[2]),
        ("do_2", "b", 3.0, 7.0, details[3]),
        ("do_3", "a", 0.0, 10.0, details[4]),
    ]


def told(unread: Unread | None) -> list[tuple[str, str, float, float, str]]:
    return [(*key, detail.total_score, detail.total_max_score, text) for key, (detail, text) in (unread or {}).items()]


def test_keys_of_other_jobs_do_not_matter() -> None:
    aggregates, details = row_of(ATTEMPTS)
    assert unread_attempts({**aggregates, "completedCount": 3.0, "percent:do_2": 1.0}, details, ()) is not None


def test_two_contents_are_needed_to_know_that_no_attempt_is_named() -> None:
    at_one = [attempt for attempt in ATTEMPTS if attempt.content_id == "do_2"]
    assert unread_attempts(*row_of(at_one), ()) is None
    at_two = [attempt for attempt in ATTEMPTS if attempt.content_id != "do_3"]
    assert unread_attempts(*row_of(at_two), ()) is not None


def spread(*numbers: int) -> list[Attempt]:
    """So many attempts at each of the contents."""
    return [stored(str(one), f"do_{content}") for content, number in enumerate(numbers) for one in range(number)]


class TestLargeEnrolments:
    def test_those_with_many_attempts_are_remembered(self) -> None:
        large = LargeEnrolments()
        large.note(ASHA, spread(LARGE - 2, 1))
        assert ASHA not in large
        large.note(ASHA, spread(LARGE - 1, 1))
        assert ASHA in large

    def test_those_at_one_content_are_not(self) -> None:
        large = LargeEnrolments()
        large.note(ASHA, spread(200))
        assert ASHA not in large

    def test_they_are_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.assessment_aggregator.many_attempts._REMEMBERED", 2)
        large = LargeEnrolments()
        attempts = spread(LARGE, LARGE, LARGE)
        enrolments = [ASHA._replace(batch_id=str(number)) for number in range(3)]
        for enrolment in enrolments:
            large.note(enrolment, attempts)
        assert [enrolment in large for enrolment in enrolments] == [False, False, True]

    def test_they_take_5_mb_at_most_however_long_their_ids_are(self) -> None:
        large = LargeEnrolments()
        attempts = spread(LARGE, 1)
        tracemalloc.start()
        try:
            for number in range(60_000):
                large.note(ASHA._replace(batch_id=f"{number:0200}"), attempts)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 5_000_000
