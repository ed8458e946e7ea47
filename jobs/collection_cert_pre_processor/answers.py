"""What caches and APIs say about a user, a content or a course. Pure.

An answer has a status of 2xx or 4xx; faults of the world (rule G4) do not get here. A cache is a copy, so an entry that
cannot be used counts as none.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from common.domain.events import BadEvent, Skip

if TYPE_CHECKING:
    from common.servers.http_answers import Answer

User = Mapping[str, Any]
"""The fields of a user."""

BLOCKED = b"UOS_USRRED0006"
"""The code of a blocked account. APIs put it into ``params.err`` or ``params.status``, so any place counts."""

USER_FIELDS = "?organisations,roles,locations,declarations,externalIds"
"""The query of the user read API: what it is to return beside the user's own fields."""

UNKNOWN_CONTENT = (400, 404)


class ContentMetadata(msgspec.Struct):
    """The members of a content or a course that this job reads. They may be anything."""

    name: Any = None
    content_type_camel: Any = msgspec.field(default=None, name="contentType")
    content_type_lower: Any = msgspec.field(default=None, name="contenttype")


CONTENT_METADATA = msgspec.json.Decoder(ContentMetadata)


def user(user_id: str, answer: "Answer") -> User | Skip:
    """Rule C5: the user in an answer of the user read API, or the skip ``blocked_user``. Raises BadEvent
    ``user_api``."""
    if answer.status == 400 and BLOCKED in msgspec.json.encode(answer.body):
        return Skip("blocked_user")
    if not answer.is_success:
        raise BadEvent("user_api", f"user read API answered {answer.status} for user {user_id}")
    fields = answer.at("result", "response")
    if not isinstance(fields, dict) or not fields:
        raise BadEvent("user_api", f"answer of the user read API for user {user_id} has no result.response")
    return fields


def cached_course_name(cached: object) -> str | None:
    """Rule C6: the name of a course in the collection cache, ready for a message; None if the API has to be asked."""
    return _name(cached) if isinstance(cached, ContentMetadata) else None


def course_name(course_id: str, answer: "Answer") -> str:
    """Rule C6: the name in an answer of the content read API, ready for a message. Raises BadEvent ``content_api``."""
    course = _content(course_id, answer)
    if course is None:
        raise BadEvent("content_api", f"content read API does not know course {course_id}: it answered {answer.status}")
    name = _name(course)
    if name is None:
        raise BadEvent("content_api", f"answer of the content read API for course {course_id} has no name")
    return name


def cached_content_type(cached: object) -> str | None:
    """The type of a content in the content cache; None if the API has to be asked."""
    return (_content_type(cached) or None) if isinstance(cached, ContentMetadata) else None


def content_type(content_id: str, answer: "Answer") -> str | None:
    """The type of a content in an answer of the content read API: ``""`` if it has none, None if it is not known.

    Raises BadEvent ``content_api`` if the API refuses to answer.
    """
    content = _content(content_id, answer)
    return None if content is None else _content_type(content)


def _name(course: ContentMetadata) -> str | None:
    return resolve_escapes(course.name) if isinstance(course.name, str) and course.name.strip() else None


def _content_type(content: ContentMetadata) -> str:
    for value in (content.content_type_camel, content.content_type_lower):
        if isinstance(value, str) and value:
            return value
    return ""


def _content(content_id: str, answer: "Answer") -> ContentMetadata | None:
    # A refusal (401, 403) says nothing about the content. If it counted as "not known", a learner would lose the
    # certificate without a trace.
    if answer.status in UNKNOWN_CONTENT:
        return None
    if not answer.is_success:
        raise BadEvent("content_api", f"content read API answered {answer.status} for {content_id}")
    content = answer.at("result", "content")
    if content is None or answer.at("responseCode") not in (None, "OK"):
        return None
    if not isinstance(content, dict):
        raise BadEvent("content_api", f"answer of the content read API for {content_id} has a wrong result.content")
    return msgspec.convert(content, ContentMetadata)


_ESCAPE = re.compile(r"\\(?:u+([0-9a-fA-F]{4})|([0-3][0-7]{2}|[0-7]{1,2})|([btnfr\"'\\]))")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SIMPLE_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r"}


def resolve_escapes(text: str) -> str:
    r"""Rule C6: the text with the escapes of a Scala or Java literal resolved, and then without control characters.

    Escapes are ``\b \t \n \f \r \" \' \\``, octal ``\0`` to ``\377`` and Unicode ``\u00e9``. Any other character after
    a backslash, and a backslash at the end, stays as it is. Half a surrogate pair becomes U+FFFD.
    """
    if "\\" in text:
        text = _ESCAPE.sub(_resolved, text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return _CONTROL.sub("", text)


def _resolved(match: re.Match[str]) -> str:
    unicode, octal, simple = match.groups()
    if unicode:
        return chr(int(unicode, 16))
    return chr(int(octal, 8)) if octal else _SIMPLE_ESCAPES.get(simple, simple)
