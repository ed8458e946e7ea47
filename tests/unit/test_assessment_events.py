"""Events of ``telemetry.assess``: what is read from them, and the sentence for each that cannot be used."""

import json
import tracemalloc
from decimal import Decimal
from math import isfinite
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain import attempts
from common.domain.attempts import ITEM_CACHE_BYTES, MAX_CACHED_ITEM_BYTES, RESPONSES_CACHE_BYTES, decode
from common.domain.enrolments import EnrolmentKey
from common.domain.events import MAX_KEY_BYTES, MAX_TIME_MS, BadEvent
from common.domain.messages import failed, repaired
from common.domain.questions import Question, encode
from tests.support.strategies import T0, JsonObject, answer, item, mangled, submission, with_odd_value

KAFKA_TIME = T0 + 5_000
SUBMISSION = json.dumps(submission()).encode()


def decoded(**members: Any) -> attempts.AssessmentEvent:
    return decode(json.dumps(submission(**members)).encode(), KAFKA_TIME)


def questions(*answers: JsonObject) -> tuple[Question, ...]:
    attempt = decoded(events=answers).attempt
    assert attempt is not None
    return attempt.questions


def refusal(**members: Any) -> BadEvent:
    with pytest.raises(BadEvent) as raised:
        decoded(**members)
    return raised.value


def refusal_of_answer(**edata: Any) -> BadEvent:
    return refusal(events=[answer(), answer(**edata)])


def test_a_submitted_attempt() -> None:
    event = decode(SUBMISSION, KAFKA_TIME)

    assert event.enrolment == EnrolmentKey("u-1", "do_1130928636168192001667", "0130929928739635200")
    assert (event.content_id, event.time_ms) == ("do_1128870328040161281204", T0)
    assert event.attempt is not None
    assert event.attempt.attempt_id == "3bb2c1d6f7d1f4c3a2e5b9c0d8e7f6a5"
    assert (event.attempt.total_score, event.attempt.total_max_score) == (1.5, 2.0)
    (question,) = event.attempt.questions
    assert (question.time_ms, question.score, question.duration) == (T0 - 10_000, 1.5, Decimal("12.4"))
    assert question.resvalues.maps == ({"1": '{"text":"Rose"}'},)
    assert (question.item.id, question.item.type, question.item.max_score) == ("do_112887q1", "mcq", 2.0)
    assert (question.item.title, question.item.description) == ("Which of these is a flower?", "")
    assert question.item.params == (
        {"1": '{"text":"Rose"}'}, {"2": '{"text":"Stone"}'}, {"answer": '{"correct":["1"]}'},
    )  # fmt: skip


class TestRecompute:
    @pytest.mark.parametrize("no_events", [{"events": None}, {"events": []}])
    def test_without_events_it_is_a_recompute_request(self, no_events: JsonObject) -> None:
        event = decoded(attemptId=None, **no_events)

        assert event.attempt is None
        assert event.time_ms == T0

    def test_null_events_are_none(self) -> None:
        assert decode(json.dumps({**submission(), "events": None}).encode(), KAFKA_TIME).attempt is None

    def test_without_a_time_its_time_is_that_of_kafka(self) -> None:
        assert decoded(attemptId=None, events=None, assessmentTs=None).time_ms == KAFKA_TIME

    def test_without_any_time_it_is_refused(self) -> None:
        with pytest.raises(BadEvent, match=r"^event has a wrong Kafka timestamp: -1 is no time in ms"):
            decode(json.dumps(submission(events=None, assessmentTs=None)).encode(), -1)


