"""What holds for the assessment aggregator whatever the events are, in whatever batches and however often they come."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC
from itertools import pairwise
from math import fsum

from hypothesis import assume, given
from hypothesis import strategies as st

from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, contents_of, merge
from common.domain.attempts import AssessmentEvent, decode
from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from jobs.assessment_aggregator.rules import Attempt, Decision, Settings, decide, needs_aggregate_keys
from local.expected import content_aggregates
from tests.support.strategies import (
    ASHA,
    T0,
    answer,
    assessment_events,
    content_ids,
    item,
    scores,
    stored_attempts,
    submission,
)

SETTINGS = Settings(certificate_topic="dev.issue.certificate.request", time_zone=UTC)

Batches = Sequence[Sequence[AssessmentEvent]]

streams = st.lists(assessment_events(), max_size=12)
streams_of_asha = st.lists(assessment_events(st.just(ASHA)), max_size=12)
METRICS_OF_A_CONTENT = [key.removesuffix(":do_1") for key in content_aggregates("do_1", [(0.0, 0.0)])]
old_aggregates = st.dictionaries(
    st.builds(
        "{}:{}".format,
        st.sampled_from(METRICS_OF_A_CONTENT),
        content_ids | st.sampled_from(["gone", "a:b"]),
    )
    | st.sampled_from(["completedCount", "completedCount:do_1", "scores"]),
    scores,
)


class Tables:
    """The rows of the job in memory, and the messages that have left it."""

    def __init__(self, attempts: Iterable[Attempt] = (), aggregates: dict[str, float] | None = None) -> None:
        """Holds what other writers have left of Asha's enrolment."""
        self.attempts = {ASHA: {(attempt.content_id, attempt.attempt_id): attempt for attempt in attempts}}
        self.aggregates = {ASHA: dict(aggregates or {})}
        self.details: dict[EnrolmentKey, list[str]] = {}
        self.messages: list[Message] = []

    def apply(self, batches: Batches, now_ms: int = T0 + 60_000, is_killed_after_attempts: bool = False) -> "Tables":
        """Applies batches as the job does: per enrolment, attempts before aggregates before messages."""
        for batch in batches:
            for enrolment in dict.fromkeys(event.enrolment for event in batch):
                events = [event for event in batch if event.enrolment == enrolment]
                self._apply(enrolment, events, now_ms, is_killed_after_attempts)
        return self

    def _apply(
        self, enrolment: EnrolmentKey, events: Sequence[AssessmentEvent], now_ms: int, is_killed_after_attempts: bool
    ) -> None:
        attempts = self.attempts.setdefault(enrolment, {})
        aggregates = self.aggregates.setdefault(enrolment, {})
        keys = tuple(aggregates) if needs_aggregate_keys(events) else ()
        decision: Decision = decide(attempts.values(), events, keys, SETTINGS, now_ms)
        for row in decision.attempts:
            attempts[row.content_id, row.attempt_id] = row
        if is_killed_after_attempts:
            return
        if decision.aggregates is not None:
            aggregates.update(decision.aggregates.aggregates)
            for key in decision.aggregates.removed_keys:
                del aggregates[key]
            self.details[enrolment] = list(decision.aggregates.agg_details)
        self.messages.extend(message for result in decision.results for message in result.messages)

    def rows(self) -> object:
        """All that readers see, but for users that have nothing."""
        return [
            {enrolment: rows for enrolment, rows in table.items() if rows}
            for table in (self.attempts, self.aggregates, self.details)
        ]

    def message_ids(self) -> set[str]:
        return {json.loads(message.value)["mid"] for message in self.messages}


def one_by_one(events: Iterable[AssessmentEvent]) -> Batches:
    return [[event] for event in events]


@st.composite
def in_batches(draw: st.DrawFn, events: Sequence[AssessmentEvent]) -> Batches:
    borders = sorted(draw(st.sets(st.integers(0, len(events)))) | {0, len(events)})
    return [events[start:end] for start, end in pairwise(borders)]


