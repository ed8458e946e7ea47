"""The steps of the assessment aggregator, by examples."""

import json
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.events import BadEvent, to_datetime
from common.domain.questions import Question, to_item, to_responses
from common.servers.http import Answer
from jobs.assessment_aggregator.answers import (
    CONTENT_METADATA,
    ContentMetadata,
    cached_total_questions,
    total_questions,
)
from jobs.assessment_aggregator.rules import (
    Attempt,
    Decision,
    Effect,
    Settings,
    check_content,
    check_number_of_questions,
    decide,
    needs_aggregate_keys,
    score_text,
    time_text,
)
from tests.support.strategies import ASHA, T0, JsonObject

NOW_MS = T0 + 60_000
NOW = to_datetime(NOW_MS)
EARLIER = to_datetime(T0 - 60_000)
ITEM = to_item(id="q1", max_score=2.0, type="mcq", title=None, params=(), description=None)
QUESTION = Question(item=ITEM, time_ms=T0 - 10_000, score=1.5, resvalues=to_responses(()), duration=None)
SETTINGS = Settings(certificate_topic="dev.issue.certificate.request", time_zone=UTC)


def submitted(
    attempt_id: str = "a", content_id: str = "do_1", time_ms: int = T0, score: float = 7.5, max_score: float = 10.0
) -> AssessmentEvent:
    return AssessmentEvent(ASHA, content_id, time_ms, SubmittedAttempt(attempt_id, (), score, max_score))


def recompute(content_id: str = "do_1", time_ms: int = T0) -> AssessmentEvent:
    return AssessmentEvent(ASHA, content_id, time_ms, None)


def stored(
    attempt_id: str = "a",
    content_id: str = "do_1",
    time_ms: int | None = T0,
    score: float | None = 6.0,
    max_score: float | None = 10.0,
    created_on: datetime | None = EARLIER,
) -> Attempt:
    attempted_on = None if time_ms is None else to_datetime(time_ms)
    return Attempt(content_id, attempt_id, attempted_on, created_on, score, max_score)


def decided(
    events: list[AssessmentEvent],
    attempts: list[Attempt] | None = None,
    keys: tuple[str, ...] = (),
    settings: Settings = SETTINGS,
) -> Decision:
    return decide(attempts or [], events, keys, settings, NOW_MS)


def aggregates(decision: Decision) -> dict[str, float]:
    assert decision.aggregates is not None
    return dict(decision.aggregates.aggregates)


def details(decision: Decision) -> list[JsonObject]:
    assert decision.aggregates is not None
    return [json.loads(detail) for detail in decision.aggregates.agg_details]


def effects(decision: Decision) -> list[Effect]:
    return [result.effect for result in decision.results]


class TestContentCheck:
    def test_a_content_of_the_course_passes(self) -> None:
        check_content(submitted(content_id="do_1"), {"do_1", "do_2"})

    def test_a_course_that_the_cache_does_not_know_lets_all_pass(self) -> None:
        check_content(submitted(content_id="do_1"), set())

    @pytest.mark.parametrize("event", [submitted(content_id="do_1"), recompute(content_id="do_1")])
    def test_another_content_is_refused(self, event: AssessmentEvent) -> None:
        with pytest.raises(BadEvent, match=r"^content 'do_1' is not part of course 'course'$") as refusal:
            check_content(event, {"do_11"})

        assert refusal.value.kind == "content_not_in_course"


