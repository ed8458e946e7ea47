"""The event of the button "Sync progress now": what the job takes for one, and what goes to the failed topic."""

import json
from typing import Any

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.events import MAX_KEY_BYTES, BadEvent
from common.domain.messages import enrolment_sync
from jobs.activity_aggregate_updater.events import EnrolmentSync, decode

KAFKA_TIME = 1_715_657_599_999
ASHA = EnrolmentKey("u-1", "do_1", "b-1")


def event(**edata: Any) -> dict[str, Any]:
    """An event as the API of the button sends it, with some members of ``edata`` replaced."""
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1614838059898,
        "mid": "LP.1614838059898.c7ba0267-d1fe-4443-a819-b0e8c06a44c2",
        "actor": {"type": "System", "id": "Course Batch Updater"},
        "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
        "object": {"type": "CourseBatchEnrolment", "id": "b-1_u-1"},
        "edata": {
            "action": "user-enrolment-sync",
            "iteration": 1,
            "batchId": "b-1",
            "userId": "u-1",
            "courseId": "do_1",
        }
        | edata,
    }


def decoded(value: dict[str, Any]) -> object:
    return decode(json.dumps(value).encode(), KAFKA_TIME)


@pytest.mark.parametrize("action", ["user-enrolment-sync", "User-Enrolment-Sync"])
def test_an_event_of_the_button(action: str) -> None:
    assert decoded(event(action=action)) == EnrolmentSync(ASHA, 1614838059898)


def test_it_needs_no_contents_and_ignores_them() -> None:
    assert decoded(event(contents="none")) == EnrolmentSync(ASHA, 1614838059898)


def test_without_a_time_it_has_that_of_kafka() -> None:
    assert decoded({key: value for key, value in event().items() if key != "ets"}) == EnrolmentSync(ASHA, KAFKA_TIME)


@pytest.mark.parametrize("field", ["userId", "courseId", "batchId"])
@pytest.mark.parametrize(("value", "kind"), [(None, "missing_field"), (" ", "missing_field"), (7, "wrong_type")])
def test_an_id_that_is_missing_or_wrong_fails_it(field: str, value: object, kind: str) -> None:
    with pytest.raises(BadEvent, match=f"edata.{field}") as failure:
        decoded(event(**{field: value}))
    assert failure.value.kind == kind


def test_ids_that_no_table_takes_fail_it() -> None:
    with pytest.raises(BadEvent) as failure:
        decoded(event(userId="u" * (MAX_KEY_BYTES + 1)))
    assert failure.value.kind == "too_large"


def test_the_message_that_we_send_is_the_event_of_the_button() -> None:
    message = enrolment_sync("a-topic", user_id="u-1", course_id="do_1", batch_id="b-1", time_ms=1614838059898)
    assert (message.topic, message.key) == ("a-topic", b"u-1")
    sent = json.loads(message.value)
    assert sent.pop("mid").startswith("LP.1614838059898.")
    assert sent == {key: value for key, value in event().items() if key != "mid"}
    assert decode(message.value, 0) == EnrolmentSync(ASHA, 1614838059898)
