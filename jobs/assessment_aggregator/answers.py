"""What the content cache and the content read API say about a content: its number of questions. Pure."""

from typing import TYPE_CHECKING, Any

import msgspec

from common.domain.events import BadEvent, shown, to_number

if TYPE_CHECKING:
    from common.servers.http_answers import Answer


class ContentMetadata(msgspec.Struct):
    """The members of a content that rule A4 needs. The number of questions has three spellings and may be anything."""

    total_questions_camel: Any = msgspec.field(default=None, name="totalQuestions")
    total_questions_lower: Any = msgspec.field(default=None, name="totalquestions")
    total_questions_snake: Any = msgspec.field(default=None, name="total_questions")


CONTENT_METADATA = msgspec.json.Decoder(ContentMetadata)


def cached_total_questions(cached: object) -> float | None:
    """The number of questions in an entry of the content cache; None if the API has to be asked.

    A cache is a copy. An entry that is not ContentMetadata counts as none.
    """
    return _total_questions(cached) if isinstance(cached, ContentMetadata) else None


def total_questions(content_id: str, answer: "Answer") -> float | None:
    """The number of questions in an answer of the content read API; None if it has none: then nothing is checked.

    Raises BadEvent ``unknown_content`` if the API does not know the content.
    """
    code = answer.body.get("responseCode")
    if not answer.is_success or code not in (None, "OK"):
        raise BadEvent(
            "unknown_content",
            f"content read API answered {answer.status} {shown(code)} for content {shown(content_id)}",
        )
    content = answer.at("result", "content")
    return _total_questions(msgspec.convert(content, ContentMetadata)) if isinstance(content, dict) else None


def _total_questions(content: ContentMetadata) -> float | None:
    for value in (content.total_questions_camel, content.total_questions_lower, content.total_questions_snake):
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = to_number(value)
            if number is not None and number > 0:
                return number
    return None
