"""What the assessment aggregator cannot apply is on the failed topic once, and nothing else is."""

import base64
import json
import random
import time
from collections import Counter
from datetime import UTC
from itertools import islice
from typing import Any

import msgspec
import pytest
from cassandra.concurrent import execute_concurrent_with_args

from common.domain.attempts import AssessmentEvent, decode
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent, to_time_ms
from common.domain.messages import repaired
from jobs.assessment_aggregator.rules import AttemptRow, Settings, decide
from tests.support.assessment import FAILED, INPUT, REQUESTS, Assessment, Learner, reason
from tests.support.malformed import APPLIED, REFUSED, UNKNOWN, Sample, Samples
from tests.support.tables import Tables
from tests.support.waiting import wait_until


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


class TestMalformedEvents:
    """2,500 of them, with 150 good ones and 50 tombstones in between."""

    SEED = 20_240_514

    def test_are_on_the_failed_topic_once_each_and_all_others_are_applied(
        self, assessment: Assessment, tables: Tables, unique: str
    ) -> None:
        # Not in the past: the broker would delete the messages before they are read.
        timestamp_ms = time.time_ns() // 1_000_000
        samples = Samples(self.SEED, unique)
        sent: list[Sample | None] = [*islice(samples, 2_500), *(samples.good() for _ in range(150)), *[None] * 50]
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
