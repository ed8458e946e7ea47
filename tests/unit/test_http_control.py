"""What a client asks for to see whether an API answers others, and which answers to that count."""

import json
from typing import Any

import pytest

from common.config.http import HttpConfig
from common.domain.events import BadEvent
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.http import UNKNOWN_ID, ApiClient
from common.servers.http_answers import Answer, answer_of

URL = "http://api/read/"
SEARCH = {"request": {"filters": {"identifier": UNKNOWN_ID}}}
TIMES = {"initial_backoff_ms": 1, "max_backoff_ms": 2, "breaker_delay_ms": 1}


def sunbirds(code: str) -> bytes:
    return json.dumps({"params": {"err": None}, "responseCode": code, "result": {}}).encode()


class Api(ApiClient):
    """It answers 500, except to what it is asked for as a control."""

    def __init__(self, control: Any, status: int, body: bytes, call_timeout_ms: int) -> None:
        config = HttpConfig(**TIMES, request_timeout_ms=call_timeout_ms - 1, call_timeout_ms=call_timeout_ms)
        super().__init__("test", URL, config, Metrics(), poison_after_ms=20, control=control)
        self._answer = (status, body)
        self.asked: set[tuple[str, str, bytes | None]] = set()

    async def _exchange(self, request: Any) -> Answer:
        if UNKNOWN_ID in f"{request}":
            self.asked.add(tuple(request))
            return answer_of(URL, *self._answer)
        return answer_of(URL, 500, b"")


async def outcome(control: Any, status: int, body: bytes, call_timeout_ms: int) -> tuple[Api, Exception]:
    api = Api(control, status, body, call_timeout_ms)
    try:
        with pytest.raises((BadEvent, WorldFault)) as raised:
            await (api.get("poison") if isinstance(control, str) else api.post({"request": "poison"}))
    finally:
        await api.close()
    return api, raised.value


@pytest.mark.parametrize(
    ("control", "asked", "status", "body"),
    [
        (UNKNOWN_ID, ("GET", f"{URL}{UNKNOWN_ID}", None), 404, sunbirds("RESOURCE_NOT_FOUND")),
        (SEARCH, ("POST", URL, json.dumps(SEARCH, separators=(",", ":")).encode()), 200, sunbirds("OK")),
    ],
)
async def test_the_only_id_that_a_worker_ever_asked_for_is_refused_if_the_control_is_answered(
    control: Any, asked: tuple[str, str, bytes | None], status: int, body: bytes
) -> None:
    api, error = await outcome(control, status, body, 60_000)
    assert isinstance(error, BadEvent)
    assert error.kind == "api_error"
    assert api.asked == {asked}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"<html>not found</html>"),
        (404, b'{"message":"no Route matched with those values"}'),
        (404, sunbirds("SERVER_ERROR")),
        (400, sunbirds("CLIENT_ERROR")),
        (401, b'{"message":"Unauthorized"}'),
        (200, b"{}"),
        (200, b'{"responseCode":"OK"}'),
        (200, b'{"responseCode":[],"params":{}}'),
        (200, sunbirds("SERVER_ERROR")),
        (200, b"<html>maintenance</html>"),
        (500, sunbirds("RESOURCE_NOT_FOUND")),
        (503, b""),
    ],
)
async def test_while_a_service_is_down_and_a_proxy_answers_no_id_is_at_fault(status: int, body: bytes) -> None:
    api, error = await outcome(UNKNOWN_ID, status, body, 150)
    assert isinstance(error, WorldFault)
    assert api.asked
