"""Attempts and recompute requests as they come from ``telemetry.assess``: bytes in, checked values out. Pure.

Steps are numbered as in the job's description.
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from math import fsum

import msgspec

from common.domain import events
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent, check_key_length, require_text, require_time_ms, shown, to_number
from common.domain.questions import Item, Question, Responses, TextMaps, to_item, to_responses

MAX_CACHED_ITEMS = 4_096
MAX_CACHED_ITEM_BYTES = 8_192
"""Items that are converted once and kept, and the JSON of the largest among them: 8 KB of JSON become some 26 KB in
memory, 0.5 KB become 3, so a worker holds 12 MB as a rule and 110 MB at most. One that is not kept costs 8 us."""

MAX_CACHED_RESPONSES = 16_384
MAX_CACHED_RESPONSES_BYTES = 512
"""Responses that are converted once and kept, and the JSON of the largest: some 1 KB in memory each, 16 MB in all. Of
a choice there are few; what a learner writes is seldom seen again, and costs 1 us."""


class SubmittedAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt as its event holds it. The totals are sums over ``questions``, which holds each question once."""

    attempt_id: str
    questions: tuple[Question, ...]
    total_score: float
    total_max_score: float


class AssessmentEvent(msgspec.Struct, frozen=True, gc=False):
    """One event. ``time_ms`` is its ``assessmentTs``; ``attempt`` None makes it a recompute request.

    A recompute request needs no ``assessmentTs``: without one its time is the Kafka timestamp.
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
    params: list[dict[str, msgspec.Raw] | None] | None = None


class _Edata(msgspec.Struct):
    item: msgspec.Raw = msgspec.Raw(b"null")
    score: float | str | None = None
    duration: Decimal | None = None
    resvalues: msgspec.Raw = msgspec.Raw(b"null")


class _Answer(msgspec.Struct):
    ets: int | float | None = None
    edata: _Edata | None = None


class _Event(msgspec.Struct, rename="camel"):
    user_id: str | None = None
    course_id: str | None = None
    batch_id: str | None = None
    content_id: str | None = None
    attempt_id: str | None = None
    assessment_ts: int | float | None = None
    events: list[_Answer] | None = None


_EVENT = msgspec.json.Decoder(_Event)
_ITEM = msgspec.json.Decoder(_Item | None)
_RESPONSES = msgspec.json.Decoder(list[dict[str, msgspec.Raw] | None] | None)
_TEXT = msgspec.json.Decoder(str)
_NO_EDATA = _Edata()
_NO_ITEM = _Item()


def decode(value: bytes, timestamp_ms: int) -> AssessmentEvent:
    """Decodes and checks one Kafka value; ``timestamp_ms`` is its Kafka timestamp.

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
        return AssessmentEvent(enrolment, content_id, require_time_ms("assessmentTs", event.assessment_ts), None)
    attempt_id = require_text("attemptId", event.attempt_id)
    _check_key_lengths(enrolment, content_id, attempt_id)
    time_ms = require_time_ms("assessmentTs", event.assessment_ts)
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
    """Step 2: per question the latest answer, and of two at the same time the later in the list."""
    latest: dict[str, Question] = {}
    for index, answer in enumerate(answers):
        try:
            question = _question(answer)
        except BadEvent as error:
            raise BadEvent(error.kind, f"{error.reason}, in events[{index}]") from error
        other = latest.get(question.item.id)
        if other is None or question.time_ms >= other.time_ms:
            latest[question.item.id] = question
    return tuple(latest.values())


def _total(path: str, scores: Sequence[float]) -> float:
    """Step 4: the sum, rounded once, so that neither the order of the answers nor their number shows in its last digit.

    Ten answers worth 0.1 are 1.0, where adding them up one by one gives 0.9999999999999999 and no learner ever
    reaches 100 percent. A sum below 0 is refused, since a best score is never below 0; a single answer may cost points.
    """
    try:
        total = fsum(scores)
    except OverflowError as error:
        raise BadEvent("wrong_type", f"event has a wrong {path}: the sum over its questions is too large") from error
    if total < 0:
        raise BadEvent("wrong_type", f"event has a wrong {path}: the sum over its questions is {total}, below 0")
    return total


def _question(answer: _Answer) -> Question:
    edata = answer.edata or _NO_EDATA
    raw_item = bytes(edata.item)
    raw_responses = bytes(edata.resvalues)
    use_cached = len(raw_responses) <= MAX_CACHED_RESPONSES_BYTES
    return Question(
        item=_cached_item(raw_item) if len(raw_item) <= MAX_CACHED_ITEM_BYTES else _item(raw_item),
        time_ms=require_time_ms("ets", answer.ets),
        score=_number("edata.score", edata.score),
        resvalues=_cached_responses(raw_responses) if use_cached else _responses(raw_responses),
        duration=_duration("edata.duration", edata.duration),
    )


def _item(raw: bytes) -> Item:
    item = events.decode(_ITEM, raw, "edata.item") or _NO_ITEM
    return to_item(
        id=require_text("edata.item.id", item.id),
        max_score=_number("edata.item.maxscore", item.maxscore),
        type=item.type,
        title=item.title,
        params=_texts(item.params),
        description=item.desc,
    )


def _responses(raw: bytes) -> Responses:
    return to_responses(_texts(events.decode(_RESPONSES, raw, "edata.resvalues")))


_cached_item = lru_cache(MAX_CACHED_ITEMS)(_item)
_cached_responses = lru_cache(MAX_CACHED_RESPONSES)(_responses)


def _number(path: str, value: float | str | None) -> float:
    """Step 4: a number or numeric text; missing is 0."""
    if value is None:
        return 0.0
    if isinstance(value, float):
        return value
    number = to_number(value)
    if number is None:
        raise BadEvent("wrong_type", f"event has a wrong {path}: {shown(value)} is no number")
    return number


def _duration(path: str, value: Decimal | None) -> Decimal | None:
    """As exact as it came. What no double could hold would be a giant of a number to every reader of the table."""
    if value is None or (value.is_finite() and -324 <= value.adjusted() <= 308 and len(str(value)) <= 400):
        return value
    raise BadEvent("wrong_type", f"event has a wrong {path}: {shown(str(value))} is no number of seconds")


def _texts(maps: Sequence[dict[str, msgspec.Raw] | None] | None) -> TextMaps:
    """Step 5: text stays text, null is left out, all else becomes its JSON text as given."""
    return tuple([_text_map(entries) for entries in maps or () if entries is not None])


def _text_map(entries: dict[str, msgspec.Raw]) -> dict[str, str]:
    texts = {}
    for key, raw in entries.items():
        value = bytes(raw)
        if value.startswith(b'"'):
            texts[key] = _TEXT.decode(value)
        elif value != b"null":
            texts[key] = value.decode()
    return texts
