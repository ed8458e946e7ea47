"""Decoding of events: bytes in, typed and checked values out. Pure.

An event that cannot be used raises :class:`BadEvent`, which becomes one message on the failed topic. Decoders are
msgspec structs that name only the fields that are used. msgspec checks the syntax of all other fields while it skips
them, but not their encoding; hence the explicit check in :func:`decode`.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import isfinite
from typing import TypeVar

import msgspec

MIN_TIME_MS = -62_135_510_400_000
"""2 January of the year 1 in UTC: the first day that Python's datetime can hold in every time zone."""

MAX_TIME_MS = 253_402_214_399_999
"""The last ms of 30 December 9999 in UTC. Python's datetime, and so every reader of the tables, ends one day later, and
time zones east of Greenwich reach that end earlier."""

MAX_KEY_BYTES = 65_535 - len("Course") - 3 * 3
"""Bytes that user id and course id, or the ids in the clustering columns of a row, may have together.

Cassandra refuses a partition key of more than 65,535 bytes, and the same for the clustering columns together. The key
with the least room is that of ``user_activity_agg``: it also has the activity type, and 3 bytes for each of its 3
parts.
"""

MAX_SHOWN = 200
"""Characters of a value that a reason quotes. The ids of real events are shorter."""

# A JSON number, and also with blanks around it, a plus sign or a bare point. No NaN, infinity, hex or 1_000.
_NUMERIC_TEXT = re.compile(r"\s*[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)

Event = TypeVar("Event")
Value = TypeVar("Value")


class BadEvent(ValueError):
    """A fault of the data: the event goes to the failed topic, and nothing else happens to it.

    ``reason`` is one sentence: what is wrong, and where. ``kind`` is a snake_case word that becomes a label of the
    metrics, so there are only a few.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Skip:
    """A valid event that is not for this job. ``kind`` is the label under which it is counted."""

    kind: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Why an event goes to the failed topic: BadEvent as a plain value.

    It also stands for what events need and cannot have, such as an answer of an API, so that it can be cached and
    refuse many events. With ``user_id`` it is only about that user's part of an event.
    """

    kind: str
    reason: str
    user_id: str | None = None


def usable(value: Value | Refused) -> Value:
    """The value. Raises BadEvent for the event that needs it if there is none."""
    if isinstance(value, Refused):
        raise BadEvent(value.kind, value.reason)
    return value


def value_or_refused(read: Callable[[], Value]) -> Value | Refused:
    """What ``read`` returns, or the BadEvent that it raises as a plain value."""
    try:
        return read()
    except BadEvent as bad:
        return Refused(bad.kind, bad.reason)


def results_in_place(checked: Iterable[object], results: Iterable[Value]) -> Iterator[Value | Refused]:
    """For each event, in order: itself if it is Refused, else the next of ``results``."""
    remaining = iter(results)
    for event in checked:
        yield event if isinstance(event, Refused) else next(remaining)


async def awaited_or_refused(awaitable: Awaitable[Value]) -> Value | Refused:
    """What ``awaitable`` returns, or the BadEvent that it raises as a plain value."""
    try:
        return await awaitable
    except BadEvent as bad:
        return Refused(bad.kind, bad.reason)


def decode(decoder: msgspec.json.Decoder[Event], value: bytes, path: str = "") -> Event:
    """Decodes a Kafka value, or the part of one at ``path``.

    Raises BadEvent: ``not_json`` for a value that is not JSON in UTF-8, ``not_an_object`` for JSON that is not an
    object, ``missing_field`` and ``wrong_type``, with the path of the field, for what the struct does not accept.
    """
    try:
        value.decode()
        return decoder.decode(value)
    except UnicodeDecodeError as error:
        raise BadEvent("not_json", f"event is not UTF-8: byte {error.start} ({error.reason})") from error
    except RecursionError as error:
        raise BadEvent("not_json", "event is not JSON that can be read: it is nested too deeply") from error
    except msgspec.ValidationError as error:
        raise _invalid(str(error), path) from error
    except msgspec.DecodeError as error:
        raise BadEvent("not_json", f"event is not JSON: {_in_sentence(str(error))}") from error


def _invalid(text: str, path: str) -> BadEvent:
    # msgspec names the path of everything but the root.
    problem, _, inner_path = text.partition(" - at ")
    where = f"${'.' if path else ''}{path}{inner_path.strip('`').removeprefix('$')}"
    if where == "$" and problem.startswith("Expected"):
        return BadEvent("not_an_object", f"event is not a JSON object: {_in_sentence(problem)}")
    kind = "missing_field" if "missing required field" in problem else "wrong_type"
    return BadEvent(kind, f"event has a wrong field: {_in_sentence(problem)} at '{where}'")


def _in_sentence(text: str) -> str:
    text = text.removeprefix("JSON is malformed: ")
    return text[:1].lower() + text[1:].replace("`", "'")


def shown(value: object) -> str:
    """A value as a reason quotes it: its repr, truncated to :data:`MAX_SHOWN` characters."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def require_text(path: str, value: str | None) -> str:
    """The text, unchanged. Raises BadEvent ``missing_field`` if it is missing or blank."""
    if value is None or not value.strip():
        raise BadEvent("missing_field", f"event has no {path}: a non-blank text is required")
    return value


def require_time_ms(path: str, value: int | float | None) -> int:
    """A time in ms since 1970. Raises BadEvent if it is missing, fractional or outside the years 1970 to 9999.

    A whole number written with a fraction (``1715657560002.0``) is accepted.
    """
    if value is None:
        raise BadEvent("missing_field", f"event has no {path}: a time in ms is required")
    if not 0 <= value <= MAX_TIME_MS or value != int(value):
        raise BadEvent("wrong_type", f"event has a wrong {path}: {shown(value)} is no time in ms between 1970 and 9999")
    return int(value)


def check_key_length(names: str, *ids: str) -> None:
    """Raises BadEvent ``too_large`` if the ids, which form a key of a table, exceed :data:`MAX_KEY_BYTES` together.

    ``names`` lists the ids for the reason: ``userId and courseId``.
    """
    length = len("".join(ids).encode())
    if length > MAX_KEY_BYTES:
        raise BadEvent("too_large", f"event has {names} of {length} bytes together: the limit is {MAX_KEY_BYTES}")


def growth_limit(event_bytes: int) -> int:
    """What an event of this size may become, in bytes: 16 times as much, and 1 MiB if that is more.

    A batch is limited in bytes, so this limits what a worker holds. Sunbird's events stay far below it. One with a long
    value that is copied for each of thousands of users or contents would take gigabytes.
    """
    return max(1024 * 1024, 16 * event_bytes)


def to_number(value: float | str) -> float | None:
    """A number, or numeric text such as ``"0.75"``, as a double. None for other text and for numbers out of range."""
    if isinstance(value, str) and not _NUMERIC_TEXT.fullmatch(value):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if isfinite(number) else None


def to_datetime(time_ms: int) -> datetime:
    """Milliseconds since 1970 as an aware datetime in UTC, exact to the ms."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def to_time_ms(moment: datetime) -> int:
    """An aware datetime as ms since 1970, exact to the ms."""
    return (moment - _EPOCH) // _MS
