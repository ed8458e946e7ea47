"""Decodes the events of ``telemetry.assess``, attempts and recompute requests, and checks them. Pure.

The rules A1 to A9 are those of docs/jobs.md.
"""

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from math import fsum

import msgspec

from common.domain import events
from common.domain.conversion_cache import ConversionCache
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent, check_key_length, require_text, require_time_ms, shown, to_number
from common.domain.questions import Item, Question, Responses, TextMaps, to_item, to_responses

MAX_PARTS = 10_000
"""How many maps and entries the responses and params of an attempt may have together. A map with one entry takes about
260 bytes of memory, and ``[1,1,1...]`` has one for every two bytes. An attempt at 100 questions with 10 options each
has about 2,000."""

ITEM_CACHE_BYTES, MAX_CACHED_ITEM_BYTES = 24 * 1024 * 1024, 8_192
"""The memory for the converted items that a worker caches, and the largest JSON that it caches. There is room for 3,700
items of 700 bytes with 4 options, which take 14 MB. Converting an item takes 8 us."""

RESPONSES_CACHE_BYTES, MAX_CACHED_RESPONSES_BYTES = 8 * 1024 * 1024, 512
"""The memory for the converted responses that a worker caches, and the largest JSON that it caches. There is room for
5,700 of 50 bytes. A multiple-choice question has few different responses. Free text rarely repeats, and takes 1 us to
convert."""


class SubmittedAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt as submitted. The totals are sums over ``questions``, which holds each question once."""

    attempt_id: str
    questions: tuple[Question, ...]
    total_score: float
    total_max_score: float


class AssessmentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event. ``time_ms`` is its ``assessmentTs``. With ``attempt`` None it is a recompute request.

    A recompute request may lack ``assessmentTs``. Its time is then the Kafka timestamp.
    """

    enrolment: EnrolmentKey
    content_id: str
    time_ms: int
    attempt: SubmittedAttempt | None


class _Item(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    title: str | None = None
    desc: str | None = None
    maxscore: float | str | None = None
    params: msgspec.Raw = msgspec.Raw(b"null")


class _Edata(msgspec.Struct):
    item: msgspec.Raw = msgspec.Raw(b"null")
    score: float | str | None = None
    duration: Decimal | None = None
    resvalues: msgspec.Raw = msgspec.Raw(b"null")


class _Answer(msgspec.Struct):
    ets: int | float | str | None = None
    edata: _Edata | None = None


class _Event(msgspec.Struct, rename="camel"):
    user_id: str | None = None
    course_id: str | None = None
    batch_id: str | None = None
    content_id: str | None = None
    attempt_id: str | None = None
    assessment_ts: int | float | str | None = None
    events: list[_Answer] | None = None


_EVENT = msgspec.json.Decoder(_Event)
_ITEM = msgspec.json.Decoder(_Item | None)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[\]{},]')
"""Of a JSON text: a string as a whole, or a mark of its structure. The quantifiers are possessive: to go back into a
string, the expression would keep 115 bytes for each of its bytes."""
_NO_EDATA = _Edata()
_NO_ITEM = _Item()


def decode(value: bytes, timestamp_ms: int) -> AssessmentEvent:
    """Decodes and checks one Kafka value, whose Kafka timestamp is ``timestamp_ms``.

    Raises BadEvent ``not_json``, ``not_an_object``, ``missing_field``, ``wrong_type`` or ``too_large``.
    """
    event = events.decode(_EVENT, value)
    enrolment = EnrolmentKey(
        require_text("userId", event.user_id),
        require_text("courseId", event.course_id),
        require_text("batchId", event.batch_id),
    )
    content_id = require_text("contentId", event.content_id)
    if not event.events:
        _check_key_lengths(enrolment, content_id, "")
        if event.assessment_ts is None:
            return AssessmentEvent(enrolment, content_id, require_time_ms("Kafka timestamp", timestamp_ms), None)
        return AssessmentEvent(enrolment, content_id, _time_ms("assessmentTs", event.assessment_ts), None)
    attempt_id = require_text("attemptId", event.attempt_id)
    _check_key_lengths(enrolment, content_id, attempt_id)
    time_ms = _time_ms("assessmentTs", event.assessment_ts)
    return AssessmentEvent(enrolment, content_id, time_ms, _attempt(attempt_id, event.events))


def _check_key_lengths(enrolment: EnrolmentKey, content_id: str, attempt_id: str) -> None:
    user_id, course_id, batch_id = enrolment
    check_key_length("userId and courseId", user_id, course_id)
    check_key_length("batchId, contentId and attemptId", batch_id, content_id, attempt_id)


def _attempt(attempt_id: str, answers: Sequence[_Answer]) -> SubmittedAttempt:
    unique = _unique_questions(answers)
    return SubmittedAttempt(
        attempt_id,
        unique,
        _total("edata.score", [question.score for question in unique]),
        _total("edata.item.maxscore", [question.item.max_score for question in unique]),
    )


