"""An attempt from Kafka to its row, its aggregates and its certificate request."""

import json
import uuid
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

from local.expected import content_aggregates
from tests.support.assessment import Assessment, Learner, Tables
from tests.support.assessment_rows import (
    T0_DATETIME,
    detail,
    now,
)
from tests.support.strategies import T0


class TestAnAttempt:
    def test_becomes_a_row_of_its_own_and_of_the_aggregates(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        event = b"""{
            "assessmentTs": 1715677960002, "userId": "%s", "courseId": "%s", "batchId": "%s",
            "contentId": "do_1", "attemptId": "a1",
            "events": [
                {"eid": "ASSESS", "ets": 1715677950000, "edata": {
                    "score": 3.25, "duration": 12.40,
                    "resvalues": [{"1": "{\\"text\\":\\"Ros\\u00e9\\"}", "2": 7.50, "3": null, "4": {"a": [1, 2.0]}},
                                  {}],
                    "item": {"id": "q1", "type": "mcq", "title": "Which is a flower?", "desc": "One of them",
                             "maxscore": 4, "params": [{"1": "Rose"}, null, {"answer": {"correct":["1"]}}]}}},
                {"eid": "ASSESS", "ets": 1715677940000, "edata": {
                    "score": 0, "item": {"id": "q2", "maxscore": 6}}},
                {"eid": "ASSESS", "ets": 1715677955000.0, "edata": {
                    "score": "4.25", "duration": 0.000000000000000001, "item": {"id": "q2", "maxscore": "6.0"}}}
            ]}""" % (learner.user_id.encode(), learner.course_id.encode(), learner.batch_id.encode())
        before = now()
        assessment.send(event)
        assessment.requests(learner, 1)
        after = now()

        (row,) = tables.attempts(learner)
        first, second = row.question
        assert first._asdict() == {
            "id": "q1",
            "assess_ts": datetime(2024, 5, 14, 9, 12, 30),
            "max_score": 4.0,
            "score": 3.25,
            "type": "mcq",
            "title": "Which is a flower?",
            "resvalues": [{"1": '{"text":"Rosé"}', "2": "7.50", "4": '{"a": [1, 2.0]}'}, {}],
            "params": [{"1": "Rose"}, {"answer": '{"correct":["1"]}'}],
            "description": "One of them",
            "duration": Decimal("12.40"),
        }
        # Decimal("12.4") would be equal to it.
        assert str(first.duration) == "12.40"
        assert second._asdict() == {
            "id": "q2",
            "assess_ts": datetime(2024, 5, 14, 9, 12, 35),
            "max_score": 6.0,
            "score": 4.25,
            "type": None,
            "title": None,
            "resvalues": [],
            "params": [],
            "description": None,
            "duration": Decimal("1E-18"),
        }
        values = row._asdict()
        del values["question"]
        created_on = values.pop("created_on")
        assert before <= created_on <= after
        assert values == {
            "user_id": learner.user_id,
            "course_id": learner.course_id,
            "batch_id": learner.batch_id,
            "content_id": "do_1",
            "attempt_id": "a1",
            "updated_on": created_on,
            "last_attempted_on": T0_DATETIME,
            "total_score": 7.5,
            "total_max_score": 10.0,
            "grand_total": "7.5/10.0",
        }
        aggregates = tables.aggregates(learner)
        keys = content_aggregates("do_1", [(7.5, 10)])
        assert aggregates._asdict() == {
            "activity_type": "Course",
            "activity_id": learner.course_id,
            "user_id": learner.user_id,
            "context_id": f"cb:{learner.batch_id}",
            "agg": None,
            "aggregates": keys,
            "agg_details": [detail("do_1", "a1", 7.5, 10.0)],
            "agg_last_updated": dict.fromkeys(keys, created_on),
        }

    def test_asks_for_a_certificate(self, assessment: Assessment) -> None:
        learner = Learner("u-certificate", "do_certificate", "b-certificate")
        assessment.send(learner.attempt("do_1", "a1", [(1, 2)]))
        (request,) = assessment.requests(learner, 1)
        assert request.key() is None
        namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://sunbird.org/learner-aggregates")
        identity = (
            '["AssessmentAggregator","u-certificate","do_certificate","b-certificate","do_1","a1",'
            '"issue-certificate",1715677960002]'
        )
        assert json.loads(request.value()) == {
            "eid": "BE_JOB_REQUEST",
            "ets": 1715677960002,
            "mid": f"LP.1715677960002.{uuid.uuid5(namespace, identity)}",
            "actor": {"id": "Course Certificate Generator", "type": "System"},
            "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
            "object": {"id": "b-certificate_do_certificate", "type": "CourseCertificateGeneration"},
            "edata": {
                "userIds": ["u-certificate"],
                "action": "issue-certificate",
                "iteration": 1,
                "trigger": "auto-issue",
                "batchId": "b-certificate",
                "courseId": "do_certificate",
                "reIssue": False,
                "attemptId": "a1",
            },
        }

    def test_that_is_later_replaces_itself_and_keeps_when_it_was_created(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(learner.attempt("do_1", "a1", [(5, 10), (2, 5)]))
        assessment.requests(learner, 1)
        (first,) = tables.attempts(learner)
        assessment.send(learner.attempt("do_1", "a1", [(3, 10)], T0 + 5))
        assert assessment.attempt_ids(learner, 2) == ["a1", "a1"]
        (second,) = tables.attempts(learner)
        assert second.created_on == first.created_on
        assert second.updated_on > first.updated_on
        assert (second.total_score, second.total_max_score, second.grand_total) == (3.0, 10.0, "3.0/10.0")
        assert len(second.question) == 1
        # The best score falls with the attempt that it came from.
        assert tables.aggregates(learner).aggregates == content_aggregates("do_1", [(3, 10)])

    def test_that_is_late_changes_nothing(self, assessment: Assessment, learner: Learner, tables: Tables) -> None:
        assessment.send(learner.attempt("do_1", "a1", [(5, 10)]))
        assessment.requests(learner, 1)
        rows = tables.attempts(learner), tables.aggregates(learner)
        other = replace(learner, batch_id="other")
        assessment.send(learner.attempt("do_1", "a1", [(9, 10)], T0 - 1), other.attempt("do_1", "a1", [(1, 2)]))
        # Events of a user are applied in their order, so the late one has been.
        assessment.requests(other, 1)
        assert len(assessment.requests(learner, 1)) == 1
        assert (tables.attempts(learner), tables.aggregates(learner)) == rows

    def test_that_is_repeated_changes_no_attempt_and_sends_the_same_message(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        query = (
            "SELECT WRITETIME(total_score) AS attempt FROM assessment_aggregator WHERE user_id = %s AND course_id = %s"
        )
        keys = (learner.user_id, learner.course_id)
        event = learner.attempt("do_1", "a1", [(5, 10)])
        assessment.send(event)
        assessment.requests(learner, 1)
        rows, written = tables.attempts(learner), tables.session.execute(query, keys).one()
        before = tables.aggregates(learner)
        # Same attempt, same time: whatever else it holds, it has been seen.
        assessment.send(event, learner.attempt("do_1", "a1", [(9, 10)]))
        first, second, third = assessment.requests(learner, 3)
        assert first.value() == second.value() == third.value()
        assert tables.attempts(learner) == rows
        assert tables.session.execute(query, keys).one() == written
        after = tables.aggregates(learner)
        assert (after.aggregates, after.agg_details) == (before.aggregates, before.agg_details)

    def test_of_several_questions_with_fractions_adds_up_exactly(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(
            learner.attempt("do_1", "a1", [(0.1, "0.1")] * 10), learner.attempt("do_2", "a2", [("1.005", 3)])
        )
        assessment.requests(learner, 2)
        assert [(row.total_score, row.grand_total) for row in tables.attempts(learner)] == [
            (1.0, "1.0/1.0"),
            (1.005, "1.0/3.0"),
        ]
        assert tables.aggregates(learner).aggregates["score:do_2"] == 1.005
