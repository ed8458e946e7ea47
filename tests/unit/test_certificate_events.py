"""What is a certificate request, what is skipped, what fails."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from common.domain.events import BadEvent, Skip, growth_limit
from jobs.collection_cert_pre_processor import events
from jobs.collection_cert_pre_processor.events import _MEMBERS as MEMBERS
from jobs.collection_cert_pre_processor.events import CertificateRequest, decode, narrowed

KAFKA_TIMESTAMP_MS = 1_715_657_999_999


def event(**changes: Any) -> dict[str, Any]:
    edata = {
        "userIds": ["u-1"],
        "action": "issue-certificate",
        "iteration": 1,
        "trigger": "auto-issue",
        "batchId": "b-1",
        "courseId": "do_1",
        "reIssue": False,
    }
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1_715_657_560_200,
        "mid": "LP.1715657560200.8a0f",
        "edata": {**edata, **changes},
    }


def decoded(document: object) -> CertificateRequest | Skip:
    return decode(json.dumps(document).encode(), KAFKA_TIMESTAMP_MS)


def test_a_request_of_a_job() -> None:
    assert decoded(event(attemptId="a-1")) == CertificateRequest(("u-1",), "do_1", "b-1", False, 1_715_657_560_200)


def test_a_request_of_the_issue_api_has_no_trigger_and_may_ask_for_a_re_issue() -> None:
    edata = {"batchId": "b-1", "courseId": "do_1", "action": "issue-certificate", "userIds": ["u-1"], "reIssue": True}
    assert decoded({"ets": 5, "edata": edata}) == CertificateRequest(("u-1",), "do_1", "b-1", True, 5)


def test_every_user_is_handled_once_in_order_and_a_blank_one_is_none() -> None:
    request = decoded(event(userIds=["u-2", "u-1", " ", "u-2"]))
    assert isinstance(request, CertificateRequest)
    assert request.user_ids == ("u-2", "u-1")


@pytest.mark.parametrize("action", ["ISSUE-CERTIFICATE", "Issue-Certificate"])
def test_the_action_counts_in_any_case(action: str) -> None:
    assert isinstance(decoded(event(action=action)), CertificateRequest)


@pytest.mark.parametrize("missing", [None, False])
def test_a_request_is_no_re_issue_unless_it_says_so(missing: object) -> None:
    request = decoded(event(reIssue=missing))
    assert isinstance(request, CertificateRequest)
    assert not request.re_issue


@pytest.mark.parametrize("document", [{"edata": event()["edata"]}, {**event(), "ets": None}])
def test_the_kafka_timestamp_stands_in_for_a_missing_time(document: dict[str, Any]) -> None:
    request = decoded(document)
    assert isinstance(request, CertificateRequest)
    assert request.time_ms == KAFKA_TIMESTAMP_MS


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ({}, "other_action"),
        ({"edata": None}, "other_action"),
        (event(action="user-enrolment-sync"), "other_action"),
        (event(action=None), "other_action"),
        (event(action=7), "other_action"),
        (event(action=["issue-certificate"]), "other_action"),
        (event(batchId=" "), "no_batch"),
        (event(batchId=None), "no_batch"),
        (event(courseId=""), "no_course"),
        (event(courseId=None), "no_course"),
        (event(userIds=[]), "no_user"),
        (event(userIds=None), "no_user"),
        (event(userIds=["", " "]), "no_user"),
    ],
)
def test_what_is_no_valid_request_is_skipped(document: dict[str, Any], kind: str) -> None:
    assert decoded(document) == Skip(kind)


def test_other_services_may_use_the_topic_with_fields_of_their_own_types() -> None:
    assert decoded({**event(action="revoke", userIds="u-1", batchId=7), "ets": "now"}) == Skip("other_action")


@pytest.mark.parametrize(
    ("document", "kind"),
    [
        ([], "not_an_object"),
        ({"edata": "text"}, "wrong_type"),
        (event(batchId=7), "wrong_type"),
        (event(userIds="u-1"), "wrong_type"),
        (event(userIds=["u-1", None]), "wrong_type"),
        (event(reIssue="yes"), "wrong_type"),
        ({**event(), "ets": "2024-05-14"}, "wrong_type"),
        ({**event(), "ets": -1}, "wrong_type"),
    ],
)
def test_a_request_with_a_field_of_a_wrong_type_fails(document: object, kind: str) -> None:
    with pytest.raises(BadEvent) as failure:
        decoded(document)
    assert failure.value.kind == kind


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"courseId": "x" * 65_518}, "userId and courseId"),
        ({"courseId": "é" * 32_759}, "userId and courseId"),
        ({"userIds": ["u-2", "x" * 65_517]}, "userId and courseId"),
        ({"batchId": "x" * 65_517}, "courseId and batchId"),
    ],
)
def test_ids_that_no_key_of_a_table_has_room_for_fail_the_request(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(BadEvent) as failure:
        decoded(event(**changes))
    assert failure.value.kind == "too_large"
    assert failure.value.reason.startswith(f"event has {names} of ")


def test_the_longest_ids_that_a_key_has_room_for_are_valid() -> None:
    assert isinstance(decoded(event(courseId="x" * 65_517)), CertificateRequest)


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'{"edata": {"action": "\xff"}}'])
def test_what_is_no_json_fails(value: bytes) -> None:
    with pytest.raises(BadEvent) as failure:
        decode(value, KAFKA_TIMESTAMP_MS)
    assert failure.value.kind == "not_json"


def test_what_failed_for_one_user_is_the_same_event_for_that_user_alone() -> None:
    value = b'{"ets":1.50,"edata":{"userIds":["u-1","u-2"],"x":12345678901234567890.10},"metadata":{"a":1}}'
    assert (
        narrowed(value, "u-2")
        == b'{"ets":1.50,"edata":{"userIds":["u-2"],"x":12345678901234567890.10},"metadata":{"a":1}}'
    )


def users(number: int) -> list[str]:
    return [f"{user:036d}" for user in range(number)]


def copies(document: object) -> int:
    """The bytes of a request's copies, one for each of its users."""
    value = json.dumps(document).encode()
    request = decode(value, KAFKA_TIMESTAMP_MS)
    assert isinstance(request, CertificateRequest)
    return sum(len(narrowed(value, user_id)) for user_id in request.user_ids)


