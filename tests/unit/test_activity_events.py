"""What the activity aggregate updater takes for an event, what it skips and what goes to the failed topic."""

import json
from typing import Any

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.events import MAX_KEY_BYTES, BadEvent, Skip
from jobs.activity_aggregate_updater.events import ContentsCompleted, LearnerEvent, decode

KAFKA_TIME = 1_715_657_599_999


def event(**edata: Any) -> dict[str, Any]:
    """An event as the Course Service sends it, with some members of ``edata`` replaced."""
    return {
        "eid": "BE_JOB_REQUEST",
        "ets": 1715657560123,
        "mid": "LP.1715657560123.6f1d1e0e-4a3b-4a55-9c0f-3f2b9b7d5a10",
        "actor": {"id": "Course Batch Updater", "type": "System"},
        "context": {"pdata": {"id": "org.sunbird.platform", "ver": "1.0"}},
        "object": {"id": "0130929928739635200_u-1", "type": "CourseBatchEnrolment"},
        "edata": {
            "userId": "u-1",
            "batchId": "0130929928739635200",
            "courseId": "do_1130928636168192001667",
            "contents": [{"contentId": "do_1128870328040161281204", "status": 2}],
            "action": "batch-enrolment-update",
            "iteration": 1,
        }
        | edata,
    }


def without(*path: str) -> dict[str, Any]:
    made = event()
    holder = made["edata"] if path[0] == "edata" and len(path) > 1 else made
    del holder[path[-1]]
    return made


def decoded(value: Any) -> LearnerEvent | Skip:
    return decode(value if isinstance(value, bytes) else json.dumps(value).encode(), KAFKA_TIME)


def content_ids(contents: Any) -> tuple[str, ...] | str:
    found = decoded(event(contents=contents))
    return found.kind if isinstance(found, Skip) else found.content_ids


def test_an_event_as_the_api_sends_it() -> None:
    assert decoded(event()) == ContentsCompleted(
        EnrolmentKey("u-1", "do_1130928636168192001667", "0130929928739635200"),
        ("do_1128870328040161281204",),
        1715657560123,
    )


@pytest.mark.parametrize("action", ["batch-enrolment-update", "BATCH-ENROLMENT-UPDATE", "Batch-Enrolment-Update"])
def test_the_action_counts_in_any_case(action: str) -> None:
    assert isinstance(decoded(event(action=action)), ContentsCompleted)


@pytest.mark.parametrize("action", ["user-enrolment-sync ", "batch-enrolment-update ", "issue-certificate"])
def test_another_action_is_skipped(action: str) -> None:
    assert decoded(event(action=action)) == Skip("other_action")


@pytest.mark.parametrize("edata", [None, {}, {"action": None}, {"action": 7}, {"action": ["batch-enrolment-update"]}])
def test_an_event_without_an_action_is_not_for_this_job(edata: object) -> None:
    assert decoded({"edata": edata, "ets": 1}) == Skip("other_action")
    assert decoded({"ets": 1}) == Skip("other_action")


def test_another_action_may_hold_anything_else() -> None:
    other = {"edata": {"action": "user-enrolment-sync-2", "userId": 7, "contents": "none"}, "ets": "yesterday"}
    assert decoded(other) == Skip("other_action")


@pytest.mark.parametrize("status", [2, 2.0])
def test_status_2_counts_as_whole_number_and_as_double(status: float) -> None:
    assert content_ids([{"contentId": "do_1", "status": status}]) == ("do_1",)


@pytest.mark.parametrize("status", ["2", True, None, 1, 0, 3, 2.5, [2], {"value": 2}])
def test_any_other_status_does_not_count(status: Any) -> None:
    assert content_ids([{"contentId": "do_1", "status": status}]) == "no_completed_content"


def test_a_content_without_a_status_does_not_count() -> None:
    assert content_ids([{"contentId": "do_1"}]) == "no_completed_content"


@pytest.mark.parametrize("content_id", ["", " ", "\t", None, 7, ["do_1"]])
def test_a_content_without_a_non_blank_id_does_not_count(content_id: Any) -> None:
    assert content_ids([{"contentId": content_id, "status": 2}]) == "no_completed_content"


@pytest.mark.parametrize("odd", [None, 2, "do_1", [], {}, {"contentId": 7, "status": 2}])
def test_an_odd_entry_takes_none_of_its_neighbours_with_it(odd: Any) -> None:
    assert content_ids([{"contentId": "do_1", "status": 2}, odd, {"contentId": "do_2", "status": 2}]) == (
        "do_1",
        "do_2",
    )


def test_an_empty_list_of_contents_is_skipped() -> None:
    assert content_ids([]) == "no_completed_content"


def test_a_content_named_twice_counts_once() -> None:
    twice = [{"contentId": content_id, "status": 2} for content_id in ("do_2", "do_1", "do_2")]
    assert content_ids(twice) == ("do_2", "do_1")


