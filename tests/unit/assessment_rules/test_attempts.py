"""What the assessment aggregator writes of an attempt: its total, and whether it replaces what is stored."""

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.events import to_datetime
from jobs.assessment_aggregator.rules import (
    Effect,
    score_text,
)
from tests.support.assessment_rules import (
    EARLIER,
    NOW,
    QUESTION,
    aggregates,
    decided,
    effects,
    stored,
    submitted,
)
from tests.support.strategies import ASHA, T0


class TestGrandTotal:
    @pytest.mark.parametrize(
        ("score", "text"),
        [
            (0.0, "0.0"),
            (-0.0, "0.0"),
            (7.0, "7.0"),
            (7.5, "7.5"),
            (10.0, "10.0"),
            (0.75, "0.75"),
            (0.1, "0.1"),
            (100.0, "100.0"),
            # Ties, to the even digit: these are exact in binary.
            (0.125, "0.12"),
            (0.375, "0.38"),
            (2.5, "2.5"),
            (0.625, "0.62"),
            # No ties: the binary value is a little below or above what is written here.
            (0.135, "0.14"),
            (1.005, "1.0"),
            (0.145, "0.14"),
            (2.675, "2.67"),
            (1.115, "1.11"),
            (0.995, "0.99"),
            (9.995, "9.99"),
            (0.999, "1.0"),
            # What rounds to zero has no sign.
            (0.005, "0.01"),
            (0.004, "0.0"),
            (-0.001, "0.0"),
            (-0.25, "-0.25"),
            # Never an exponent.
            (5e-324, "0.0"),
            (1e7, "10000000.0"),
            (1e16, "10000000000000000.0"),
            (1e23, "99999999999999991611392.0"),
            (1.5e300, f"{int(1.5e300)}.0"),
        ],
    )
    def test_a_score_has_one_or_two_decimals(self, score: float, text: str) -> None:
        assert score_text(score) == text

    @given(st.floats(allow_nan=False, allow_infinity=False))
    @example(1.7976931348623157e308)
    def test_it_is_rounded_half_even_on_the_exact_binary_value(self, score: float) -> None:
        whole, decimals = score_text(score).split(".")

        assert len(decimals) == 1 or (len(decimals) == 2 and not decimals.endswith("0"))
        numerator, denominator = score.as_integer_ratio()
        hundredths, rest = divmod(numerator * 100, denominator)
        if 2 * rest > denominator or (2 * rest == denominator and hundredths % 2):
            hundredths += 1
        assert int(whole + decimals.ljust(2, "0")) == hundredths

    def test_it_is_written_with_the_attempt(self) -> None:
        (row,) = decided([submitted(score=7.5, max_score=10.0)]).attempts

        assert row.grand_total == "7.5/10.0"


class TestStoredAttempt:
    def test_a_new_attempt_is_written(self) -> None:
        event = AssessmentEvent(ASHA, "do_1", T0, SubmittedAttempt("a", (QUESTION,), 7.5, 10.0))

        decision = decided([event])

        (row,) = decision.attempts
        assert msgspec.structs.asdict(row) == {
            "content_id": "do_1",
            "attempt_id": "a",
            "last_attempted_on": to_datetime(T0),
            "created_on": NOW,
            "updated_on": NOW,
            "total_score": 7.5,
            "total_max_score": 10.0,
            "grand_total": "7.5/10.0",
            "questions": (QUESTION,),
        }
        assert effects(decision) == [Effect.WRITTEN]

    def test_a_later_time_overwrites_and_keeps_the_creation(self) -> None:
        decision = decided([submitted(time_ms=T0, score=3.0)], [stored(time_ms=T0 - 1, score=6.0)])

        (row,) = decision.attempts
        assert (row.total_score, row.created_on, row.updated_on) == (3.0, EARLIER, NOW)
        assert effects(decision) == [Effect.WRITTEN]
        assert aggregates(decision)["score:do_1"] == 3.0

    def test_a_draft_without_a_time_is_overwritten(self) -> None:
        decision = decided([submitted()], [stored(time_ms=None, score=None, max_score=None)])

        assert [row.created_on for row in decision.attempts] == [EARLIER]

    def test_a_row_without_a_creation_gets_one(self) -> None:
        decision = decided([submitted()], [stored(time_ms=T0 - 1, created_on=None)])

        assert [row.created_on for row in decision.attempts] == [NOW]

    def test_the_same_time_is_a_replay_that_writes_no_attempt_but_goes_on(self) -> None:
        decision = decided([submitted(score=7.5)], [stored(score=6.0)])

        assert decision.attempts == ()
        assert effects(decision) == [Effect.REPLAYED]
        assert aggregates(decision)["score:do_1"] == 6.0
        assert len(decision.results[0].messages) == 1

    def test_an_earlier_time_is_stale_and_changes_nothing(self) -> None:
        decision = decided([submitted(time_ms=T0 - 1)], [stored(time_ms=T0)])

        assert (decision.attempts, decision.aggregates) == ((), None)
        assert effects(decision) == [Effect.STALE]
        assert decision.results[0].messages == ()

    def test_events_of_one_attempt_in_one_batch_are_applied_one_after_another(self) -> None:
        events = [
            submitted(time_ms=T0, score=1.0),
            submitted(time_ms=T0 + 2, score=2.0),
            submitted(time_ms=T0 + 1, score=3.0),
            submitted(time_ms=T0 + 2, score=4.0),
        ]

        decision = decided(events)

        assert effects(decision) == [Effect.WRITTEN, Effect.WRITTEN, Effect.STALE, Effect.REPLAYED]
        assert [(row.total_score, row.last_attempted_on) for row in decision.attempts] == [(2.0, to_datetime(T0 + 2))]
        assert aggregates(decision)["attempts_count:do_1"] == 1.0

    def test_another_content_is_another_attempt(self) -> None:
        decision = decided([submitted("a", "do_2")], [stored("a", "do_1", time_ms=T0 + 1)])

        assert effects(decision) == [Effect.WRITTEN]