class TestRequired:
    @pytest.mark.parametrize("field", ["userId", "courseId", "batchId", "contentId", "attemptId"])
    @pytest.mark.parametrize("blank", [None, "", " \t"])
    def test_ids_are_non_blank(self, field: str, blank: str | None) -> None:
        bad = refusal(**{field: blank})

        assert (bad.kind, bad.reason) == ("missing_field", f"event has no {field}: a non-blank text is required")

    @pytest.mark.parametrize("field", ["userId", "courseId", "batchId", "contentId", "attemptId"])
    def test_ids_are_texts(self, field: str) -> None:
        bad = refusal(**{field: 17})

        assert bad.kind == "wrong_type"
        assert bad.reason == f"event has a wrong field: expected 'str | null', got 'int' at '$.{field}'"

    def test_an_attempt_has_a_time(self) -> None:
        assert refusal(assessmentTs=None).reason == "event has no assessmentTs: a time in ms is required"

    @pytest.mark.parametrize("time", [True, [T0], {}])
    def test_a_time_is_a_number(self, time: object) -> None:
        assert refusal(assessmentTs=time).reason.endswith("at '$.assessmentTs'")

    @pytest.mark.parametrize("text", [str(T0), f" {T0} ", f"{T0}.0", "1.715677960002e12"])
    def test_a_time_may_be_numeric_text(self, text: str) -> None:
        event = decoded(assessmentTs=text, events=[{**answer(), "ets": text}])

        assert event.time_ms == T0
        assert event.attempt is not None
        assert event.attempt.questions[0].time_ms == T0
        assert decoded(assessmentTs=text, events=None).time_ms == T0

    @pytest.mark.parametrize("text", ["", "yesterday", "2024-05-14", "NaN", "1e999", "-1", "1.5", "253402300800000"])
    def test_other_text_is_no_time(self, text: str) -> None:
        for bad in (refusal(assessmentTs=text), refusal(assessmentTs=text, events=None)):
            assert bad.kind == "wrong_type"
            assert bad.reason.startswith("event has a wrong assessmentTs: ")
        assert refusal(events=[{**answer(), "ets": text}]).reason.startswith("event has a wrong ets: ")

    @pytest.mark.parametrize("time", [-1, T0 + 0.5, MAX_TIME_MS + 1, 10**400, 1e300])
    def test_a_time_is_in_ms_of_the_years_1970_to_9999(self, time: float) -> None:
        assert refusal(assessmentTs=time).kind == "wrong_type"
        assert refusal(assessmentTs=time, events=None).kind == "wrong_type"

    @pytest.mark.parametrize("wrong", [{}, "text", 0, False])
    def test_events_are_a_list(self, wrong: object) -> None:
        assert refusal(events=wrong).reason.endswith("at '$.events'")

    @pytest.mark.parametrize("wrong", [None, [], "text", 0])
    def test_events_are_objects(self, wrong: object) -> None:
        assert refusal(events=[answer(), wrong]).reason.endswith("at '$.events[1]'")

    @pytest.mark.parametrize(
        ("ids", "names"),
        [
            (("userId", "courseId"), "userId and courseId"),
            (("batchId", "contentId", "attemptId"), "batchId, contentId and attemptId"),
        ],
    )
    def test_ids_fit_into_the_keys_of_the_tables(self, ids: tuple[str, ...], names: str) -> None:
        shorter = dict.fromkeys(ids[1:], "é")
        longest = MAX_KEY_BYTES - 2 * len(shorter)

        decoded(**shorter, **{ids[0]: "x" * longest})
        bad = refusal(**shorter, **{ids[0]: "x" * (longest + 1)})

        assert bad.kind == "too_large"
        assert bad.reason == f"event has {names} of 65521 bytes together: the limit is 65520"


class TestUniqueQuestions:
    def test_of_two_answers_the_later_counts(self) -> None:
        early, late = {**answer(score=2), "ets": T0 + 1}, {**answer(score=1), "ets": T0 + 2}

        for order in ([early, late], [late, early]):
            (question,) = questions(*order)
            assert (question.time_ms, question.score) == (T0 + 2, 1.0)

    def test_of_two_answers_at_the_same_time_the_later_in_the_list_counts(self) -> None:
        (question,) = questions(answer(score=2), answer(score=1), answer(score=0.5))

        assert question.score == 0.5

    def test_the_totals_count_each_question_once(self) -> None:
        attempt = decoded(
            events=[answer(score=2), answer(score=1), answer(score=0.25, item=item(id="q2", maxscore=0.5))]
        ).attempt

        assert attempt is not None
        assert [question.item.id for question in attempt.questions] == ["do_112887q1", "q2"]
        assert (attempt.total_score, attempt.total_max_score) == (1.25, 2.5)

    @pytest.mark.parametrize(
        ("edata", "reason"),
        [
            ({"item": None}, "event has no edata.item.id: a non-blank text is required, in events[1]"),
            ({"item": {}}, "event has no edata.item.id: a non-blank text is required, in events[1]"),
            ({"item": {"id": " "}}, "event has no edata.item.id: a non-blank text is required, in events[1]"),
            (
                {"item": {"id": 1}},
                "event has a wrong field: expected 'str | null', got 'int' at '$.edata.item.id', in events[1]",
            ),
            (
                {"item": []},
                "event has a wrong field: expected 'object | null', got 'array' at '$.edata.item', in events[1]",
            ),
        ],
    )
    def test_a_question_has_an_id(self, edata: JsonObject, reason: str) -> None:
        assert refusal_of_answer(**edata).reason == reason

    def test_an_answer_has_edata(self) -> None:
        assert refusal(events=[{"ets": T0}]).kind == "missing_field"
        assert refusal(events=[{"ets": T0, "edata": None}]).kind == "missing_field"

    def test_an_answer_has_a_time(self) -> None:
        bad = refusal(events=[{"edata": answer()["edata"]}])

        assert (bad.kind, bad.reason) == ("missing_field", "event has no ets: a time in ms is required, in events[0]")

    def test_the_time_of_an_answer_is_in_ms(self) -> None:
        assert refusal(events=[{**answer(), "ets": -1}]).reason == (
            "event has a wrong ets: -1 is no time in ms between 1970 and 9999, in events[0]"
        )
        assert refusal(events=[{**answer(), "ets": True}]).reason.endswith("at '$.events[0].ets'")


