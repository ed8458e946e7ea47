"""What services and caches answer about users, contents and courses."""

from typing import Any

import pytest

from common.domain.events import BadEvent, Refused, Skip
from common.servers.http_answers import Answer
from jobs.collection_cert_pre_processor.answers import (
    CONTENT_METADATA,
    cached_content_type,
    cached_course_name,
    content_type,
    course_name,
    resolve_escapes,
    user,
)


def content(**fields: Any) -> Answer:
    return Answer(200, {"responseCode": "OK", "result": {"content": fields}})


def error(status: int, code: str) -> Answer:
    return Answer(status, {"params": {"err": code, "status": code}, "responseCode": "CLIENT_ERROR", "result": {}})


REFUSALS = [Answer(401, {}), Answer(403, {}), Answer(414, {})]
NO_ENTRY = [None, Refused("bad_cache_value", "Redis holds no JSON that can be used at key do_1")]


def test_the_user_is_result_response() -> None:
    fields = {"firstName": "Asha", "organisations": [{"id": "org-1"}]}
    assert user("u-1", Answer(200, {"responseCode": "OK", "result": {"response": fields}})) == fields


@pytest.mark.parametrize("place", ["err", "status"])
def test_a_blocked_user_is_skipped(place: str) -> None:
    answer = Answer(400, {"params": {place: "UOS_USRRED0006"}, "responseCode": "CLIENT_ERROR"})
    assert user("u-1", answer) == Skip("blocked_user")


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "USER_NOT_FOUND"),
        error(400, "UOS_USRRED0007"),
        error(404, "UOS_USRRED0006"),
        *REFUSALS,
        Answer(200, {}),
        Answer(200, {"result": {}}),
        Answer(200, {"result": "u-1"}),
        Answer(200, {"result": {"response": None}}),
        Answer(200, {"result": {"response": {}}}),
        Answer(200, {"result": {"response": "u-1"}}),
    ],
)
def test_any_other_answer_fails_and_names_the_user(answer: Answer) -> None:
    with pytest.raises(BadEvent, match="user u-1") as failure:
        user("u-1", answer)
    assert failure.value.kind == "user_api"


def test_the_course_name_of_the_cache() -> None:
    cached = CONTENT_METADATA.decode(rb'{"name": "Maths \\u0026 Science", "identifier": "do_1"}')
    assert cached_course_name(cached) == "Maths & Science"


@pytest.mark.parametrize(
    "cached", [*NO_ENTRY, *map(CONTENT_METADATA.decode, ("{}", '{"name": null}', '{"name": " "}', '{"name": 7}'))]
)
def test_without_one_the_api_is_asked(cached: object) -> None:
    assert cached_course_name(cached) is None


def test_the_course_name_of_the_api() -> None:
    assert course_name("do_1", content(name="Maths \\n1")) == "Maths 1"


@pytest.mark.parametrize(
    "answer",
    [
        error(404, "RESOURCE_NOT_FOUND"),
        *REFUSALS,
        Answer(200, {"responseCode": "RESOURCE_NOT_FOUND", "result": {"content": {"name": "Maths"}}}),
        Answer(200, {"result": {"content": None}}),
        Answer(200, {"result": {"content": "Maths"}}),
        content(),
        content(name=""),
        content(name=7),
    ],
)
def test_a_course_without_a_name_fails(answer: Answer) -> None:
    with pytest.raises(BadEvent, match="do_1") as failure:
        course_name("do_1", answer)
    assert failure.value.kind == "content_api"


@pytest.mark.parametrize("field", ["contentType", "contenttype"])
def test_the_content_type_of_the_cache_in_either_spelling(field: str) -> None:
    assert cached_content_type(CONTENT_METADATA.decode(f'{{"{field}": "SelfAssess"}}')) == "SelfAssess"


@pytest.mark.parametrize("cached", [*NO_ENTRY, *map(CONTENT_METADATA.decode, ("{}", '{"contentType": 7}'))])
def test_a_type_that_is_not_in_the_cache(cached: object) -> None:
    assert cached_content_type(cached) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (content(contentType="SelfAssess"), "SelfAssess"),
        (content(name="Rose"), ""),
        (content(contentType=None, contenttype="Resource"), "Resource"),
        (error(404, "RESOURCE_NOT_FOUND"), None),
        (error(400, "ERR_CONTENT"), None),
        (Answer(200, {"responseCode": "RESOURCE_NOT_FOUND", "result": {}}), None),
        (Answer(200, {"responseCode": "OK", "result": {}}), None),
    ],
)
def test_the_content_type_of_the_api(answer: Answer, expected: str | None) -> None:
    assert content_type("do_2", answer) == expected


@pytest.mark.parametrize("answer", [*REFUSALS, Answer(200, {"result": {"content": ["do_2"]}})])
def test_an_api_that_does_not_tell_is_not_taken_for_one_that_does_not_know(answer: Answer) -> None:
    with pytest.raises(BadEvent, match="do_2"):
        content_type("do_2", answer)


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
