"""The assessment aggregator from Kafka to tables and topics, on real servers and Flink's MiniCluster."""

import base64
import json
import random
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pytest
import redis
from cassandra.concurrent import execute_concurrent_with_args

from common.config.loader import load
from common.domain.attempts import AssessmentEvent, decode
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent, to_time_ms
from common.domain.messages import repaired
from common.metrics import Metrics
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from jobs.assessment_aggregator.rules import AttemptRow, Settings, decide
from local.http_services import CONTENT, HttpServices, Switch
from local.world import World
from tests.support.assessment import FAILED, INPUT, REQUESTS, Assessment, Learner, Tables, reason
from tests.support.malformed import APPLIED, REFUSED, UNKNOWN, Sample, Samples
from tests.support.minicluster import MiniCluster
from tests.support.strategies import T0, answer, item
from tests.support.waiting import wait_until

T0_TEXT = "May 14, 2024, 9:12:40 AM"
T0_DATETIME = datetime(2024, 5, 14, 9, 12, 40, 2_000)


@pytest.fixture
def relations(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=10) as client:
        yield client


def now() -> datetime:
    """As Cassandra keeps it: without a zone, to the ms."""
    moment = datetime.now(UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def detail(content_id: str, attempt_id: str, score: float, max_score: float, time: str = T0_TEXT) -> str:
    """An element of ``agg_details``."""
    return (
        f'{{"attempt_id":"{attempt_id}","last_attempted_on":"{time}","score":{score},"content_id":"{content_id}",'
        f'"max_score":{max_score},"type":"attempt_metrics"}}'
    )


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
        keys = {"score:do_1": 7.5, "max_score:do_1": 10.0, "attempts_count:do_1": 1.0}
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
        assert tables.aggregates(learner).aggregates == {
            "score:do_1": 3.0,
            "max_score:do_1": 10.0,
            "attempts_count:do_1": 1.0,
        }

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


class TestTheBestScore:
    def test_is_that_of_all_attempts_with_its_own_maximum(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(
            learner.attempt("do_1", "a3", [(8, 30)], T0 + 3000),
            learner.attempt("do_1", "a2", [(8, 20)], T0 + 2000),
            learner.attempt("do_1", "a1", [(7.5, 10)], T0 + 9000),
            learner.attempt("do_1", "a4", [(0, 40)], T0),
        )
        assert assessment.attempt_ids(learner, 4)[-1] == "a1"
        row = tables.aggregates(learner)
        assert row.aggregates == {"score:do_1": 8.0, "max_score:do_1": 20.0, "attempts_count:do_1": 4.0}
        assert row.agg_details == [
            detail("do_1", "a1", 7.5, 10.0, "May 14, 2024, 9:12:49 AM"),
            detail("do_1", "a2", 8.0, 20.0, "May 14, 2024, 9:12:42 AM"),
            detail("do_1", "a3", 8.0, 30.0, "May 14, 2024, 9:12:43 AM"),
            detail("do_1", "a4", 0.0, 40.0),
        ]

    def test_is_kept_per_content_and_then_no_attempt_is_named(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(learner.attempt("do_1", "a1", [(1, 2)]))
        assert assessment.attempt_ids(learner, 1) == ["a1"]
        assessment.send(learner.attempt("do_11", "a1", [(3, 4)]))
        assert assessment.attempt_ids(learner, 2) == ["a1", ""]
        assert tables.aggregates(learner).aggregates == {
            "score:do_1": 1.0,
            "max_score:do_1": 2.0,
            "attempts_count:do_1": 1.0,
            "score:do_11": 3.0,
            "max_score:do_11": 4.0,
            "attempts_count:do_11": 1.0,
        }

    def test_counts_no_drafts(self, assessment: Assessment, learner: Learner, tables: Tables) -> None:
        created_on = datetime(2020, 1, 2, 3, 4, 5)
        tables.insert_attempt(learner, "do_1", "draft", last_attempted_on=T0_DATETIME, created_on=created_on)
        tables.insert_attempt(learner, "do_1", "draft-2", created_on=created_on)
        tables.insert_attempt(learner, "do_9", "draft", last_attempted_on=T0_DATETIME)
        assessment.send(learner.attempt("do_1", "a1", [(5, 10)]))
        assert assessment.attempt_ids(learner, 1) == ["a1"]
        row = tables.aggregates(learner)
        assert row.aggregates == {"score:do_1": 5.0, "max_score:do_1": 10.0, "attempts_count:do_1": 1.0}
        assert row.agg_details == [detail("do_1", "a1", 5.0, 10.0)]
        # It counts as soon as it is submitted, whatever its time: no attempt was stored yet.
        assessment.send(learner.attempt("do_1", "draft-2", [(6, 10)], T0 - 1))
        assessment.requests(learner, 2)
        (submitted,) = [attempt for attempt in tables.attempts(learner) if attempt.attempt_id == "draft-2"]
        assert (submitted.created_on, submitted.total_score) == (created_on, 6.0)
        assert tables.aggregates(learner).aggregates["attempts_count:do_1"] == 2.0

    def test_leaves_the_columns_and_keys_of_others_alone(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        updated = datetime(2020, 1, 2, 3, 4, 5)
        agg = {"completedCount": 3, "score:do_1": 99, "max_score:do_1": 100}
        tables.insert_aggregates(
            learner,
            agg=agg,
            aggregates={"completedCount": 4.0, "score:do_7": 2.5},
            agg_last_updated={"completedCount": updated},
            agg_details=["old"],
        )
        assessment.send(learner.attempt("do_1", "a1", [(5.5, 10)]))
        assessment.requests(learner, 1)
        row = tables.aggregates(learner)
        assert row.agg == agg
        assert row.aggregates == {
            "completedCount": 4.0,
            "score:do_7": 2.5,
            "score:do_1": 5.5,
            "max_score:do_1": 10.0,
            "attempts_count:do_1": 1.0,
        }
        assert row.agg_last_updated["completedCount"] == updated
        assert row.agg_details == [detail("do_1", "a1", 5.5, 10.0)]


class TestARecomputeRequest:
    def test_lowers_a_best_score_and_removes_what_has_no_attempt_left(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(
            learner.attempt("do_1", "a1", [(9, 10)]),
            learner.attempt("do_1", "a2", [(6.25, 10)], T0 + 1000),
            learner.attempt("do_2", "b1", [(4, 5)]),
            learner.attempt("do_3", "c1", [(1, 5)], T0 + 2000),
        )
        assessment.requests(learner, 4)
        updated = datetime(2020, 1, 2, 3, 4, 5)
        tables.session.execute(
            "UPDATE user_activity_agg SET aggregates = aggregates + {'completedCount': 4.0, 'score': 1.0}, "
            "agg_last_updated = agg_last_updated + %s, agg = {'score:do_2': 4} "
            "WHERE activity_type = 'Course' AND activity_id = %s AND user_id = %s AND context_id = %s",
            ({"completedCount": updated}, learner.course_id, learner.user_id, f"cb:{learner.batch_id}"),
        )
        tables.delete_attempts(learner, "do_1", "a1")
        tables.delete_attempts(learner, "do_2", "b1")
        before = now()
        assessment.send(learner.recompute("do_1"))
        assert assessment.attempt_ids(learner, 5)[-1] == ""
        row = tables.aggregates(learner)
        assert row.aggregates == {
            "completedCount": 4.0,
            "score": 1.0,
            "score:do_1": 6.25,
            "max_score:do_1": 10.0,
            "attempts_count:do_1": 1.0,
            "score:do_3": 1.0,
            "max_score:do_3": 5.0,
            "attempts_count:do_3": 1.0,
        }
        assert row.agg == {"score:do_2": 4}
        times = dict(row.agg_last_updated)
        assert times.pop("completedCount") == updated
        assert times.keys() == row.aggregates.keys() - {"completedCount", "score"}
        assert min(times.values()) >= before
        assert row.agg_details == [
            detail("do_1", "a2", 6.25, 10.0, "May 14, 2024, 9:12:41 AM"),
            detail("do_3", "c1", 1.0, 5.0, "May 14, 2024, 9:12:42 AM"),
        ]

    def test_removes_everything_where_no_attempt_is_left(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        assessment.send(learner.attempt("do_1", "a1", [(9, 10)]))
        assessment.requests(learner, 1)
        tables.delete_attempts(learner, "do_1", "a1")
        assessment.send(learner.recompute("do_1", events=[]))
        assert assessment.attempt_ids(learner, 2)[-1] == ""
        # Not even an empty row is left: it had no columns but those that are gone.
        assert tables.aggregates(learner) is None

    def test_without_a_time_has_that_of_its_kafka_message(
        self, assessment: Assessment, learner: Learner, world: World
    ) -> None:
        before = int(datetime.now(UTC).timestamp() * 1000)
        assessment.send(learner.recompute("do_1", None))
        (request,) = assessment.requests(learner, 1)
        assert before <= json.loads(request.value())["ets"] <= int(datetime.now(UTC).timestamp() * 1000)


class TestTheContentCheck:
    def test_refuses_what_is_not_part_of_the_course(
        self, assessment: Assessment, learner: Learner, tables: Tables, relations: "redis.Redis"
    ) -> None:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "do_1", "do_2")
        bad = learner.attempt("do_3", "a1", [(1, 2)])
        assessment.send(bad, learner.attempt("do_2", "a2", [(1, 2)]))
        assert assessment.attempt_ids(learner, 1) == ["a2"]
        (failed,) = assessment.failed(learner.user_id)
        assert reason(failed) == f"content 'do_3' is not part of course '{learner.course_id}'"
        assert failed.key() == learner.user_id.encode()
        assert json.loads(repaired(failed.value())) == bad
        assert [row.content_id for row in tables.attempts(learner)] == ["do_2"]

    def test_refuses_a_recompute_of_it_too(
        self, assessment: Assessment, learner: Learner, relations: "redis.Redis"
    ) -> None:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "do_1")
        assessment.send(learner.recompute("do_3"))
        (failed,) = assessment.failed(learner.user_id)
        assert reason(failed) == f"content 'do_3' is not part of course '{learner.course_id}'"

    def test_passes_all_contents_where_the_set_is_empty_or_missing(
        self, assessment: Assessment, learner: Learner, relations: "redis.Redis"
    ) -> None:
        key = f"{learner.course_id}:{learner.course_id}:leafnodes"
        relations.sadd(key, "do_1")
        # Redis keeps no empty set: with its last member it is gone.
        relations.srem(key, "do_1")
        other_course = replace(learner, course_id=f"{learner.course_id}x")
        assessment.send(learner.attempt("do_3", "a1", [(1, 2)]), other_course.attempt("do_4", "a1", [(1, 2)]))
        assessment.requests(learner, 1)
        assessment.requests(other_course, 1)

    def test_refuses_events_while_the_cache_holds_something_else(
        self, assessment: Assessment, learner: Learner, relations: "redis.Redis"
    ) -> None:
        key = f"{learner.course_id}:{learner.course_id}:leafnodes"
        relations.set(key, "no set")
        assessment.send(learner.attempt("do_1", "a1", [(1, 2)]))
        (failed,) = assessment.failed(learner.user_id)
        assert reason(failed).endswith(f"holds no set at key {key}")


@pytest.fixture
def contents(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=5) as client:
        yield client


@pytest.fixture(scope="module")
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture(scope="module")
def running_checking(
    world: World, services: HttpServices, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Assessment, MiniCluster]]:
    variables = {
        "AGGREGATES__SKIP_MISSING_RECORDS": "true",
        "AGGREGATES__CONTENT_READ_API": f"{services.base_url}/content/v3/read/",
        "AGGREGATES__AGG_DETAILS_TIME_ZONE": "Asia/Kolkata",
    }
    folder = tmp_path_factory.mktemp("checking")
    with (
        closing(Assessment(world)) as topics,
        MiniCluster(world, topics, folder, "jobs.assessment_aggregator", **variables) as cluster,
    ):
        yield topics, cluster


@pytest.fixture
def checking(running_checking: tuple[Assessment, MiniCluster]) -> Iterator[Assessment]:
    """A job of its own with ``skip_missing_records``: by default the number of questions is not checked."""
    topics, cluster = running_checking
    with cluster.log_on_failure():
        yield topics


class TestTooManyQuestions:
    def test_are_refused_by_what_the_cache_says(
        self,
        checking: Assessment,
        learner: Learner,
        tables: Tables,
        contents: "redis.Redis",
        services: HttpServices,
        unique: str,
    ) -> None:
        calls = services.requests[CONTENT]
        keys = {"totalQuestions": 2, "totalquestions": "2", "total_questions": 2.0}
        for key, total in keys.items():
            contents.set(f"do_{unique}{key}", json.dumps({"name": "Botany", key: total}))
            checking.send(
                learner.attempt(f"do_{unique}{key}", "three", [(1, 2)] * 3),
                learner.attempt(f"do_{unique}{key}", "two", [(1, 2)] * 2),
            )
        checking.requests(learner, 3)
        assert {row.attempt_id for row in tables.attempts(learner)} == {"two"}
        assert {reason(failed) for failed in checking.failed(learner.user_id, 3)} == {
            f"event has answers to 3 questions, but content 'do_{unique}{key}' has 2" for key in keys
        }
        assert services.requests[CONTENT] == calls
        assert tables.aggregates(learner).agg_details[0].count('"May 14, 2024, 2:42:40 PM"') == 1

    def test_are_unique_ones(
        self, checking: Assessment, learner: Learner, contents: "redis.Redis", unique: str
    ) -> None:
        contents.set(f"do_{unique}", '{"totalQuestions": 1}')
        answers = [answer(item=item(id="q1"), score=score) for score in (1, 2, 3)]
        checking.send(learner.attempt(f"do_{unique}", "a1", [], events=answers))
        checking.requests(learner, 1)

    @pytest.mark.parametrize("cached", [None, {"totalQuestions": 0}, {"name": "Botany"}, "no object"])
    def test_are_refused_by_what_the_api_says_where_the_cache_knows_nothing(
        self,
        checking: Assessment,
        learner: Learner,
        contents: "redis.Redis",
        services: HttpServices,
        unique: str,
        cached: object,
    ) -> None:
        if cached is not None:
            contents.set(f"do_{unique}", json.dumps(cached))
        services.contents[f"do_{unique}"] = {"totalQuestions": 2}
        checking.send(
            learner.attempt(f"do_{unique}", "three", [(1, 2)] * 3), learner.attempt(f"do_{unique}", "two", [(1, 2)] * 2)
        )
        assert checking.attempt_ids(learner, 1) == ["two"]
        (failed,) = checking.failed(learner.user_id)
        assert reason(failed) == f"event has answers to 3 questions, but content 'do_{unique}' has 2"

    def test_are_not_looked_for_where_nobody_knows_the_number(
        self, checking: Assessment, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.contents[f"do_{unique}"] = {"name": "Botany", "totalQuestions": "many"}
        checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)] * 50))
        checking.requests(learner, 1)

    def test_of_an_unknown_content_are_refused(self, checking: Assessment, learner: Learner, unique: str) -> None:
        checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        (failed,) = checking.failed(learner.user_id)
        assert reason(failed) == f"content read API answered 404 'RESOURCE_NOT_FOUND' for content 'do_{unique}'"

    def test_are_refused_where_the_api_says_200_and_not_ok(
        self, checking: Assessment, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.switch(CONTENT, Switch(status=200))
        try:
            checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
            (failed,) = checking.failed(learner.user_id)
        finally:
            services.switch(CONTENT, Switch())
        assert reason(failed) == f"content read API answered 200 'SERVER_ERROR' for content 'do_{unique}'"

    def test_wait_for_an_api_that_is_down(
        self, checking: Assessment, learner: Learner, services: HttpServices, unique: str
    ) -> None:
        services.contents[f"do_{unique}"] = {"totalQuestions": 1}
        services.switch(CONTENT, Switch(status=503, times=3))
        calls = services.requests[CONTENT]
        checking.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)]))
        checking.requests(learner, 1)
        assert services.requests[CONTENT] == calls + 4

    def test_are_not_counted_in_a_recompute_request(self, checking: Assessment, learner: Learner, unique: str) -> None:
        checking.send(learner.recompute(f"do_{unique}"))
        checking.requests(learner, 1)

    def test_are_no_fault_by_default(
        self, assessment: Assessment, learner: Learner, contents: "redis.Redis", unique: str
    ) -> None:
        contents.set(f"do_{unique}", '{"totalQuestions": 1}')
        assessment.send(learner.attempt(f"do_{unique}", "a1", [(1, 2)] * 3))
        assessment.requests(learner, 1)


