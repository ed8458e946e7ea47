"""What the desk reads of messages, also of those that have failed because of a wrong type."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from common.domain import messages, topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import TaskFault
from desk import reader, topic_search
from desk.config import DeskKafkaConfig
from desk.doctor.requested import Requested
from desk.failed_events import FailedEvents, failed_events
from desk.records import Search, Unknown
from desk.topic_search import certificate_requests_for, failed_for, failed_message
from tests.support.desk_records import KEY, NOW_MS
from tests.support.unseen_topics import HIDDEN, MISSING, REASONS, see_topics

FAILED, GENERATOR = "dev.telemetry.assess.failed", "dev.generate.certificate.request"


@dataclass
class Received:
    """A message as a consumer gets it."""

    of: messages.Message

    def topic(self) -> str:
        return self.of.topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def timestamp(self) -> tuple[int, int]:
        return 1, NOW_MS

    def key(self) -> bytes | None:
        return self.of.key

    def value(self) -> bytes:
        return self.of.value


def failed(value: bytes) -> Received:
    return Received(messages.failed(FAILED, "AssessmentAggregator", value, "r"))


WRONG_TYPES = [
    b'{"batchId":131}',
    b'{"courseId":[]}',
    b'{"userId":{}}',
    b'{"edata":"x"}',
    b'{"edata":{"userIds":[1]}}',
    b'{"edata":{"related":[]}}',
    b'{"metadata":"x"}',
    b'"no object"',
    b"\xff",
]


@pytest.mark.parametrize("value", WRONG_TYPES)
def test_job_and_reason_are_read_whatever_the_event_is_like(value: bytes) -> None:
    found = failed_message(failed(value))
    assert (found.job, found.reason) == ("AssessmentAggregator", "r")


@pytest.mark.parametrize("value", [b"no JSON", b"[]", b'{"metadata":{"src":1}}', b"{}"])
def test_a_message_of_somebody_else_has_neither(value: bytes) -> None:
    found = failed_message(Received(messages.Message(FAILED, value)))
    assert (found.job, found.reason, found.time_ms) == ("", "", NOW_MS)


@pytest.mark.parametrize(
    ("event", "is_theirs"),
    [
        ({"userId": "asha", "batchId": 131}, True),
        ({"userId": "asha", "batchId": 131, "courseId": "do_other"}, False),
        ({"userId": "ravi", "batchId": 131}, False),
        ({"edata": {"userIds": [1, "asha"], "batchId": "batch"}}, True),
        ({"edata": {"userIds": ["asha"], "related": {"batchId": "other"}}}, False),
    ],
)
def test_whom_an_event_is_about_is_read_member_by_member(event: dict[str, Any], is_theirs: bool) -> None:
    assert topic_search.is_failed_for(failed(json.dumps(event).encode()), KEY) is is_theirs


def test_a_request_to_the_generator_has_the_name_of_its_template() -> None:
    related = {"courseId": KEY.course_id, "batchId": KEY.batch_id}
    value = json.dumps({"edata": {"userId": "asha", "name": "Merit", "related": related}}).encode()
    message = Received(messages.Message(GENERATOR, value))
    asked = topic_search._certificate(message, KEY, GENERATOR)
    assert asked is not None
    assert (asked.template_name, asked.time_ms) == ("Merit", NOW_MS)
    assert topic_search._certificate(message, EnrolmentKey("ravi", KEY.course_id, KEY.batch_id), GENERATOR) is None


KAFKA = DeskKafkaConfig.model_validate({"bootstrap_servers": "b:9092", "env": "dev"})
SEARCHES: list[tuple[Callable[[], object], tuple[str, ...]]] = [
    (lambda: failed_for(KAFKA, KEY), tuple(topics.INPUT_OF)),
    (
        lambda: certificate_requests_for(KAFKA, KEY),
        (topics.ISSUE_CERTIFICATE_REQUEST, topics.GENERATE_CERTIFICATE_REQUEST),
    ),
    (lambda: failed_events(KAFKA, None), tuple(topics.INPUT_OF)),
    (lambda: Requested().read(KAFKA), (topics.GENERATE_CERTIFICATE_REQUEST,)),
]


@pytest.mark.parametrize("error", [HIDDEN, MISSING], ids=["hidden", "missing"])
@pytest.mark.parametrize(
    ("search", "topic"),
    [(search, topic) for search, names in SEARCHES for topic in names],
)
def test_a_topic_that_cannot_be_seen_is_not_taken_for_empty(
    search: Callable[[], object], topic: str, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_topics(monkeypatch, {topic: error})
    with pytest.raises(TaskFault, match=REASONS[error]) as caught:
        search()
    assert f"dev.{topic}" in str(caught.value)


@pytest.mark.parametrize("search", [search for search, _ in SEARCHES])
def test_topics_that_are_there_may_be_empty(search: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    see_topics(monkeypatch, {})
    assert search() in (Search([], None), FailedEvents([], 0, [], None), None)


async def test_a_topic_that_cannot_be_seen_hides_nothing_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    see_topics(monkeypatch, {topics.GENERATE_CERTIFICATE_REQUEST: HIDDEN})
    assert await reader._searched(failed_for, KAFKA, KEY) == Search([], None)
    assert isinstance(await reader._searched(certificate_requests_for, KAFKA, KEY), Unknown)