def test_an_id_is_taken_as_it_is() -> None:
    assert content_ids([{"contentId": " do_1 ", "status": 2}]) == (" do_1 ",)


@pytest.mark.parametrize("ets", [1715657560123, 1715657560123.0])
def test_the_event_time_is_ets(ets: float) -> None:
    found = decoded(event() | {"ets": ets})
    assert isinstance(found, ContentsCompleted)
    assert found.time_ms == 1715657560123
    assert isinstance(found.time_ms, int)


@pytest.mark.parametrize("made", [without("ets"), event() | {"ets": None}])
def test_the_kafka_timestamp_stands_in_for_a_missing_ets(made: dict[str, Any]) -> None:
    found = decoded(made)
    assert isinstance(found, ContentsCompleted)
    assert found.time_ms == KAFKA_TIME


def bad(value: Any, timestamp_ms: int = KAFKA_TIME) -> BadEvent:
    with pytest.raises(BadEvent) as raised:
        decode(value if isinstance(value, bytes) else json.dumps(value).encode(), timestamp_ms)
    return raised.value


def test_an_event_without_any_time_is_bad() -> None:
    assert bad(without("ets"), timestamp_ms=0).kind == "missing_field"


@pytest.mark.parametrize("ets", ["1715657560123", True, [], {}, 1.5, -1, 10**18])
def test_a_wrong_ets_is_bad(ets: Any) -> None:
    error = bad(event() | {"ets": ets})
    assert error.kind == "wrong_type"
    assert "ets" in error.reason


@pytest.mark.parametrize("field", ["userId", "courseId", "batchId", "contents"])
def test_a_missing_field_is_named(field: str) -> None:
    for made in (without("edata", field), event(**{field: None})):
        error = bad(made)
        assert error.kind == "missing_field"
        assert f"edata.{field}" in error.reason


@pytest.mark.parametrize("field", ["userId", "courseId", "batchId"])
@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_id_is_a_missing_one(field: str, blank: str) -> None:
    error = bad(event(**{field: blank}))
    assert error.kind == "missing_field"
    assert f"edata.{field}" in error.reason


@pytest.mark.parametrize("field", ["userId", "courseId", "batchId"])
@pytest.mark.parametrize("value", [7, True, ["u-1"], {"id": "u-1"}])
def test_an_id_of_the_wrong_type_is_named(field: str, value: Any) -> None:
    error = bad(event(**{field: value}))
    assert error.kind == "wrong_type"
    assert f"edata.{field}" in error.reason


@pytest.mark.parametrize("contents", ["do_1", 2, {"contentId": "do_1", "status": 2}, True])
def test_contents_that_are_no_list_are_bad(contents: Any) -> None:
    error = bad(event(contents=contents))
    assert error.kind == "wrong_type"
    assert "edata.contents" in error.reason


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (b"", "not_json"),
        (b"{", "not_json"),
        (b"\xff\xfe", "not_json"),
        (b'{"edata": "\xff"}', "not_json"),
        (b'{"edata": {"contents": ' + b"[" * 100_000, "not_json"),
        (b'{"edata": {"userId": "\\ud800"}}', "not_json"),
        (b"null", "not_an_object"),
        (b"[]", "not_an_object"),
        (b"2", "not_an_object"),
        (b'{"edata": []}', "wrong_type"),
    ],
)
def test_what_is_no_event_is_bad(value: bytes, kind: str) -> None:
    assert bad(value).kind == kind


@pytest.mark.parametrize(
    ("ids", "names"),
    [
        (("courseId", "userId"), "userId and courseId"),
        (("courseId", "batchId", "contentId"), "courseId, batchId and contentId"),
    ],
)
def test_ids_fit_into_the_keys_of_the_tables(ids: tuple[str, ...], names: str) -> None:
    def long(length: int) -> dict[str, Any]:
        values = dict.fromkeys(("userId", "courseId", "batchId", "contentId"), "u") | dict.fromkeys(ids, "é")
        values[ids[-1]] = "x" * length
        content_id = values.pop("contentId")
        return event(**values, contents=[{"contentId": "do_1", "status": 2}, {"contentId": content_id, "status": 2}])

    longest = MAX_KEY_BYTES - 2 * (len(ids) - 1)
    assert isinstance(decoded(long(longest)), ContentsCompleted)
    error = bad(long(longest + 1))
    assert error.kind == "too_large"
    assert names in error.reason


def test_a_long_id_is_not_copied_for_thousands_of_contents() -> None:
    contents = [{"contentId": f"do_{number}", "status": 2} for number in range(3_000)]
    assert isinstance(decoded(event(userId="u" * 36, contents=contents)), ContentsCompleted)
    error = bad(event(userId="u" * 50_000, contents=contents))
    assert error.kind == "too_large"
    assert error.reason.startswith("event has 3000 completed contents and long ids: ")