class TestTheFailedTopic:
    def test_holds_the_event_with_the_reason_under_the_user_id(self, assessment: Assessment, learner: Learner) -> None:
        event = learner.attempt("do_1", "a1", [("many", 2)], metadata={"source": "import"}, unused={"kept": [1.50]})
        assessment.send(event)
        (failed,) = assessment.failed(learner.user_id)
        assert failed.key() == learner.user_id.encode()
        assert json.loads(failed.value()) == {
            **event,
            "metadata": {
                "source": "import",
                "validation_error": "event has a wrong edata.score: 'many' is no number, in events[0]",
                "src": "AssessmentAggregator",
            },
        }
        assert json.loads(repaired(failed.value())) == event

    @pytest.mark.parametrize("start", [b'{"userId": "', b"\xff", b'["', b"\xef\xbb\xbf{}"])
    def test_wraps_what_is_no_json_object(self, assessment: Assessment, unique: str, start: bytes) -> None:
        value = start + unique.encode()
        payload = base64.b64encode(value).decode()
        assessment.send(value)
        (failed,) = assessment.failed(payload)
        assert failed.key() is None
        wrapped = json.loads(failed.value())
        assert wrapped == {
            "metadata": {
                "validation_error": wrapped["metadata"]["validation_error"],
                "src": "AssessmentAggregator",
                "encoding": "base64",
            },
            "payload": payload,
        }
        assert wrapped["metadata"]["validation_error"].startswith("event is not ")
        assert repaired(failed.value()) == value


