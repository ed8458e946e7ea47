"""What services and caches answer about users, contents and courses."""

import json
from typing import Any

import pytest

from common.events import BadEvent, Skip
from jobs.collection_cert_pre_processor.answers import (
    cached_content_type,
    cached_course_name,
    content_type,
    course_name,
    resolve_escapes,
    user,
)


def body(document: object) -> bytes:
    return json.dumps(document).encode()


def content(**fields: Any) -> bytes:
    return body({"responseCode": "OK", "result": {"content": fields}})


def error(code: str) -> bytes:
    return body({"params": {"err": code, "status": code}, "responseCode": "CLIENT_ERROR", "result": {}})


UNREADABLE = [
    b"",
    b"<html>",
    b"{",
    b"[]",
    b"null",
    b'{"result": {"response": {"a": "\xff"}, "content": {"a": "\xff"}}}',
]
REFUSALS = [401, 403, 429, 302]


def test_the_user_is_result_response_with_every_field_as_it_came() -> None:
    answer = b'{"responseCode": "OK", "result": {"response": {"firstName": "Asha", "n": 1.50}}}'
    found = user("u-1", 200, answer)
    assert not isinstance(found, Skip)
    assert {field: bytes(raw) for field, raw in found.items()} == {"firstName": b'"Asha"', "n": b"1.50"}


@pytest.mark.parametrize("place", ["err", "status"])
def test_a_blocked_user_is_skipped(place: str) -> None:
    answer = body({"params": {place: "UOS_USRRED0006"}, "responseCode": "CLIENT_ERROR"})
    assert user("u-1", 400, answer) == Skip("blocked_user")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (404, error("USER_NOT_FOUND")),
        (400, error("UOS_USRRED0007")),
        (404, error("UOS_USRRED0006")),
        *((status, b"") for status in REFUSALS),
        *((200, answer) for answer in UNREADABLE),
        (200, body({})),
        (200, body({"result": {}})),
        (200, body({"result": {"response": None}})),
        (200, body({"result": {"response": {}}})),
        (200, body({"result": {"response": "u-1"}})),
    ],
)
def test_any_other_answer_fails_and_names_the_user(status: int, answer: bytes) -> None:
    with pytest.raises(BadEvent, match="user u-1") as failure:
        user("u-1", status, answer)
    assert failure.value.kind == "user_api"


def test_the_course_name_of_the_cache() -> None:
    assert cached_course_name(body({"name": "Maths \\u0026 Science"})) == "Maths & Science"


@pytest.mark.parametrize(
    "cached", [None, *UNREADABLE, body({}), body({"name": None}), body({"name": " "}), body({"name": 7})]
)
def test_without_one_the_api_is_asked(cached: bytes | None) -> None:
    assert cached_course_name(cached) is None


def test_the_course_name_of_the_api() -> None:
    assert course_name("do_1", 200, content(name="Maths \\n1")) == "Maths 1"


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (404, error("RESOURCE_NOT_FOUND")),
        *((status, b"") for status in REFUSALS),
        *((200, answer) for answer in UNREADABLE),
        (200, body({"responseCode": "RESOURCE_NOT_FOUND", "result": {"content": {"name": "Maths"}}})),
        (200, body({"result": {"content": None}})),
        (200, content()),
        (200, content(name="")),
        (200, content(name=7)),
    ],
)
def test_a_course_without_a_name_fails(status: int, answer: bytes) -> None:
    with pytest.raises(BadEvent, match="do_1") as failure:
        course_name("do_1", status, answer)
    assert failure.value.kind == "content_api"


@pytest.mark.parametrize("field", ["contentType", "contenttype"])
def test_the_content_type_of_the_cache_in_either_spelling(field: str) -> None:
    assert cached_content_type(body({field: "SelfAssess"})) == "SelfAssess"


@pytest.mark.parametrize("cached", [None, *UNREADABLE, body({}), body({"contentType": 7})])
def test_a_type_that_is_not_in_the_cache(cached: bytes | None) -> None:
    assert cached_content_type(cached) is None


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (200, content(contentType="SelfAssess"), "SelfAssess"),
        (200, content(name="Rose"), ""),
        (200, content(contentType=None, contenttype="Resource"), "Resource"),
        (404, error("RESOURCE_NOT_FOUND"), None),
        (400, error("ERR_CONTENT"), None),
        (200, body({"responseCode": "RESOURCE_NOT_FOUND", "result": {}}), None),
        (200, body({"responseCode": "OK", "result": {}}), None),
    ],
)
def test_the_content_type_of_the_api(status: int, answer: bytes, expected: str | None) -> None:
    assert content_type("do_2", status, answer) == expected


@pytest.mark.parametrize(
    ("status", "answer"), [*((status, b"") for status in REFUSALS), *((200, answer) for answer in UNREADABLE)]
)
def test_an_api_that_does_not_tell_is_not_taken_for_one_that_does_not_know(status: int, answer: bytes) -> None:
    with pytest.raises(BadEvent, match="do_2"):
        content_type("do_2", status, answer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Maths", "Maths"),
        (r"a\tb\nc\rd\be\ff", "abcdef"),
        (r"say \"hello\" and \'bye\'", "say \"hello\" and 'bye'"),
        (r"C:\\temp", r"C:\temp"),
        (r"\\n", r"\n"),
        (r"caf\u00e9 \uu0915", "café क"),
        (r"\101\60\7\377\400", "A0ÿ 0"),
        (r"smile \ud83d\ude00", "smile 😀"),
        (r"half \ud83d.", "half \ufffd."),
        (r"\u00", r"\u00"),
        (r"\q \x41 \8", r"\q \x41 \8"),
        ("at the end \\", "at the end \\"),
        ("real\ttab\x00\x1f\x7f\x85", "realtab"),
        ("\ufeffगणित\\u0020९", "\ufeffगणित ९"),
        ("", ""),
    ],
)
def test_escapes_of_a_course_name_are_resolved_and_odd_ones_are_kept(name: str, expected: str) -> None:
    assert resolve_escapes(name) == expected
