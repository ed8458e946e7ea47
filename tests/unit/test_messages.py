"""The messages to other services: their shape, their ids, and the way of a failed event there and back."""

import base64
import json
import uuid

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.domain.events import BadEvent
from common.domain.messages import NAMESPACE, audit, certificate_request, deterministic_uuid, failed, repaired
from tests.support.strategies import JsonObject, json_objects

BAD = "event has a wrong userId: it is blue"
OURS = {"validation_error": "event has a wrong userId: it is blue", "src": "TheJob"}


def test_certificate_request() -> None:
    message = certificate_request(
        "dev.issue.certificate.request",
        "TheJob",
        user_id="u-1",
        course_id="do_1",
        batch_id="013",
        cause=("do_2", "a-1"),
        time_ms=1715657560200,
        attempt_id="a-1",
    )

    request = json.loads(message.value)
    prefix, time_ms, identity = request.pop("mid").split(".")
    assert (prefix, time_ms) == ("LP", "1715657560200")
    assert uuid.UUID(identity).version == 5
    assert request == {
        "eid": "BE_JOB_REQUEST",
        "ets": 1715657560200,
        "actor": {"id": "Course Certificate Generator", "type": "System"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"id": "013_do_1", "type": "CourseCertificateGeneration"},
        "edata": {
            "userIds": ["u-1"],
            "action": "issue-certificate",
            "iteration": 1,
            "trigger": "auto-issue",
            "batchId": "013",
            "courseId": "do_1",
            "reIssue": False,
            "attemptId": "a-1",
        },
    }
    assert (message.topic, message.key) == ("dev.issue.certificate.request", None)


@pytest.mark.parametrize(("attempt_id", "has_attempt_id"), [(None, False), ("", True)])
def test_only_a_job_that_knows_attempts_names_one(attempt_id: str | None, has_attempt_id: bool) -> None:
    message = certificate_request(
        "t", "TheJob", user_id="u", course_id="c", batch_id="b", time_ms=1, attempt_id=attempt_id
    )

    assert ("attemptId" in json.loads(message.value)["edata"]) is has_attempt_id


def test_audit_of_a_content() -> None:
    message = audit(
        "dev.telemetry.raw",
        "TheJob",
        action="complete",
        props=("viewcount", "completedcount"),
        user_id="u-1",
        course_id="do_1",
        batch_id="013",
        content_id="do_2",
        time_ms=1715657560200,
    )

    event = json.loads(message.value)
    context = event["context"]
    ids = [event.pop("mid").removeprefix("LP.AUDIT."), context.pop("sid"), context.pop("did")]
    assert len({uuid.UUID(identity) for identity in ids}) == 3
    assert {uuid.UUID(identity).version for identity in ids} == {5}
    assert event == {
        "actor": {"id": "u-1", "type": "User"},
        "eid": "AUDIT",
        "edata": {"props": ["viewcount", "completedcount"], "type": "complete"},
        "ver": "3.0",
        "syncts": 1715657560200,
        "ets": 1715657560200,
        "context": {
            "channel": "in.sunbird",
            "env": "Course",
            "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "course-progress-updater"},
            "cdata": [{"type": "CourseBatch", "id": "013"}],
        },
        "object": {"id": "do_2", "type": "Content", "rollup": {"l1": "do_1"}},
        "tags": [],
    }
    assert (message.topic, message.key) == ("dev.telemetry.raw", None)


def test_audit_of_an_enrolment() -> None:
    message = audit(
        "t",
        "TheJob",
        action="enrol-complete",
        props=("status", "completedon"),
        user_id="u-1",
        course_id="do_1",
        batch_id="013",
        time_ms=1,
    )

    event = json.loads(message.value)
    assert event["edata"] == {"props": ["status", "completedon"], "type": "enrol-complete"}
    assert event["context"]["cdata"] == [{"type": "CourseBatch", "id": "013"}, {"type": "Course", "id": "do_1"}]
    assert event["object"] == {"id": "u-1", "type": "User", "rollup": {"l1": "do_1"}}


def test_the_same_cause_gives_the_same_bytes_and_every_part_of_it_another_id() -> None:
    cause = {"user_id": "u", "course_id": "c", "batch_id": "b", "cause": ("d", "a"), "time_ms": 1}
    others: list[JsonObject] = [
        {"user_id": "v"}, {"course_id": "v"}, {"batch_id": "v"}, {"cause": ("v", "a")}, {"cause": ("d", "v")},
        {"time_ms": 2},
    ]  # fmt: skip

    first, repeat, *different = (
        certificate_request("t", "TheJob", **{**cause, **other}) for other in [{}, {}, *others]
    )

    assert first.value == repeat.value
    assert len({json.loads(message.value)["mid"] for message in (first, *different)}) == 1 + len(others)


def test_the_parts_of_an_identity_are_kept_apart_and_ids_never_change() -> None:
    assert deterministic_uuid("a", "bc") != deterministic_uuid("ab", "c")
    assert deterministic_uuid("a", 1) != deterministic_uuid("a", "1")
    # Consumers remember ids: a release that makes others sends every repeat twice.
    assert deterministic_uuid("TheJob", "u-1", 1715657560200) == "f8e0c528-5b91-5f45-8cd0-212b14520d88"


@given(st.text())
def test_ids_are_those_of_the_standard(part: str) -> None:
    assert deterministic_uuid(part) == str(uuid.uuid5(NAMESPACE, msgspec.json.encode([part]).decode()))


