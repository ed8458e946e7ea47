"""Which attempts the assessment aggregator refuses: contents outside of the course, and too many questions."""

import json

import pytest

from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.events import BadEvent
from common.servers.http_answers import Answer
from jobs.assessment_aggregator.answers import (
    CONTENT_METADATA,
    ContentMetadata,
    cached_total_questions,
    total_questions,
)
from jobs.assessment_aggregator.rules import (
    check_content,
    check_number_of_questions,
)
from tests.support.assessment_rules import (
    QUESTION,
    recompute,
    submitted,
)
from tests.support.strategies import ASHA, T0, JsonObject


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