class TestTotals:
    @pytest.mark.parametrize(
        ("given", "number"),
        [(None, 0.0), (0, 0.0), (7, 7.0), (0.75, 0.75), ("0.75", 0.75), (" 2 ", 2.0), ("-0.0", 0.0), (2**63, 2.0**63)],
    )
    def test_a_score_is_a_number_or_numeric_text_and_missing_is_0(self, given: object, number: float) -> None:
        attempt = decoded(events=[answer(score=given, item=item(maxscore=given))]).attempt

        assert attempt is not None
        assert (attempt.total_score, attempt.total_max_score) == (number, number)
        assert not str(attempt.total_score).startswith("-")

    def test_null_is_missing(self) -> None:
        value = SUBMISSION.replace(b'"score": 1.5', b'"score": null').replace(b'"maxscore": 2', b'"maxscore": null')
        attempt = decode(value, KAFKA_TIME).attempt

        assert attempt is not None
        assert (attempt.total_score, attempt.total_max_score) == (0.0, 0.0)

    @pytest.mark.parametrize("text", ["", "abc", "NaN", "Infinity", "-Infinity", "1e999", "1,5"])
    def test_other_text_is_refused(self, text: str) -> None:
        assert refusal_of_answer(score=text).reason == (
            f"event has a wrong edata.score: {text!r} is no number, in events[1]"
        )
        assert refusal_of_answer(item=item(maxscore=text)).reason == (
            f"event has a wrong edata.item.maxscore: {text!r} is no number, in events[1]"
        )

    @pytest.mark.parametrize("wrong", [True, [], {}, 10**400])
    def test_other_types_are_refused(self, wrong: object) -> None:
        assert "at '$.events[1].edata.score'" in refusal_of_answer(score=wrong).reason
        assert "at '$.edata.item.maxscore', in events[1]" in refusal_of_answer(item=item(maxscore=wrong)).reason

    @pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
    def test_literals_that_are_no_json_are_refused(self, literal: bytes) -> None:
        with pytest.raises(BadEvent, match=r"^event is not JSON: "):
            decode(SUBMISSION.replace(b'"score": 1.5', b'"score": ' + literal), KAFKA_TIME)

    def test_a_sum_beyond_all_doubles_is_refused(self) -> None:
        largest = 1.7976931348623157e308

        assert refusal(events=[answer(score=largest), answer(score=largest, item=item(id="q2"))]).reason == (
            "event has a wrong edata.score: the sum over its questions is too large"
        )

    def test_a_negative_score_counts_and_so_does_a_negative_total(self) -> None:
        attempt = decoded(events=[answer(score=2), answer(score=-2.5, item=item(id="q2", maxscore=-3))]).attempt

        assert attempt is not None
        assert (attempt.total_score, attempt.total_max_score) == (-0.5, -1.0)

    def test_ten_tenths_are_one(self) -> None:
        attempt = decoded(events=[answer(score=0.1, item=item(id=f"q{n}", maxscore=0.1)) for n in range(10)]).attempt

        assert attempt is not None
        assert attempt.total_score == attempt.total_max_score == 1.0

    @given(st.permutations([0.1, 0.2, 0.7, 1e16, -1e16, 3.3]))
    def test_the_order_of_the_answers_does_not_show_in_the_sum(self, scores: list[float]) -> None:
        attempt = decoded(events=[answer(score=score, item=item(id=str(score))) for score in scores]).attempt

        assert attempt is not None
        assert attempt.total_score == 4.3


