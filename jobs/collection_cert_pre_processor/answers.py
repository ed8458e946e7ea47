"""What the caches and the services answer about a user, a content or a course. Pure.

``status`` and ``body`` are those of an HTTP answer that is data: 200 to 499. What is the world's fault (5xx, refused,
timed out, cut off) does not get here. ``cached`` is a value of Redis, None where there is none.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from common.events import BadEvent, Skip
from jobs.collection_cert_pre_processor.criteria import read_json

User = Mapping[str, msgspec.Raw]
"""The fields of a user, each as the JSON it came as."""

BLOCKED = b"UOS_USRRED0006"
"""The code of a blocked account; services give it in ``params.err`` or in ``params.status``, so any place counts."""

UNKNOWN_CONTENT = (400, 404)


class _UserResult(msgspec.Struct):
    response: dict[str, msgspec.Raw] | None = None


class _UserAnswer(msgspec.Struct):
    result: _UserResult | None = None


class _Content(msgspec.Struct, rename="camel"):
    name: Any = None
    content_type: Any = None
    contenttype: Any = None


class _ContentResult(msgspec.Struct):
    content: _Content | None = None


class _ContentAnswer(msgspec.Struct, rename="camel"):
    response_code: Any = None
    result: _ContentResult | None = None


_USER = msgspec.json.Decoder(_UserAnswer)
_CONTENT_ANSWER = msgspec.json.Decoder(_ContentAnswer)
_CACHED = msgspec.json.Decoder(_Content)


def user(user_id: str, status: int, body: bytes) -> User | Skip:
    """The user of an answer of the user read API, or the skip ``blocked_user``. Raises BadEvent ``user_api``."""
    if status == 400 and BLOCKED in body:
        return Skip("blocked_user")
    if status != 200:
        raise BadEvent("user_api", f"user read API answered {status} for user {user_id}")
    result = read_json(_USER, body, "user_api", f"answer of the user read API for user {user_id}").result
    if result is None or not result.response:
        raise BadEvent("user_api", f"answer of the user read API for user {user_id} has no result.response")
    return result.response


def cached_course_name(cached: bytes | None) -> str | None:
    """The name of a course in the collection cache, ready for a message; None where the API has to be asked."""
    name = _cached(cached).name
    return resolve_escapes(name) if isinstance(name, str) and name.strip() else None


def course_name(course_id: str, status: int, body: bytes) -> str:
    """The course's name in an answer of the content read API, ready for a message. Raises BadEvent ``content_api``."""
    content = _content(course_id, status, body)
    if content is None:
        raise BadEvent("content_api", f"content read API does not know course {course_id}: it answered {status}")
    if not isinstance(content.name, str) or not content.name.strip():
        raise BadEvent("content_api", f"answer of the content read API for course {course_id} has no name")
    return resolve_escapes(content.name)


def cached_content_type(cached: bytes | None) -> str | None:
    """The type of a content in the content cache; None where the API has to be asked."""
    return _content_type(_cached(cached)) or None


def content_type(content_id: str, status: int, body: bytes) -> str | None:
    """The type of a content in an answer of the content read API: ``""`` if it has none, None if it is not known.

    Raises BadEvent ``content_api`` if the API does not tell.
    """
    content = _content(content_id, status, body)
    return None if content is None else _content_type(content)


def _content_type(content: _Content) -> str:
    for value in (content.content_type, content.contenttype):
        if isinstance(value, str) and value:
            return value
    return ""


def _content(content_id: str, status: int, body: bytes) -> _Content | None:
    # A refusal (401, 403, 429) says nothing about the content: taken for "not known", it would cost a learner the
    # certificate without a trace.
    if status in UNKNOWN_CONTENT:
        return None
    if status != 200:
        raise BadEvent("content_api", f"content read API answered {status} for {content_id}")
    answer = read_json(_CONTENT_ANSWER, body, "content_api", f"answer of the content read API for {content_id}")
    if answer.response_code not in (None, "OK"):
        return None
    return answer.result.content if answer.result is not None else None


def _cached(cached: bytes | None) -> _Content:
    # A cache is a copy: what it holds and nobody can read is not there, and the API is asked.
    try:
        return read_json(_CACHED, cached, "cache", "entry of the cache") if cached else _Content()
    except BadEvent:
        return _Content()


_ESCAPE = re.compile(r"\\(?:u+([0-9a-fA-F]{4})|([0-3][0-7]{2}|[0-7]{1,2})|([btnfr\"'\\]))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SIMPLE_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def resolve_escapes(text: str) -> str:
    r"""A text with the escapes of a Scala or Java literal resolved, then without control characters.

    Known are ``\b \t \n \f \r \" \' \\``, octal ``\0`` to ``\377`` and Unicode ``\u00e9``. Anything else behind a
    backslash, and a backslash at the end, stays as it is. Half a surrogate pair becomes U+FFFD.
    """
    if "\\" in text:
        text = _ESCAPE.sub(_resolved, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _CONTROL.sub("", text)


def _resolved(match: re.Match[str]) -> str:
    unicode, octal, simple = match.groups()
    if unicode:
        return chr(int(unicode, 16))
    return chr(int(octal, 8)) if octal else _SIMPLE_ESCAPES.get(simple, simple)