def test_a_request_whose_copies_would_fill_the_memory_is_refused_as_a_whole() -> None:
    with pytest.raises(BadEvent) as failure:
        decoded(event(userIds=users(5_000), comment="x" * 50_000))
    assert failure.value.kind == "too_large"
    assert failure.value.reason.startswith("event has 5000 users in edata.userIds and too much beside them: copies")


@pytest.mark.parametrize("changes", [{"userIds": users(26_000)}, {"userIds": users(26_000), "comment": "x" * 250}])
def test_a_request_of_a_megabyte_that_is_nearly_all_users_is_not(changes: dict[str, Any]) -> None:
    assert copies(event(**changes)) > 5 * growth_limit(0)


def test_neither_is_a_small_one_whatever_it_has_beside_its_users() -> None:
    assert copies(event(userIds=["u-1"], comment="x" * 900_000)) < growth_limit(0)
    assert copies(event(userIds=users(40), comment="x" * 20_000)) < growth_limit(0)


def test_what_counts_is_what_the_copies_have_not_how_the_users_are_written() -> None:
    """Blanks between the users are in no copy."""
    value = json.dumps(event(userIds=users(2_000)), indent=600).encode()
    request = decode(value, KAFKA_TIMESTAMP_MS)
    assert isinstance(request, CertificateRequest)
    assert len(request.user_ids) == 2_000


def test_the_copies_of_a_request_are_made_without_reading_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """To read a megabyte for each of 26,000 users took 50 s."""
    read: list[bytes] = []

    def decode_and_note(raw: bytes) -> Any:
        read.append(raw)
        return MEMBERS.decode(raw)

    monkeypatch.setattr(events, "_MEMBERS", SimpleNamespace(decode=decode_and_note))
    value, other = (json.dumps(event(userIds=users(3), comment=text)).encode() for text in "xy")
    for user_id in users(3):
        assert json.loads(narrowed(value, user_id)) == event(userIds=[user_id], comment="x")
    assert len(read) == 2
    assert json.loads(narrowed(other, "u-1")) == event(userIds=["u-1"], comment="y")