class TestQuestionColumn:
    def test_text_stays_text_null_is_left_out_and_all_else_is_its_json_text_as_given(self) -> None:
        raw = (
            rb'[{"text": "Rose", "json": "{\"a\": 1}", "escaped": "\u00e9\n", "empty": "", "null": null,'
            rb' "number": 1.50, "true": true, "object":{"a" : [1,  null]} , "list": ["\u00e9"]},'
            rb' null, {}, {"null": null}]'
        )
        value = SUBMISSION.replace(b'"resvalues": [{"1": "{\\"text\\":\\"Rose\\"}"}]', b'"resvalues": ' + raw)
        assert raw in value
        attempt = decode(value, KAFKA_TIME).attempt

        assert attempt is not None
        assert attempt.questions[0].resvalues.maps == (
            {
                "text": "Rose",
                "json": '{"a": 1}',
                "escaped": "é\n",
                "empty": "",
                "number": "1.50",
                "true": "true",
                "object": '{"a" : [1,  null]}',
                "list": r'["\u00e9"]',
            },
            {},
            {},
        )

    def test_params_are_treated_alike(self) -> None:
        (question,) = questions(answer(item=item(params=[{"1": {"text": "Rose"}, "2": None}, {"3": 4}])))

        assert question.item.params == ({"1": '{"text": "Rose"}'}, {"3": "4"})

    def test_a_missing_list_is_an_empty_list_and_a_missing_text_is_none(self) -> None:
        (question,) = questions(answer(resvalues=None, duration=None, item={"id": "q"}))

        assert (question.resvalues.maps, question.item.params) == ((), ())
        assert question.duration is None
        assert (question.item.type, question.item.title, question.item.description) == (None, None, None)

    @pytest.mark.parametrize(
        ("given", "maps"),
        [
            ([[{"1": "a"}, {"2": "b"}]], ({"1": "a"}, {"2": "b"})),  # several choices, as the QuML player sends them
            ([{"1": "a"}, [[{"2": "b"}], []], {"3": "c"}], ({"1": "a"}, {"2": "b"}, {"3": "c"})),
            ([[[[[{"1": "a"}]]]]], ({"1": "a"},)),
            ([[]], ()),
            ([None, [None]], ()),
            ([1, "text", True, 1.50], ({"value": "1"}, {"value": '"text"'}, {"value": "true"}, {"value": "1.5"})),
            ([["a", {"1": None}]], ({"value": '"a"'}, {})),
            ({}, ({},)),
            ({"1": ["a"]}, ({"1": '["a"]'},)),
            ("text", ({"value": '"text"'},)),
        ],
    )
    def test_no_form_of_responses_and_params_costs_the_attempt(self, given: object, maps: object) -> None:
        (question,) = questions(answer(resvalues=given, item=item(params=given)))

        assert (question.resvalues.maps, question.item.params) == (maps, maps)

    def test_responses_nested_a_thousand_times(self) -> None:
        # Deeper than the interpreter allows is no JSON that anybody could read.
        for depth in range(1, 1_200):
            nested = b"[" * depth + b'{"1": "a"}' + b"]" * depth
            value = SUBMISSION.replace(b'[{"1": "{\\"text\\":\\"Rose\\"}"}], "item"', nested + b', "item"')
            assert nested in value
            try:
                attempt = decode(value, KAFKA_TIME).attempt
            except BadEvent as bad:
                assert depth > 500
                assert "nested too deeply" in bad.reason
            else:
                assert attempt is not None
                assert attempt.questions[0].resvalues.maps == ({"1": "a"},)

    def test_a_long_response_in_a_nested_list_takes_no_more_memory_than_it_is_long(self) -> None:
        response = "x" * 500_000
        tracemalloc.start()
        try:
            (question,) = questions(answer(resvalues=[[response]]))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert question.resvalues.maps == ({"value": f'"{response}"'},)
        # 5 MB; 65 MB where the scan of the list can go back into a string.
        assert peak < 20 * len(response)

    def test_more_texts_than_any_question_has_are_refused_before_they_take_memory(self) -> None:
        for answers in (
            [answer(resvalues=[1] * 390_000)],
            [answer(resvalues=[[1] * 390_000])],
            [answer(item=item(id=f"q{n}", params=[1] * 1_000)) for n in range(11)],
        ):
            value = json.dumps(submission(events=answers)).encode()
            tracemalloc.start()
            try:
                with pytest.raises(BadEvent, match="more than 10000 maps and entries") as raised:
                    decode(value, KAFKA_TIME)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert raised.value.kind == "too_large"
            # 98 MiB of 1.2 MB without the limit.
            assert peak < 50_000_000

    @pytest.mark.parametrize("field", ["type", "title", "desc"])
    def test_texts_are_texts(self, field: str) -> None:
        assert refusal_of_answer(item=item(**{field: 1})).reason == (
            f"event has a wrong field: expected 'str | null', got 'int' at '$.edata.item.{field}', in events[1]"
        )

    @pytest.mark.parametrize("text", ["12.4", "12.40", "0", "7", "1e2", "-0.5", "0.1000000000000000055511151231257827"])
    def test_a_duration_keeps_its_digits(self, text: str) -> None:
        value = SUBMISSION.replace(b'"duration": 12.4', b'"duration": ' + text.encode())
        attempt = decode(value, KAFKA_TIME).attempt

        assert attempt is not None
        assert attempt.questions[0].duration is not None
        assert attempt.questions[0].duration.as_tuple() == Decimal(text).as_tuple()

    @pytest.mark.parametrize(
        "text", ["1e999999", "-1e309", "1e-325", "0." + "1" * 500, "9" * 401, '"NaN"', '"-Infinity"', "0e999999999"]
    )
    def test_an_absurd_duration_is_refused(self, text: str) -> None:
        with pytest.raises(BadEvent, match=r"edata\.duration: .{1,210} is no number of seconds, in events\[0\]$"):
            decode(SUBMISSION.replace(b'"duration": 12.4', b'"duration": ' + text.encode()), KAFKA_TIME)

    @pytest.mark.parametrize("wrong", [True, [], {}, "soon"])
    def test_a_duration_is_a_number(self, wrong: object) -> None:
        assert "at '$.events[1].edata.duration'" in refusal_of_answer(duration=wrong).reason