def computed_from(attempts: Iterable[Attempt]) -> dict[str, float]:
    """The job's entries of ``aggregates``, written down a second time, without regard to speed."""
    scored = [(attempt, attempt.total_score) for attempt in attempts if attempt.total_score is not None]
    scored.sort(key=lambda scored_attempt: scored_attempt[0].attempt_id.encode())
    expected: dict[str, float] = {}
    for content_id in {attempt.content_id for attempt, _ in scored}:
        scores = [
            (score, attempt.total_max_score or 0.0) for attempt, score in scored if attempt.content_id == content_id
        ]
        expected |= content_aggregates(content_id, scores)
    return expected


@given(st.data(), streams)
def test_twice_is_once(data: st.DataObject, events: list[AssessmentEvent]) -> None:
    once = Tables().apply(data.draw(in_batches(events)), now_ms=T0 + 60_000)
    twice = Tables().apply(data.draw(in_batches(events)), now_ms=T0 + 60_000)
    sent_before = twice.message_ids()

    twice.apply(data.draw(in_batches(events)), now_ms=T0 + 120_000)

    assert twice.rows() == once.rows()
    assert twice.message_ids() == sent_before


@given(st.data(), streams)
def test_however_events_gather_in_batches_rows_and_message_ids_are_the_same(
    data: st.DataObject, events: list[AssessmentEvent]
) -> None:
    gathered = Tables().apply(data.draw(in_batches(events)))
    alone = Tables().apply(one_by_one(events))

    assert gathered.rows() == alone.rows()
    assert gathered.message_ids() == alone.message_ids()


@given(st.data(), streams)
def test_killed_between_two_writes_and_replayed_it_ends_with_the_same_rows(
    data: st.DataObject, events: list[AssessmentEvent]
) -> None:
    undisturbed = Tables().apply(one_by_one(events))
    killed_at = data.draw(st.integers(0, len(events)))
    restarted_at = data.draw(st.integers(0, killed_at))

    tables = Tables().apply(data.draw(in_batches(events[:restarted_at])))
    tables.apply([events[restarted_at:killed_at]], is_killed_after_attempts=True)
    tables.apply(data.draw(in_batches(events[restarted_at:])))

    assert tables.rows() == undisturbed.rows()
    assert tables.message_ids() <= undisturbed.message_ids()
    # An event whose row a later one has overwritten asks for nothing when it comes again: the later one does.
    assert last_requests(tables) == last_requests(undisturbed)


def last_requests(tables: Tables) -> dict[tuple[str, ...], bytes]:
    """Per enrolment the request that left last: the one that has seen all attempts."""
    last = {}
    for message in tables.messages:
        edata = json.loads(message.value)["edata"]
        last[*edata["userIds"], edata["courseId"], edata["batchId"]] = message.value
    return last


@given(st.data(), streams_of_asha)
def test_the_order_of_other_users_events_is_irrelevant(
    data: st.DataObject, events_of_asha: list[AssessmentEvent]
) -> None:
    events_of_binod = data.draw(
        st.lists(assessment_events(st.just(EnrolmentKey("binod", "course", "batch"))), max_size=6)
    )
    assume(events_of_asha and events_of_binod)
    turns = data.draw(st.permutations([True] * len(events_of_asha) + [False] * len(events_of_binod)))
    asha, binod = iter(events_of_asha), iter(events_of_binod)
    mixed = [next(asha) if is_ashas_turn else next(binod) for is_ashas_turn in turns]

    together = Tables().apply(data.draw(in_batches(mixed)))
    alone = Tables().apply(one_by_one(events_of_asha))

    assert together.attempts[ASHA] == alone.attempts[ASHA]
    assert together.aggregates[ASHA] == alone.aggregates[ASHA]
    assert together.details.get(ASHA) == alone.details.get(ASHA)
    assert alone.message_ids() <= together.message_ids()