class TestNumberOfQuestions:
    @pytest.mark.parametrize(
        ("metadata", "total"),
        [
            ({"totalQuestions": 10}, 10.0),
            ({"totalQuestions": "10"}, 10.0),
            ({"totalquestions": 10.0}, 10.0),
            ({"total_questions": "10"}, 10.0),
            ({"totalQuestions": 0, "total_questions": 10}, 10.0),
            ({"totalQuestions": "many", "totalquestions": 10}, 10.0),
            ({"totalQuestions": 0}, None),
            ({"totalQuestions": "0"}, None),
            ({"totalQuestions": -1}, None),
            ({"totalQuestions": True}, None),
            ({"totalQuestions": None}, None),
            ({"totalQuestions": [10]}, None),
            ({"totalQuestions": 10**400}, None),
            ({"name": "A content"}, None),
        ],
    )
    def test_where_the_cache_and_the_api_have_it(self, metadata: JsonObject, total: float | None) -> None:
        cached = CONTENT_METADATA.decode(json.dumps(metadata).encode())
        answer = Answer(200, {"responseCode": "OK", "result": {"content": metadata}})

        assert cached_total_questions(cached) == total
        assert total_questions("do_1", answer) == total

    def test_a_cache_without_usable_metadata_is_as_good_as_empty(self) -> None:
        assert cached_total_questions(None) is None
        assert cached_total_questions("what is there instead") is None
        assert cached_total_questions(ContentMetadata()) is None

    @pytest.mark.parametrize("body", [{}, {"result": None}, {"result": {}}, {"result": {"content": []}}])
    def test_an_answer_without_the_content_is_no_check(self, body: JsonObject) -> None:
        assert total_questions("do_1", Answer(200, body)) is None

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (Answer(404, {}), "content read API answered 404 None for content 'do_1'"),
            (
                Answer(400, {"responseCode": "CLIENT_ERROR"}),
                "content read API answered 400 'CLIENT_ERROR' for content 'do_1'",
            ),
            (
                Answer(200, {"responseCode": "RESOURCE_NOT_FOUND", "result": {"content": {"totalQuestions": 9}}}),
                "content read API answered 200 'RESOURCE_NOT_FOUND' for content 'do_1'",
            ),
        ],
    )
    def test_a_content_that_the_api_does_not_know_is_refused(self, answer: Answer, reason: str) -> None:
        with pytest.raises(BadEvent) as refusal:
            total_questions("do_1", answer)

        assert (refusal.value.kind, refusal.value.reason) == ("unknown_content", reason)

    @pytest.mark.parametrize("total", [None, 2.0, 3.0])
    def test_as_many_as_the_content_has_or_as_nobody_knows_pass(self, total: float | None) -> None:
        check_number_of_questions(self.with_two_answers(), total)

    def test_more_than_the_content_has_are_refused(self) -> None:
        with pytest.raises(BadEvent) as refusal:
            check_number_of_questions(self.with_two_answers(), 1.0)

        assert refusal.value.kind == "too_many_questions"
        assert refusal.value.reason == "event has answers to 2 questions, but content 'do_1' has 1"

    def test_a_recompute_request_has_no_questions(self) -> None:
        check_number_of_questions(recompute(), 1.0)

    @staticmethod
    def with_two_answers() -> AssessmentEvent:
        return AssessmentEvent(ASHA, "do_1", T0, SubmittedAttempt("a", (QUESTION, QUESTION), 3.0, 4.0))


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


class TestCertificateRequest:
    def requests(self, decision: Decision) -> list[JsonObject]:
        return [json.loads(message.value) for result in decision.results for message in result.messages]

    def test_every_event_that_is_not_stale_asks_for_one(self) -> None:
        decision = decided(
            [submitted("a"), submitted("b", time_ms=T0 + 1), submitted("a", time_ms=T0 - 1), recompute()]
        )

        assert [len(result.messages) for result in decision.results] == [1, 1, 0, 1]
        requests = self.requests(decision)
        assert [request["ets"] for request in requests] == [T0, T0 + 1, T0]
        assert len({request["mid"] for request in requests}) == 3
        assert {message.topic for result in decision.results for message in result.messages} == {
            "dev.issue.certificate.request"
        }

    def test_it_names_the_enrolment(self) -> None:
        (request,) = self.requests(decided([submitted()]))

        edata = request["edata"]
        assert (edata["userIds"], edata["courseId"], edata["batchId"]) == (["asha"], "course", "batch")

    @pytest.mark.parametrize(
        ("attempts", "attempt_id"),
        [
            ([], "a"),
            ([stored("b", time_ms=T0 + 1)], "b"),
            ([stored("b", time_ms=T0 - 1), stored("c", time_ms=None)], "a"),
            ([stored("0", time_ms=T0), stored("b", time_ms=T0)], "0"),
            ([stored("0", time_ms=None)], "a"),
            ([stored("b", time_ms=T0 + 1, score=None)], "a"),
            ([stored("b", "do_2")], ""),
            ([stored("b", "do_2", score=None)], "a"),
        ],
    )
    def test_it_names_the_latest_attempt_if_only_one_content_has_a_score(
        self, attempts: list[Attempt], attempt_id: str
    ) -> None:
        (request,) = self.requests(decided([submitted("a", "do_1", time_ms=T0)], attempts))

        assert request["edata"]["attemptId"] == attempt_id

    def test_without_any_score_it_names_none(self) -> None:
        (request,) = self.requests(decided([recompute()]))

        assert request["edata"]["attemptId"] == ""

    def test_its_id_does_not_depend_on_the_company_of_its_event(self) -> None:
        event = submitted("a")
        (alone,) = self.requests(decided([event]))

        together = self.requests(decided([submitted("b"), event, recompute()], [stored("a", time_ms=T0)]))

        assert together[1]["mid"] == alone["mid"]