def test_a_failed_event_is_passed_on_as_it_came_with_the_reason_added() -> None:
    value = b'{"userId": "u-1", "score": 1.10, "big": 123456789012345678901234567890.10, "name": "\xc3\xa9\\u00e9"}'

    message = failed("dev.telemetry.assess.failed", "TheJob", value, BAD)

    assert message.value == (
        b'{"userId":"u-1","score":1.10,"big":123456789012345678901234567890.10,"name":"\xc3\xa9\\u00e9",'
        b'"metadata":{"validation_error":"event has a wrong userId: it is blue","src":"TheJob"}}'
    )
    assert (message.topic, message.key) == ("dev.telemetry.assess.failed", b"u-1")


@pytest.mark.parametrize(
    ("existing", "metadata"),
    [
        ({"ver": 1}, {"ver": 1, **OURS}),
        ({"ver": 1, "src": "player"}, {"original": {"ver": 1, "src": "player"}, **OURS}),
        ({"original": 1}, {"original": {"original": 1}, **OURS}),
        ({}, {"original": {}, **OURS}),
        ([1], {"original": [1], **OURS}),
        (None, {"original": None, **OURS}),
    ],
)
def test_existing_metadata_is_kept(existing: object, metadata: JsonObject) -> None:
    value = json.dumps({"metadata": existing, "n": 1}).encode()

    message = failed("t", "TheJob", value, BAD)

    assert json.loads(message.value) == {"metadata": metadata, "n": 1}
    assert json.loads(repaired(message.value)) == {"metadata": existing, "n": 1}


@pytest.mark.parametrize(
    "value", [b"", b"[1]", b"null", b"{", b"\xff", b'{"a": "\xff"}', b'{"a": "\\ud800"}', b"[" * 9999]
)
def test_what_is_no_json_object_is_wrapped(value: bytes) -> None:
    message = failed("t", "TheJob", value, BAD)

    assert json.loads(message.value) == {
        "metadata": {**OURS, "encoding": "base64"},
        "payload": base64.b64encode(value).decode(),
    }
    assert message.key is None


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (b'{"userId": "u-1", "edata": {"userId": "u-2"}}', b"u-1"),
        (b'{"edata": {"userId": "\xc3\xa9"}}', b"\xc3\xa9"),
        (b'{"userId": 5, "edata": {"userId": "u-2"}}', b"u-2"),
        (b'{"userId": "", "edata": {"userId": null}}', None),
        (b'{"userId": null, "edata": [{"userId": "u-2"}]}', None),
        (b'{"user": "u-1"}', None),
        (b'["u-1"]', None),
    ],
)
def test_the_key_of_a_failed_event_is_the_user_where_one_can_be_read(value: bytes, key: bytes | None) -> None:
    assert failed("t", "TheJob", value, BAD).key == key


def test_a_job_that_knows_the_user_says_so() -> None:
    assert failed("t", "TheJob", b'{"userId": "u-1"}', BAD, "u-2").key == b"u-2"
    assert failed("t", "TheJob", b"[]", BAD, "u-2").key == b"u-2"


@given(json_objects)
@example({"payload": "YQ==", "metadata": {"validation_error": "x", "src": "y", "encoding": "base64"}})
@example({"metadata": {"original": {"metadata": {"original": None}}}})
def test_an_object_comes_back_from_the_failed_topic_equal(event: JsonObject) -> None:
    value = json.dumps(event).encode()

    once = failed("t", "TheJob", value, BAD)
    twice = failed("t", "OtherJob", once.value, BAD)

    assert json.loads(repaired(once.value)) == event
    assert repaired(repaired(twice.value)) == repaired(once.value)


@given(st.from_regex(rb"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_comes_back_with_the_digits_it_had(number: bytes) -> None:
    value = b'{"n":' + number + b',"list":[' + number + b"]}"

    assert repaired(failed("t", "TheJob", value, BAD).value) == value


@given(st.binary())
def test_any_bytes_come_back_from_the_failed_topic(value: bytes) -> None:
    message = failed("t", "TheJob", value, BAD)

    assert json.loads(message.value)["metadata"].items() >= OURS.items()
    if "payload" in json.loads(message.value):
        assert repaired(message.value) == value
    else:
        assert json.loads(repaired(message.value)) == json.loads(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"[]",
        b'{"userId": "u-1"}',
        b'{"metadata": null}',
        b'{"metadata": {"src": "TheJob"}}',
        b'{"metadata": {"validation_error": "no", "src": 1}}',
        b'{"metadata": {"validation_error": "no", "src": "TheJob"}, "a": "\xff"}',
        b'{"metadata": {"validation_error": "no", "src": "TheJob", "encoding": "gzip"}, "payload": ""}',
        b'{"metadata": {"validation_error": "no", "src": "TheJob", "encoding": "base64"}}',
        b'{"metadata": {"validation_error": "no", "src": "TheJob", "encoding": "base64"}, "payload": "a"}',
        b"[" * 9999,
    ],
)
def test_what_did_not_fail_is_not_repaired(value: bytes) -> None:
    with pytest.raises(BadEvent, match=r"^value is no message of a failed topic: ") as refusal:
        repaired(value)

    assert refusal.value.kind == "not_failed"


@given(st.binary())
def test_repairing_raises_nothing_but_bad_event(value: bytes) -> None:
    with pytest.raises(BadEvent):
        repaired(value)
