"""Envelopes and the tables of errors of both services."""

import json
import re
from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.events import MAX_TIME_MS
from services.envelope import (
    ApiError,
    CourseEnvelope,
    MessageIds,
    ViewerEnvelope,
    busy,
    client_error,
    course_api,
    course_request,
    course_time,
    decode_body,
    forbidden,
    internal_error,
    invalid_fields,
    missing,
    server_error,
    unauthorized,
    wrong_type,
)

KOLKATA = ZoneInfo("Asia/Kolkata")
TIME_MS = 1_715_658_164_310
PATH = "/v1/content/state/read"
IDS = MessageIds(None, "own")


@pytest.mark.parametrize(
    ("error", "status", "response_code", "err", "params_status", "message"),
    [
        (missing("batchId"), 400, "CLIENT_ERROR", "MANDATORY_PARAMETER_MISSING", "MANDATORY_PARAMETER_MISSING",
         "Mandatory parameter batchId is missing."),
        (wrong_type("contentIds", "List"), 400, "CLIENT_ERROR", "DATA_TYPE_ERROR", "DATA_TYPE_ERROR",
         "Data type of contentIds should be List."),
        (client_error("A_CODE", "a message"), 400, "CLIENT_ERROR", "A_CODE", "A_CODE", "a message"),
        (unauthorized(), 401, "UNAUTHORIZED", "UNAUTHORIZED_USER", "UNAUTHORIZED_USER", "You are not authorized."),
        (forbidden("a message"), 403, "FORBIDDEN", "FORBIDDEN", "FORBIDDEN", "a message"),
        (busy(), 503, "SERVER_ERROR", None, "SERVER_ERROR", "Too many requests are under way, please try again later."),
        (server_error("A_CODE", "a message"), 500, "SERVER_ERROR", "A_CODE", "A_CODE", "a message"),
        (server_error(None, "a message"), 500, "SERVER_ERROR", None, "SERVER_ERROR", "a message"),
        (internal_error(), 500, "SERVER_ERROR", "INTERNAL_ERROR", "INTERNAL_ERROR",
         "Process failed,please try again later."),
    ],
)  # fmt: skip
def test_errors_of_the_course_service(
    error: ApiError, status: int, response_code: str, err: str | None, params_status: str, message: str
) -> None:
    body = json.loads(CourseEnvelope(KOLKATA).failure(PATH, IDS._replace(sent="m"), TIME_MS, error))

    assert error.http_status == status
    assert body == {
        "id": "api.content.state.read",
        "ver": "v1",
        "ts": "2024-05-14 09:12:44:310+0530",
        "params": {"resmsgid": None, "msgid": "m", "err": err, "status": params_status, "errmsg": message},
        "responseCode": response_code,
        "result": {},
    }


@pytest.mark.parametrize(
    ("error", "code", "result"),
    [
        (invalid_fields({"request.assessments": "Field cannot be empty"}), "CLIENT_ERROR",
         {"request.assessments": "Field cannot be empty"}),
        (internal_error(), "SERVER_ERROR", {}),
    ],
)  # fmt: skip
def test_errors_of_the_viewer_service(error: ApiError, code: str, result: dict[str, str]) -> None:
    body = json.loads(ViewerEnvelope("api.view.assess.submit").failure(PATH, IDS, TIME_MS, error))

    assert (body["responseCode"], body["params"]["err"], body["params"]["status"]) == (code, code, "failed")
    assert body["result"] == result


def test_success_of_both_services() -> None:
    course, headers = CourseEnvelope(KOLKATA).success(PATH, IDS, TIME_MS, {"contentList": []})
    viewer, no_headers = ViewerEnvelope("api.view.assess.read").success(PATH, IDS, TIME_MS, {})

    assert json.loads(course)["params"]["status"] == "success"
    assert json.loads(course)["params"]["msgid"] == "own"
    assert headers == {"x-response-length": "18", "Access-Control-Allow-Origin": "*"}
    body = json.loads(viewer)
    assert (body["id"], body["ver"], body["ts"]) == ("api.view.assess.read", "1.0", "2024-05-14T03:42:44.310Z")
    params = body["params"]
    assert params.pop("resmsgid") == "own"
    assert params == {"msgid": None, "err": None, "status": "successful", "errmsg": None, "client_key": None}
    assert no_headers == {}


@pytest.mark.parametrize(
    ("path", "api"),
    [
        (PATH, "api.content.state.read"),
        ("/v1/group/activity/agg", "api.group.activity.agg"),
        ("/private/v1/content/state/read", ""),
    ],
)
def test_the_id_follows_from_the_path(path: str, api: str) -> None:
    assert course_api(path) == api


def test_times() -> None:
    assert course_time(TIME_MS, KOLKATA) == "2024-05-14 09:12:44:310+0530"
    assert course_time(-1, UTC) == "1969-12-31 23:59:59:999+0000"
    assert course_time(None, UTC) is None
    assert course_time(10**17, UTC) is None
    assert course_time(-(10**17), UTC) is None
    assert course_time(MAX_TIME_MS, ZoneInfo("Pacific/Kiritimati")) is not None


@pytest.mark.parametrize("zone", [UTC, KOLKATA, ZoneInfo("Pacific/Kiritimati"), ZoneInfo("Pacific/Honolulu")])
def test_times_of_the_first_years(zone: tzinfo) -> None:
    """Year 1 begins at -62,135,596,800,000 ms; some clients write such a time for none."""
    year_ms = 365 * 86_400_000
    for years in range(-50, 1):
        text = course_time(-62_135_596_800_000 + years * year_ms, zone)
        assert text is None
    text = course_time(-62_135_596_800_000 + year_ms, zone)
    assert text is not None
    assert re.fullmatch(r"000[12]-\d\d-\d\d \d\d:\d\d:\d\d:000[+-]\d{4}", text)


@given(st.integers(-(2**63), 2**63 - 1) | st.integers(-62_200_000_000_000, -62_100_000_000_000))
def test_no_stored_time_fails(time_ms: int) -> None:
    text = course_time(time_ms, KOLKATA)
    assert text is None or text.endswith("+0530") or "+" in text


def test_bodies() -> None:
    assert decode_body(b" ") is None
    assert decode_body(b"null") is None
    assert decode_body(b'{"id": 5, "params": []}') == b"null"
    assert decode_body(b'{"request": {"a": 1}, "more": 2}') == b'{"a": 1}'
    assert course_request(b'{"request": null}') == {}


@pytest.mark.parametrize("body", [b"{", b"5", b"[]", b'{"a": "\xff"}', b'{"request": 1', b"[" * 100_000])
@pytest.mark.parametrize("read", [decode_body, course_request])
def test_a_body_that_cannot_be_read_is_a_client_error(read: Callable[[bytes], Any], body: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        read(body)

    assert (raised.value.http_status, raised.value.code) == (400, "INVALID_REQUESTED_DATA")


@pytest.mark.parametrize("body", [b"", b"null"])
def test_a_missing_body_is_a_server_error_of_the_course_service(body: bytes) -> None:
    with pytest.raises(ApiError) as raised:
        course_request(body)

    assert (raised.value.http_status, raised.value.code) == (500, "INTERNAL_ERROR")