def _unique_questions(answers: Sequence[_Answer]) -> tuple[Question, ...]:
    """A3: the latest answer to each question. Of two with the same time, the one later in the list."""
    latest: dict[str, Question] = {}
    parts = 0
    for index, answer in enumerate(answers):
        try:
            question = _question(answer)
        except BadEvent as error:
            raise BadEvent(error.kind, f"{error.reason}, in events[{index}]") from error
        parts += question.resvalues.parts + question.item.parts
        if parts > MAX_PARTS:
            raise _too_many_parts()
        other = latest.get(question.item.id)
        if other is None or question.time_ms >= other.time_ms:
            latest[question.item.id] = question
    return tuple(latest.values())


def _too_many_parts() -> BadEvent:
    return BadEvent("too_large", f"event has more than {MAX_PARTS} maps and entries in its responses and params")


def _total(path: str, scores: Sequence[float]) -> float:
    """A5: the sum, rounded once.

    Ten answers worth 0.1 make exactly 1.0. Adding them one by one would give 0.9999999999999999, and the learner would
    never reach 100 percent. Negative marking can make a total negative, which is a total like any other.
    """
    try:
        return fsum(scores)
    except OverflowError as error:
        raise BadEvent("wrong_type", f"event has a wrong {path}: the sum over its questions is too large") from error


def _question(answer: _Answer) -> Question:
    edata = answer.edata or _NO_EDATA
    raw_item = bytes(edata.item)
    raw_responses = bytes(edata.resvalues)
    return Question(
        item=_ITEMS[raw_item] if len(raw_item) <= MAX_CACHED_ITEM_BYTES else _item(raw_item),
        time_ms=_time_ms("ets", answer.ets),
        score=_number("edata.score", edata.score),
        resvalues=(
            _RESPONSES[raw_responses] if len(raw_responses) <= MAX_CACHED_RESPONSES_BYTES else _responses(raw_responses)
        ),
        duration=_duration("edata.duration", edata.duration),
    )


def _item(raw: bytes) -> Item:
    item = events.decode(_ITEM, raw, "edata.item") or _NO_ITEM
    return to_item(
        id=require_text("edata.item.id", item.id),
        max_score=_number("edata.item.maxscore", item.maxscore),
        type=item.type,
        title=item.title,
        params=_text_maps(bytes(item.params), "edata.item.params"),
        description=item.desc,
    )


def _responses(raw: bytes) -> Responses:
    return to_responses(_text_maps(raw, "edata.resvalues"))


_ITEMS = ConversionCache(_item, ITEM_CACHE_BYTES)
_RESPONSES = ConversionCache(_responses, RESPONSES_CACHE_BYTES)


def _number(path: str, value: float | str | None) -> float:
    """A5: a number or numeric text. A missing one is 0."""
    if value is None:
        return 0.0
    if isinstance(value, float):
        return value
    number = to_number(value)
    if number is None:
        raise BadEvent("wrong_type", f"event has a wrong {path}: {shown(value)} is no number")
    return number


def _time_ms(path: str, value: int | float | str | None) -> int:
    """A1: a time in ms as a number or as numeric text, which some producers send."""
    if not isinstance(value, str):
        return require_time_ms(path, value)
    number = to_number(value)
    if number is None:
        raise BadEvent("wrong_type", f"event has a wrong {path}: {shown(value)} is no time in ms")
    return require_time_ms(path, number)


def _duration(path: str, value: Decimal | None) -> Decimal | None:
    """The exact value. One that no double can hold would break the readers of the table."""
    if value is None or (value.is_finite() and -324 <= value.adjusted() <= 308 and len(str(value)) <= 400):
        return value
    raise BadEvent("wrong_type", f"event has a wrong {path}: {shown(str(value))} is no number of seconds")


def _text_maps(raw: bytes, path: str) -> TextMaps:
    """A7: ``resvalues`` or ``params``, in whatever form a player sends them.

    Nested lists are flattened: for a question with several choices the QuML player sends ``[[{...}, {...}]]``. An
    element that is no object becomes ``{"value": <its JSON text>}``. ``null`` is left out.
    """
    elements = events.decode(_LIST, raw, path) if raw.startswith(b"[") else [raw]
    maps = []
    for element in elements:
        value = bytes(element)
        for inner in _flattened(value) if value.startswith(b"[") else (value,):
            if inner.startswith(b"{"):
                maps.append(_text_map(events.decode(_OBJECT, inner, path)))
            elif inner != b"null":
                maps.append({"value": inner.decode()})
            if len(maps) > MAX_PARTS:
                raise _too_many_parts()
    return tuple(maps)


def _flattened(json: bytes) -> Iterator[bytes]:
    """The JSON of the elements of a list and of the lists inside it, in their order, in linear time.

    Decoding level by level would take seconds for a list that somebody nested hundreds of times.
    """
    start = objects = 0
    for token in _STRUCTURE.finditer(json):
        mark = token[0]
        if mark == b"{":
            objects += 1
        elif mark == b"}":
            objects -= 1
        elif objects == 0 and mark in (b"[", b"]", b","):
            if element := json[start : token.start()].strip():
                yield element
            start = token.end()


def _text_map(entries: dict[str, msgspec.Raw]) -> dict[str, str]:
    """A7: text stays text, null is left out, anything else becomes its JSON text."""
    texts = {}
    for key, raw in entries.items():
        value = bytes(raw)
        if value.startswith(b'"'):
            texts[key] = _TEXT.decode(value)
        elif value != b"null":
            texts[key] = value.decode()
    return texts
