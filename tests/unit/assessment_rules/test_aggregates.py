"""What follows from all attempts of a learner: best scores and attempt counts, also when they are recomputed."""

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import pytest

from jobs.assessment_aggregator.rules import (
    Effect,
    Settings,
    needs_aggregate_keys,
    time_text,
)
from tests.support.assessment_rules import (
    aggregates,
    decided,
    details,
    effects,
    recompute,
    stored,
    submitted,
)
from tests.support.strategies import T0


class TestAggregates:
    def test_best_score_its_max_score_and_the_number_of_attempts_per_content(self) -> None:
        decision = decided(
            [submitted("c", "do_1", score=7.25, max_score=9.0), submitted("a", "do_2", score=0.0, max_score=1.0)],
            [stored("a", "do_1", score=6.0, max_score=10.0), stored("b", "do_1", score=7.0, max_score=8.0)],
        )

        assert aggregates(decision) == {
            "score:do_1": 7.25,
            "max_score:do_1": 9.0,
            "attempts_count:do_1": 3.0,
            "score:do_2": 0.0,
            "max_score:do_2": 1.0,
            "attempts_count:do_2": 1.0,
        }
        assert {type(value) for value in aggregates(decision).values()} == {float}

    def test_of_equal_scores_the_first_in_the_order_of_attempt_ids_gives_the_max_score(self) -> None:
        # Cassandra compares bytes: an emoji (F0…) comes after U+FFEE (EF…), in UTF-16 it would come before.
        attempts = [
            stored("\U0001f600", max_score=1.0),
            stored("\uffee", max_score=2.0),
            stored("b", max_score=3.0),
            stored("B", max_score=4.0),
        ]
        for left in range(4):
            decision = decided([recompute()], attempts[: left + 1])

            assert aggregates(decision)["max_score:do_1"] == left + 1.0

    def test_drafts_do_not_count(self) -> None:
        decision = decided([recompute()], [stored("a", score=None, max_score=None), stored("b", score=6.0)])

        assert aggregates(decision) == {"score:do_1": 6.0, "max_score:do_1": 10.0, "attempts_count:do_1": 1.0}
        assert [detail["attempt_id"] for detail in details(decision)] == ["b"]

    def test_a_total_without_a_max_counts_with_0(self) -> None:
        decision = decided([recompute()], [stored(score=6.0, max_score=None)])

        assert aggregates(decision)["max_score:do_1"] == 0.0
        assert details(decision)[0]["max_score"] == 0.0

    def test_details_are_one_json_text_per_attempt_in_key_order(self) -> None:
        decision = decided(
            [submitted("b", "do_1", time_ms=T0)],
            [stored("a", "do_2", time_ms=T0 + 1000), stored("a", "do_1", time_ms=None, score=0.1)],
        )

        assert decision.aggregates is not None
        assert decision.aggregates.agg_details == [
            '{"attempt_id":"a","last_attempted_on":null,"score":0.1,'
            '"content_id":"do_1","max_score":10.0,"type":"attempt_metrics"}',
            '{"attempt_id":"b","last_attempted_on":"May 14, 2024, 9:12:40 AM","score":7.5,'
            '"content_id":"do_1","max_score":10.0,"type":"attempt_metrics"}',
            '{"attempt_id":"a","last_attempted_on":"May 14, 2024, 9:12:41 AM","score":6.0,'
            '"content_id":"do_2","max_score":10.0,"type":"attempt_metrics"}',
        ]

    @pytest.mark.parametrize(
        ("zone", "time"),
        [
            (UTC, "May 14, 2024, 9:12:40 AM"),
            (ZoneInfo("Asia/Kolkata"), "May 14, 2024, 2:42:40 PM"),
            (ZoneInfo("America/New_York"), "May 14, 2024, 5:12:40 AM"),
        ],
    )
    def test_the_zone_of_the_details_is_a_setting(self, zone: tzinfo, time: str) -> None:
        decision = decided([submitted()], settings=Settings("t", zone))

        assert details(decision)[0]["last_attempted_on"] == time

    @pytest.mark.parametrize(
        ("moment", "text"),
        [
            (datetime(2024, 1, 1, 0, 0, 0), "Jan 1, 2024, 12:00:00 AM"),
            (datetime(2024, 2, 29, 12, 0, 0), "Feb 29, 2024, 12:00:00 PM"),
            (datetime(1999, 12, 31, 23, 59, 59), "Dec 31, 1999, 11:59:59 PM"),
            (datetime(2024, 9, 10, 13, 5, 9), "Sep 10, 2024, 1:05:09 PM"),
        ],
    )
    def test_times_are_written_as_clients_know_them(self, moment: datetime, text: str) -> None:
        assert time_text(moment) == text


class TestRecompute:
    OLD_KEYS = (
        "score:do_1",
        "max_score:do_1",
        "attempts_count:do_1",
        "score:do_2",
        "max_score:do_2",
        "attempts_count:do_2",
        "completedCount",
        "completedCount:do_2",
        "other:do_2",
        "score",
    )

    def test_the_best_score_may_go_down(self) -> None:
        decision = decided([recompute()], [stored(score=3.0)])

        assert effects(decision) == [Effect.RECOMPUTED]
        assert decision.attempts == ()
        assert aggregates(decision)["score:do_1"] == 3.0

    def test_keys_of_contents_without_an_attempt_are_removed_and_foreign_ones_kept(self) -> None:
        decision = decided([recompute("do_1")], [stored("a", "do_1"), stored("a", "do_2", score=None)], self.OLD_KEYS)

        assert decision.aggregates is not None
        assert decision.aggregates.removed_keys == ["score:do_2", "max_score:do_2", "attempts_count:do_2"]

    def test_an_id_may_hold_colons(self) -> None:
        decision = decided([recompute()], [stored("a", "do:1")], ("score:do:1", "score:do:2"))

        assert decision.aggregates is not None
        assert decision.aggregates.removed_keys == ["score:do:2"]

    def test_without_any_attempt_nothing_of_ours_is_left(self) -> None:
        decision = decided([recompute()], [], self.OLD_KEYS)

        assert decision.aggregates is not None
        assert list(decision.aggregates.removed_keys) == list(self.OLD_KEYS[:6])
        assert (aggregates(decision), details(decision)) == ({}, [])

    def test_an_attempt_in_the_same_batch_keeps_its_keys(self) -> None:
        decision = decided([recompute("do_2"), submitted("a", "do_2")], [], self.OLD_KEYS)

        assert decision.aggregates is not None
        assert list(decision.aggregates.removed_keys) == list(self.OLD_KEYS[:3])

    def test_a_submitted_attempt_removes_nothing_and_needs_no_keys(self) -> None:
        assert not needs_aggregate_keys([submitted()])
        assert needs_aggregate_keys([submitted(), recompute()])
        decision = decided([submitted()], [], self.OLD_KEYS)
        assert decision.aggregates is not None
        assert decision.aggregates.removed_keys == ()
