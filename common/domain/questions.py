"""The answered questions of an attempt: values of the user-defined type ``question``. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from common.domain import native_protocol

TextMaps = Sequence[Mapping[str, str]]
"""A ``list<frozen<map<text, text>>>``."""


class Item(msgspec.Struct, frozen=True, gc=False):
    """What a question is, whoever answers it. Made by :func:`to_item`, and shared by all answers to it."""

    id: str
    max_score: float
    type: str | None
    title: str | None
    params: TextMaps
    description: str | None
    encoded: tuple[bytes, bytes, bytes, bytes]
    """The fields above in the order of the type, cut where the fields of an answer go in."""
    parts: int
    """The maps in ``params`` and their entries."""


class Responses(msgspec.Struct, frozen=True, gc=False):
    """What a learner chose or wrote. Made by :func:`to_responses`; many choose the same."""

    maps: TextMaps
    encoded: bytes
    parts: int
    """The maps and their entries."""


class Question(msgspec.Struct, frozen=True, gc=False):
    """A question as a learner answered it at ``time_ms``; ``duration`` in seconds, None where it was not measured."""

    item: Item
    time_ms: int
    score: float
    resvalues: Responses
    duration: Decimal | None


def to_item(
    *,
    id: str,  # noqa: A002 - the field of the type
    max_score: float,
    type: str | None,  # noqa: A002 - the field of the type
    title: str | None,
    params: TextMaps,
    description: str | None,
) -> Item:
    """An Item with its encoding: most of a question's bytes, and the same for every learner."""
    encoded = (
        native_protocol.text(id),
        native_protocol.double(max_score),
        native_protocol.text(type) + native_protocol.text(title),
        native_protocol.text_maps(params) + native_protocol.text(description),
    )
    return Item(id, max_score, type, title, params, description, encoded, _parts(params))


def to_responses(maps: TextMaps) -> Responses:
    """Responses with their encoding."""
    return Responses(maps, native_protocol.text_maps(maps), _parts(maps))


def _parts(maps: TextMaps) -> int:
    return len(maps) + sum(map(len, maps))


def encode(questions: Sequence[Question]) -> bytes:
    """The column ``question``, a ``list<frozen<question>>``, as it goes into a statement."""
    return native_protocol.elements([_encode(question) for question in questions])


COLUMN = native_protocol.UserTypeEncoder(
    encode,
    {
        "id": "text",
        "assess_ts": "timestamp",
        "max_score": "double",
        "score": "double",
        "type": "text",
        "title": "text",
        "resvalues": "list<map<text, text>>",
        "params": "list<map<text, text>>",
        "description": "text",
        "duration": "decimal",
    },
)
"""How the column is encoded."""


def _encode(question: Question) -> bytes:
    """The fields in the order of ``COLUMN``."""
    item_id, max_score, type_and_title, params_and_description = question.item.encoded
    return native_protocol.sized(
        item_id
        + native_protocol.timestamp(question.time_ms)
        + max_score
        + native_protocol.double(question.score)
        + type_and_title
        + question.resvalues.encoded
        + params_and_description
        + native_protocol.decimal(question.duration)
    )
