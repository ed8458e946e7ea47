"""Group aggregates read: validation, the merge with maps that are null, who may read."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from services.envelope import ApiError
from services.group_activity import (
    AggregatesRow,
    GroupActivity,
    GroupActivityQuery,
    check_member,
    members_by_id,
    parse,
    shape,
    usable,
)

QUERY = GroupActivityQuery("g", "c", "Course")
NOW_MS = 1_800_000_000_000


@pytest.mark.parametrize("times_ms", [{}, {"a": None}, {"b": NOW_MS}])
def test_times_that_cannot_be_used_are_null(times_ms: Mapping[str, int | None]) -> None:
    [metric] = shaped(row("u", {"a": 1}, None, times_ms), u={})["members"][0]["agg"]

    assert metric == {"metric": "a", "lastUpdatedOn": None, "value": 1.0}


def row(
    user_id: str,
    agg: dict[str, int] | None = None,
    aggregates: dict[str, float] | None = None,
    agg_last_updated_ms: Mapping[str, int | None] = {},
) -> AggregatesRow:
    """A row as it is read, with the maps of metrics as JSON."""
    agg_json, aggregates_json = (None if column is None else json.dumps(column) for column in (agg, aggregates))
    return AggregatesRow(user_id, agg_json, aggregates_json, agg_last_updated_ms)


def shaped(*rows: AggregatesRow, **members: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(msgspec.json.encode(shape(QUERY, members, rows, NOW_MS)))
    return answer


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({}, "INVALID_REQUESTED_DATA", "Requested data for this operation is not valid."),
        ({"activityId": "c"}, "GROUP_ID_MISSING", "GroupId is mandatory."),
        ({"groupId": " ", "activityId": ""}, "GROUP_ID_MISSING", "GroupId is mandatory."),
        ({"groupId": "g", "activityId": " "}, "ACTIVITY_ID_MISSING", "ActivityId is mandatory."),
        ({"groupId": "g", "activityId": "c"}, "ACTIVITY_TYPE_MISSING", "ActivityType is mandatory."),
        ({"groupId": 5}, "DATA_TYPE_ERROR", "Data type of groupId should be String."),
    ],
)
def test_the_first_problem_wins(request_: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse(request_)

    assert (raised.value.http_status, raised.value.code, raised.value.message) == (400, code, message)


def test_a_query() -> None:
    query = parse({"groupId": "g", "activityId": "c", "activityType": "Course", "more": []})

    assert query == QUERY
    assert query.cache_key == "g:c:Course:activity-agg"


def test_members_need_an_id() -> None:
    members: list[dict[str, Any]] = [
        {"userId": "u", "name": "first"},
        {"userId": "u"},
        {"userId": " "},
        {"userId": 5},
        {},
    ]

    assert members_by_id(members) == {"u": {"userId": "u", "name": "first"}}


def test_null_maps_and_missing_times() -> None:
    answer = shaped(
        row("u", {"completedCount": 4, "score:x": 7}),
        row("u", None, {"score:x": 7.5}, {"score:x": NOW_MS - 1}),
        row("v", None, None, {"orphan": NOW_MS}),
        u={"name": None, "role": "admin"},
        v={},
    )

    assert answer["members"] == [
        {
            "userId": "u",
            "name": None,
            "role": "admin",
            "agg": [
                {"metric": "completedCount", "lastUpdatedOn": None, "value": 4.0},
                {"metric": "score:x", "lastUpdatedOn": None, "value": 7.0},
            ],
        },
        {
            "userId": "u",
            "name": None,
            "role": "admin",
            "agg": [{"metric": "score:x", "lastUpdatedOn": NOW_MS - 1, "value": 7.5}],
        },
        {"userId": "v", "agg": []},
    ]
    assert answer["activity"]["agg"] == [{"metric": "enrolmentCount", "lastUpdatedOn": NOW_MS - 1, "value": 2}]


def test_now_where_there_is_no_time() -> None:
    assert shaped()["activity"]["agg"] == [{"metric": "enrolmentCount", "lastUpdatedOn": NOW_MS, "value": 0}]
    assert shaped(row("u", {"a": 1}), u={})["activity"]["agg"][0]["lastUpdatedOn"] == NOW_MS


def test_numbers_are_written_as_what_they_are() -> None:
    text = msgspec.json.encode(shape(QUERY, {"u": {}}, [row("u", {"a": 1})], NOW_MS))

    assert b'"value":1.0' in text
    assert b'"value":1}' in text


def test_a_stored_value_that_is_no_number_is_null_and_costs_nothing_else() -> None:
    """JSON has no NaN, and Cassandra's toJson writes null for it."""
    [member] = shaped(AggregatesRow("u", None, '{"a": null, "b": 1.0E-7}', {}), u={})["members"]

    assert [metric["value"] for metric in member["agg"]] == [None, 1e-7]


def test_only_members_may_read() -> None:
    check_member({"u": {}}, ["x", "u"])
    check_member({}, ["x"])
    with pytest.raises(ApiError) as raised:
        check_member({"u": {}}, ["x"])
    # Not 401: clients would take that for the end of the session.
    assert (raised.value.http_status, raised.value.response_code) == (403, "FORBIDDEN")


def test_who_was_removed_is_no_member() -> None:
    members: list[dict[str, Any]] = [
        {"userId": "u", "removedOn": None},
        {"userId": "gone", "status": "inactive", "removedOn": "2024-05-14 09:12:44:310+0530"},
    ]

    assert members_by_id(members).keys() == {"u"}


def test_a_cached_answer_is_used_for_its_own_question_and_a_member() -> None:
    cached: GroupActivity = shape(QUERY, {"u": {}}, [row("u")], NOW_MS)

    assert usable(cached, QUERY, ["u"])
    assert not usable(cached, QUERY, ["x"])
    # All three have the key g:c:Course:activity-agg or one like it.
    assert not usable(cached, GroupActivityQuery("g:c", "Course", "activity"), ["u"])