class TestSeveralEventsOfOneEnrolment:
    """In one batch they come to the same as one after another."""

    EVENTS = (
        ("do_1", "a1", 5.0, T0),
        ("do_1", "a2", 7.5, T0 + 1),
        ("do_1", "a1", 6.0, T0 + 2),  # replaces the first
        ("do_1", "a2", 9.0, T0),  # is late
        ("do_2", "b1", 1.0, T0),
        ("do_2", "b1", 2.0, T0),  # has been seen
    )

    def events(self, learner: Learner) -> list[dict[str, Any]]:
        return [
            learner.attempt(content_id, attempt_id, [(score, 10)], time_ms)
            for content_id, attempt_id, score, time_ms in self.EVENTS
        ]

    def check(self, learner: Learner, tables: Tables) -> None:
        assert [(row.content_id, row.attempt_id, row.total_score) for row in tables.attempts(learner)] == [
            ("do_1", "a1", 6.0),
            ("do_1", "a2", 7.5),
            ("do_2", "b1", 1.0),
        ]
        row = tables.aggregates(learner)
        assert row.aggregates == {
            "score:do_1": 7.5,
            "max_score:do_1": 10.0,
            "attempts_count:do_1": 2.0,
            "score:do_2": 1.0,
            "max_score:do_2": 10.0,
            "attempts_count:do_2": 1.0,
        }
        assert row.agg_details == [
            detail("do_1", "a1", 6.0, 10.0),
            detail("do_1", "a2", 7.5, 10.0),
            detail("do_2", "b1", 1.0, 10.0),
        ]

    def test_one_after_another(self, assessment: Assessment, learner: Learner, tables: Tables) -> None:
        messages = 0
        for event, (*_, score, _) in zip(self.events(learner), self.EVENTS, strict=True):
            assessment.send(event)
            messages += score != 9.0
            assessment.requests(learner, messages)
        self.check(learner, tables)

    def test_at_once(self, assessment: Assessment, learner: Learner, tables: Tables) -> None:
        assessment.send(*self.events(learner))
        assert len(assessment.requests(learner, 5)) == 5
        self.check(learner, tables)

    async def test_in_one_batch_for_certain(self, world: World, learner: Learner, tables: Tables) -> None:
        job = AssessmentAggregator(
            load(AssessmentAggregatorConfig, environ=world.job_environment("jobs.assessment_aggregator"))
        )
        values = [json.dumps(event).encode() for event in self.events(learner)]
        metrics = Metrics()

        await job.open(metrics)
        try:
            outcomes = await job.apply_batch([job.decode(value, 0) for value in values])
        finally:
            await job.close()

        assert [len(outcome) for outcome in outcomes] == [1, 1, 1, 0, 1, 1]
        self.check(learner, tables)
        # One read and one write of each table.
        assert metrics.counts["rows_written"] == 4
        effects = {key[2]: count for key, count in metrics.counts.items() if key[0] == "events_applied"}
        assert effects == {"written": 4, "replayed": 1}
        assert metrics.counts["skipped", "reason", "stale"] == 1


