"""Message ids and access lines: nothing that a client sends forges a line or names a user."""

import json
import logging
import logging.config

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.request_log import MESSAGE_ID, MessageIdFilter, hashed, log_access, loggable, logging_config


@pytest.mark.parametrize(
    ("message_id", "shown"),
    [("m-1", "m-1"), ("a\nINFO forged", r"a\nINFO forged"), ("\x1b[31m", r"\x1b[31m"), ("é", r"\xe9")],
)
def test_a_message_id_cannot_forge_a_line(message_id: str, shown: str) -> None:
    assert loggable(message_id) == shown


@given(st.text())
def test_every_message_id_is_one_printable_line(message_id: str) -> None:
    shown = loggable(message_id)

    assert shown.isascii()
    assert shown == "" or shown.isprintable()
    assert len(shown) <= 1_000


def test_every_record_has_the_message_id_of_its_request() -> None:
    record = logging.LogRecord("name", logging.INFO, "file", 1, "text", None, None)
    token = MESSAGE_ID.set("m-1")
    try:
        assert MessageIdFilter().filter(record)
    finally:
        MESSAGE_ID.reset(token)

    assert record.__dict__["message_id"] == "m-1"


def test_an_access_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(logging_config(access_log=True))
    try:
        log_access("/v1/assess/read", 200, 0.01234, "m-1", "u-1")
        log_access("/v1/assess/read", 400, 0.5, 'a"\n', None)
    finally:
        logging.config.dictConfig(logging_config(access_log=False))
    log_access("/v1/assess/read", 200, 0.1, "not logged", "u-1")

    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first.pop("time").endswith("+00:00")
    assert first == {"path": "/v1/assess/read", "status": 200, "ms": 12.3, "messageId": "m-1", "userId": hashed("u-1")}
    assert (second["messageId"], second["userId"]) == (r'a"\n', None)


def test_a_user_id_is_hashed() -> None:
    assert hashed("u-1") == hashed("u-1") != hashed("u-2")
    assert "u-1" not in hashed("u-1")