@given(st.data(), stored_attempts(), streams_of_asha)
def test_the_best_score_is_that_of_the_best_attempt(
    data: st.DataObject, stored: list[Attempt], events: list[AssessmentEvent]
) -> None:
    tables = Tables(stored).apply([*data.draw(in_batches(events)), [AssessmentEvent(ASHA, "do_1", T0, None)]])

    best, max_scores, counts = (
        contents_of(metric, tables.aggregates[ASHA]) for metric in (SCORE, MAX_SCORE, ATTEMPTS_COUNT)
    )
    scored = [attempt for attempt in tables.attempts[ASHA].values() if attempt.total_score is not None]
    assert best.keys() == max_scores.keys() == counts.keys() == {attempt.content_id for attempt in scored}
    assert sum(counts.values()) == len(tables.details[ASHA]) == len(scored)
    for attempt in scored:
        assert attempt.total_score is not None
        assert 0 <= attempt.total_score <= best[attempt.content_id]
    for content_id, score in best.items():
        assert (content_id, score, max_scores[content_id]) in {
            (attempt.content_id, attempt.total_score, attempt.total_max_score or 0.0) for attempt in scored
        }


@given(st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=3), min_size=1, max_size=5))
def test_attempts_with_a_negative_total_count_like_others(attempts: list[list[float]]) -> None:
    events = []
    for number, scores_of_attempt in enumerate(attempts):
        answers = [answer(score=score, item=item(id=f"q{index}")) for index, score in enumerate(scores_of_attempt)]
        value = json.dumps(submission(attemptId=f"a{number}", events=answers)).encode()
        events.append(decode(value, T0))

    tables = Tables().apply([events])

    aggregates = tables.aggregates[events[0].enrolment]
    content_id = events[0].content_id
    assert aggregates[f"score:{content_id}"] == max(map(fsum, attempts))
    assert aggregates[f"attempts_count:{content_id}"] == len(attempts)


@given(streams_of_asha, st.dictionaries(st.sampled_from(["score:do_1", "completedCount"]), st.integers(-9, 999)))
def test_aggregates_win(events: list[AssessmentEvent], agg: dict[str, int]) -> None:
    tables = Tables().apply(one_by_one(events))

    merged = merge(agg, tables.aggregates[ASHA])

    ours = computed_from(tables.attempts[ASHA].values())
    assert merged.items() >= ours.items()
    assert {key: merged[key] for key in merged.keys() - ours.keys()} == {
        key: value for key, value in agg.items() if key not in ours
    }


@given(st.data(), stored_attempts(), old_aggregates, streams_of_asha)
def test_a_recompute_equals_a_computation_from_scratch(
    data: st.DataObject, stored: list[Attempt], old: dict[str, float], events: list[AssessmentEvent]
) -> None:
    tables = Tables(stored, old).apply(data.draw(in_batches(events)))
    # A score correction deletes attempts before it asks for the recompute.
    deleted = data.draw(st.sets(st.sampled_from(sorted(tables.attempts[ASHA])))) if tables.attempts[ASHA] else set()
    for key in deleted:
        del tables.attempts[ASHA][key]

    tables.apply([[AssessmentEvent(ASHA, data.draw(content_ids), T0, None)]])

    from_scratch = Tables(tables.attempts[ASHA].values()).apply([[AssessmentEvent(ASHA, "do_1", T0, None)]])
    foreign = {key: value for key, value in old.items() if key.startswith("completedCount") or key == "scores"}
    assert tables.aggregates[ASHA] == {**foreign, **computed_from(tables.attempts[ASHA].values())}
    assert tables.aggregates[ASHA] == {**foreign, **from_scratch.aggregates[ASHA]}
    assert tables.details == from_scratch.details


@given(stored_attempts(), st.lists(assessment_events(st.just(ASHA), recomputes=False), min_size=1, max_size=6))
def test_what_is_added_up_event_by_event_equals_a_recompute(
    stored: list[Attempt], events: list[AssessmentEvent]
) -> None:
    tables = Tables(stored).apply(one_by_one(events))
    assume(tables.messages)
    before = tables.rows()

    tables.apply([[AssessmentEvent(ASHA, "do_1", T0, None)]])

    assert tables.rows() == before