class TestMalformedEvents:
    """10,000 of them, with 500 good ones and 200 tombstones in between."""

    SEED = 20_240_514

    def test_are_on_the_failed_topic_once_each_and_all_others_are_applied(
        self, assessment: Assessment, tables: Tables, unique: str
    ) -> None:
        # Not in the past: the broker would delete the messages before they are read.
        timestamp_ms = time.time_ns() // 1_000_000
        samples = Samples(self.SEED, unique)
        sent: list[Sample | None] = [*islice(samples, 10_000), *(samples.good() for _ in range(500)), *[None] * 200]
        random.Random(self.SEED).shuffle(sent)
        refused: Counter[Any] = Counter()
        applied: dict[EnrolmentKey, list[AssessmentEvent]] = {}
        for sample in filter(None, sent):
            try:
                event = decode(sample.value, timestamp_ms)
            except BadEvent as bad:
                assert sample.kind in (bad.kind, REFUSED, UNKNOWN), sample
                refused[bad.reason, content(sample.value)] += 1
            else:
                assert sample.kind in (APPLIED, UNKNOWN), sample
                applied.setdefault(event.enrolment, []).append(event)
        decisions = {
            enrolment: decide((), events, (), Settings("topic", UTC), timestamp_ms)
            for enrolment, events in applied.items()
        }
        requests = Counter(
            json.loads(message.value)["mid"]
            for decision in decisions.values()
            for result in decision.results
            for message in result.messages
        )

        inboxes = assessment.inbox(FAILED), assessment.inbox(REQUESTS)
        earlier = [len(inbox.all()) for inbox in inboxes]
        assessment.produce(INPUT, [None if sample is None else sample.value for sample in sent], timestamp_ms)
        # Of learners in all subtasks: what a subtask has sent twice, it has sent before.
        last = [Learner.unique(f"last-{unique}-{number}") for number in range(20)]
        assessment.send(*(learner.attempt("do_1", "a1", [(1, 2)]) for learner in last))
        assessment.send(*(learner.attempt("do_1", " ", [(1, 2)]) for learner in last))
        total = sum(earlier) + refused.total() + requests.total() + 2 * len(last)
        wait_until(lambda: sum(len(inbox.all()) for inbox in inboxes) >= total, f"{total} messages", 240)
        failed_messages, request_messages = (
            [message for message in inbox.all()[count:] if f"last-{unique}-".encode() not in message.value()]
            for inbox, count in zip(inboxes, earlier, strict=True)
        )

        mids = Counter(json.loads(message.value())["mid"] for message in request_messages)
        assert mids - requests == Counter()
        assert requests - mids == Counter()
        for message in failed_messages:
            key = user_id_of(repaired(message.value()))
            assert key is None or message.key() == key.encode()
        failed = Counter((reason(message), content(repaired(message.value()))) for message in failed_messages)
        assert failed - refused == Counter()
        assert refused - failed == Counter()

        assert self.attempts(tables, list(decisions)) == [
            {(row.content_id, row.attempt_id): values_of(row) for row in decision.attempts}
            for decision in decisions.values()
        ]
        assert self.aggregates(tables, list(decisions)) == [
            dict(decision.aggregates.aggregates) if decision.aggregates else {} for decision in decisions.values()
        ]

    def attempts(self, tables: Tables, enrolments: list[EnrolmentKey]) -> list[dict[tuple[str, str], Any]]:
        # Not as datetimes, which this driver makes by way of floats.
        query = tables.session.prepare(
            "SELECT content_id, attempt_id, toUnixTimestamp(last_attempted_on), total_score, total_max_score, "
            "grand_total, question FROM assessment_aggregator WHERE user_id = ? AND course_id = ? AND batch_id = ?"
        )
        results = execute_concurrent_with_args(tables.session, query, enrolments, concurrency=50)
        return [
            {(content_id, attempt_id): (*values, len(questions)) for content_id, attempt_id, *values, questions in rows}
            for _, rows in results
        ]

    def aggregates(self, tables: Tables, enrolments: list[EnrolmentKey]) -> list[dict[str, float]]:
        query = tables.session.prepare(
            "SELECT aggregates FROM user_activity_agg "
            "WHERE activity_type = 'Course' AND user_id = ? AND activity_id = ? AND context_id = ?"
        )
        keys = [(enrolment.user_id, enrolment.course_id, f"cb:{enrolment.batch_id}") for enrolment in enrolments]
        results = execute_concurrent_with_args(tables.session, query, keys, concurrency=50)
        return [dict(row.aggregates or {}) if (row := rows.one()) else {} for _, rows in results]


def values_of(row: AttemptRow) -> tuple[Any, ...]:
    assert row.last_attempted_on is not None
    time_ms = to_time_ms(row.last_attempted_on)
    return time_ms, row.total_score, row.total_max_score, row.grand_total, len(row.questions)


def members_of(value: bytes) -> dict[str, bytes]:
    """Those of a JSON object, as they are written; of anything else none."""
    try:
        members = msgspec.json.decode(value.decode(), type=dict[str, msgspec.Raw])
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return {}
    return {name: bytes(raw) for name, raw in members.items()}


def content(value: bytes) -> object:
    """What the failed topic has to keep of a Kafka value: not the order of its members and the blanks around them."""
    members = {name: b"".join(raw.split()) for name, raw in members_of(value).items()}
    return frozenset(members.items()) or value


def user_id_of(value: bytes) -> str | None:
    user_id = json.loads(members_of(value).get("userId", b"null"))
    return user_id if isinstance(user_id, str) and user_id else None
