"""Assessments: what a learner submits, saves as a draft, and reads back. Pure.

A submitted assessment has to become an event that the assessment aggregator accepts, so it is read here with that job's
own decoder: what it would refuse is answered as invalid, not as captured.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.domain import attempts
from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, contents_of
from common.domain.attempts import AssessmentEvent
from common.domain.events import BadEvent
from services.envelope import ApiError, invalid_fields

if TYPE_CHECKING:
    from common.domain.events import Refused

NO_USER = {"request.userId": "Invalid User-authenticated-Token Header"}
EMPTY = "Field cannot be empty"
INVALID = "Invalid Request"
CAPTURED = "Score Captured Successfully"
SAVED = "Saved Assessment Successfully"

Fields = dict[str, msgspec.Raw]


class AssessmentRequest(msgspec.Struct, rename="camel"):
    """One attempt. Other members are passed on as they are; ``userId`` becomes that of the token."""

    content_id: str
    attempt_id: str
    events: Annotated[list[dict[str, Any]], Meta(description="ASSESS events")]
    collection_id: Annotated[str | None, Meta(description="default: courseId, then contentId")] = None
    context_id: Annotated[str | None, Meta(description="default: batchId, then collectionId")] = None
    assessment_ts: Annotated[int | None, Meta(description="ms since 1970, default now")] = None


class AssessmentsRequest(msgspec.Struct, rename="camel"):
    """What is submitted or saved."""

    assessments: Annotated[list[AssessmentRequest], Meta(min_length=1)]


class ReadRequest(msgspec.Struct, rename="camel"):
    """What is asked for; without ``contentId`` all contents that have a score."""

    collection_id: str | None = None
    course_id: Annotated[str | None, Meta(description="the same as collectionId, which wins")] = None
    context_id: str | None = None
    batch_id: Annotated[str | None, Meta(description="the same as contextId, which wins")] = None
    content_id: str | list[str] | None = None


Results = dict[str, list[str]]
"""Texts by content id, one for each assessment of that content."""


class Attempt(msgspec.Struct, frozen=True):
    """An assessment that the aggregator accepts. ``message`` is its event on the topic, ``event`` what it says."""

    user_id: str
    content_id: str
    message: bytes
    event: AssessmentEvent


class Invalid(msgspec.Struct, frozen=True):
    """An assessment that goes to the failed topic."""

    user_id: str
    content_id: str
    message: bytes


class Incomplete(msgspec.Struct, frozen=True):
    """An assessment without an id that it needs; it goes nowhere."""

    content_id: str
    text: str


Assessment = Attempt | Invalid | Incomplete


class ContentScore(msgspec.Struct):
    """The best score of a content; what neither column holds is left out."""

    identifier: str
    score: float
    max_score: float | UnsetType = UNSET
    attempts_count: float | UnsetType = UNSET


class Scores(msgspec.Struct, rename="camel"):
    """The result of a read."""

    user_id: str
    collection_id: str
    context_id: str
    contents: list[ContentScore]


class ReadQuery(msgspec.Struct, frozen=True):
    """A checked read; ``content_ids`` None means all."""

    user_id: str
    collection_id: str
    context_id: str
    content_ids: Sequence[str] | None


class _Request(msgspec.Struct):
    assessments: list[Fields] | None = None


_REQUEST = msgspec.json.Decoder(_Request | None)
_READ = msgspec.json.Decoder(ReadRequest | None)
_EVENTS = msgspec.json.Decoder(list[Fields] | None)
_ACTOR = msgspec.json.Decoder(Fields)
_TEXT = msgspec.json.Decoder(str | None)


def parse(request: bytes | None, user_id: str | None, now_ms: int) -> list[Assessment]:
    """The assessments of a request, all of the user ``user_id``. Raises ApiError.

    ``now_ms`` is the time of an attempt that has none.
    """
    messages: dict[str, str] = {} if user_id else dict(NO_USER)
    try:
        decoded = None if request is None else _REQUEST.decode(request)
    except (msgspec.DecodeError, RecursionError):
        raise invalid_fields(messages | {"request.assessments": INVALID}) from None
    assessments = decoded.assessments if decoded else None
    if not assessments:
        messages["request.assessments"] = EMPTY
    if not user_id or not assessments:
        raise invalid_fields(messages)
    return [_assessment(fields, user_id, now_ms) for fields in assessments]


def _assessment(fields: Fields, user_id: str, now_ms: int) -> Assessment:
    own = fields | {"userId": _raw(user_id)}
    content_id = ""
    try:
        content_id = _text(fields, "contentId")
        attempt_id = _text(fields, "attemptId")
        empty = [name for name, value in (("contentId", content_id), ("attemptId", attempt_id)) if not value.strip()]
        if empty:
            text = msgspec.json.encode({f"request.{name}": EMPTY for name in empty}).decode()
            return Incomplete(content_id, text)
        collection_id = _text(fields, "collectionId") or _text(fields, "courseId") or content_id
        context_id = _text(fields, "contextId") or _text(fields, "batchId") or collection_id
        own |= {"courseId": _raw(collection_id), "batchId": _raw(context_id)}
        if bytes(own.get("assessmentTs", _raw(None))) == b"null":
            own["assessmentTs"] = _raw(now_ms)
        if "events" in own:
            own["events"] = _own_events(own["events"], user_id)
        message = msgspec.json.encode(own)
        event = attempts.decode(message, now_ms)
    except (BadEvent, msgspec.DecodeError, RecursionError):
        return Invalid(user_id, content_id, msgspec.json.encode(own))
    # To the aggregator an event without answers is a request to recompute; nothing would be captured.
    return Attempt(user_id, content_id, message, event) if event.attempt else Invalid(user_id, content_id, message)


def _own_events(raw: msgspec.Raw, user_id: str) -> msgspec.Raw:
    """The events with this user as the actor of each that has one."""
    decoded = _EVENTS.decode(raw)
    for event in decoded or ():
        if bytes(event.get("actor", b"")).startswith(b"{"):
            event["actor"] = _raw(_ACTOR.decode(event["actor"]) | {"id": _raw(user_id)})
    return _raw(decoded)


def _text(fields: Fields, name: str) -> str:
    """The text, empty if it is missing or null. Raises ValidationError for anything else."""
    return _TEXT.decode(fields.get(name, b"null")) or ""


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def check_content(attempt: Attempt, leaf_nodes: "Collection[str] | Refused") -> Attempt | Invalid:
    """The attempt, Invalid if its content is none of the collection's ``leaf_nodes``; no leaf nodes prove nothing.

    Invalid, too, where the leaf nodes cannot be used: the aggregator would refuse the attempt.
    """
    if not isinstance(leaf_nodes, Collection) or (leaf_nodes and attempt.content_id not in leaf_nodes):
        return Invalid(attempt.user_id, attempt.content_id, attempt.message)
    return attempt


def results(assessments: Sequence[Assessment], success: Mapping[int, str]) -> Results:
    """The texts by content. ``success`` has the text of those that went well, by their place."""
    texts: Results = {}
    for place, assessment in enumerate(assessments):
        refusal = assessment.text if isinstance(assessment, Incomplete) else INVALID
        texts.setdefault(assessment.content_id, []).append(success.get(place, refusal))
    return texts


def score_hash(attempt: Attempt) -> tuple[str, dict[str, str]]:
    """Key and fields of the Redis hash that holds the score of the latest submitted attempt."""
    event = attempt.event
    assert event.attempt is not None
    user_id, course_id, batch_id = event.enrolment
    return (
        f"{user_id}:{event.content_id}:{course_id}:{batch_id}",
        {"score": str(event.attempt.total_score), "maxScore": str(event.attempt.total_max_score)},
    )


def parse_read(request: bytes | None, user_id: str | None) -> ReadQuery:
    """Checks a read. Ids default as everywhere in the viewer: context to collection, collection to content.

    Raises ApiError.
    """
    if not user_id:
        raise invalid_fields(NO_USER)
    try:
        asked = (None if request is None else _READ.decode(request)) or ReadRequest()
    except (msgspec.DecodeError, RecursionError) as error:
        raise _wrong_field(error) from None
    one_content = asked.content_id if isinstance(asked.content_id, str) else None
    collection_id = asked.collection_id or asked.course_id or one_content
    if not collection_id:
        raise invalid_fields({"request.collectionId": EMPTY})
    content_ids = [one_content] if one_content else asked.content_id
    return ReadQuery(
        user_id,
        collection_id,
        asked.context_id or asked.batch_id or collection_id,
        tuple(dict.fromkeys(content_ids)) if content_ids else None,
    )


def _wrong_field(error: Exception) -> ApiError:
    field = str(error).partition("`$.")[2].partition("`")[0].partition("[")[0]
    return invalid_fields({f"request.{field}" if field else "request": INVALID})


def shape(query: ReadQuery, aggregates: Mapping[str, float]) -> Scores:
    """The best score of each content that has one, in the order asked for, else by id."""
    scores = contents_of(SCORE, aggregates)
    max_scores = contents_of(MAX_SCORE, aggregates)
    counts = contents_of(ATTEMPTS_COUNT, aggregates)
    content_ids = sorted(scores) if query.content_ids is None else query.content_ids
    return Scores(
        query.user_id,
        query.collection_id,
        query.context_id,
        [
            ContentScore(
                content_id, scores[content_id], max_scores.get(content_id, UNSET), counts.get(content_id, UNSET)
            )
            for content_id in content_ids
            if content_id in scores
        ],
    )