def bytes_kept(answers: list[JsonObject]) -> int:
    """The memory that is taken when attempts with these answers have been decoded and forgotten."""
    values = [
        json.dumps(submission(events=some), ensure_ascii=False).encode()
        for some in (answers[start : start + 100] for start in range(0, len(answers), 100))
    ]
    tracemalloc.start()
    try:
        for value in values:
            decode(value, KAFKA_TIME)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class TestSharedItems:
    def test_learners_who_answer_the_same_question_share_it(self) -> None:
        (asha,), (binod,) = questions(answer(score=1)), questions(answer(score=2))

        assert asha.item is binod.item

    def test_a_huge_question_is_converted_each_time(self) -> None:
        huge = answer(item=item(title="x" * MAX_CACHED_ITEM_BYTES))

        (asha,), (binod,) = questions(huge), questions(huge)

        assert asha.item == binod.item
        assert asha.item is not binod.item

    def test_what_is_shared_takes_no_more_bytes_than_it_may(self) -> None:
        # The emoji makes each of the other characters take four bytes.
        long = "\N{OK HAND SIGN}" + "x" * 7_000
        of_items = [answer(item=item(id=f"q{number}", title=long)) for number in range(1_000)]
        of_responses = [answer(resvalues=[{"1": f"{number}{long[:450]}"}]) for number in range(4_000)]
        # 43 MB and 13 MB.
        assert bytes_kept(of_items) < ITEM_CACHE_BYTES
        assert bytes_kept(of_responses) < RESPONSES_CACHE_BYTES

    def test_what_is_refused_is_refused_again(self) -> None:
        reasons = {refusal_of_answer(item=item(id=" ")).reason for _ in range(2)}

        assert len(reasons) == 1


def check_is_decoded_or_refused(value: bytes) -> None:
    try:
        event = decode(value, KAFKA_TIME)
    except BadEvent as bad:
        assert bad.reason.startswith("event ")
        assert len(bad.reason) < 500
        message = failed("t", "AssessmentAggregator", value, bad.reason)
        assert json.loads(message.value)["metadata"]["validation_error"] == bad.reason
        repaired(message.value)
    else:
        if event.attempt is not None:
            assert isfinite(event.attempt.total_score)
            assert encode(event.attempt.questions)


@given(st.binary())
def test_any_bytes_are_refused_in_a_sentence(value: bytes) -> None:
    check_is_decoded_or_refused(value)


@given(mangled(SUBMISSION))
def test_a_mangled_event_is_decoded_or_refused_in_a_sentence(value: bytes) -> None:
    check_is_decoded_or_refused(value)


@given(with_odd_value(submission()))
def test_an_event_with_an_odd_value_is_decoded_or_refused_in_a_sentence(event: JsonObject) -> None:
    check_is_decoded_or_refused(json.dumps(event).encode())
