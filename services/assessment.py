"""Submit and save of assessments: what a learner sends becomes events for the assessment aggregator. Pure.

Each attempt is decoded with that job's own decoder. What the job would refuse is answered as invalid, not as captured.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.domain import attempts, events
from common.domain.attempts import AssessmentEvent
from common.domain.events import BadEvent, Refused, shown, to_number, to_time_ms
from common.domain.messages import deterministic_uuid
from services.envelope import EMPTY, INVALID, ApiError, invalid_fields

INVALID_ASSESSMENT = "Invalid Request"
CAPTURED = "Score Captured Successfully"
SAVED = "Saved Assessment Successfully"

Fields = dict[str, msgspec.Raw]

_IdOfCollection = Annotated[str | None, Meta(description="default: courseId, then contentId")]
_IdOfContext = Annotated[str | None, Meta(description="default: batchId, then collectionId")]
_AssessmentTs = Annotated[
    int | float | str | None,
    Meta(description="ms since 1970 as a number or as text, or a time in ISO 8601; default: now"),
]
_Id = Annotated[str, Meta(min_length=1, pattern=r"\S")]


class AssessItem(msgspec.Struct, rename="lower"):
    """The question of an ASSESS event."""

    id: _Id
    maxscore: float | str | None = None
    type: str | None = None
    title: str | None = None
    desc: str | None = None
    params: Annotated[Any, Meta(description="a list of objects; nested lists are flattened")] = None


class AssessEdata(msgspec.Struct, rename="lower"):
    """The answer in an ASSESS event."""

    item: AssessItem
    score: float | str | None = None
    duration: Annotated[float | None, Meta(description="seconds")] = None
    resvalues: Annotated[Any, Meta(description="a list of objects; nested lists are flattened")] = None


class AssessEvent(msgspec.Struct):
    """An ASSESS event of Sunbird's telemetry. Other members are passed on unchanged."""

    ets: Annotated[int | str, Meta(description="ms since 1970")]
    edata: AssessEdata
    eid: str | UnsetType = UNSET


class AssessmentRequest(msgspec.Struct, rename="camel"):
    """One attempt. Other members are passed on unchanged. ``userId`` is replaced by the user of the token."""

    content_id: _Id
    attempt_id: _Id
    events: Annotated[list[AssessEvent], Meta(min_length=1)]
    collection_id: _IdOfCollection = None
    context_id: _IdOfContext = None
    assessment_ts: _AssessmentTs = None


class AssessmentsRequest(msgspec.Struct, rename="camel"):
    """Several attempts."""

    assessments: Annotated[list[AssessmentRequest], Meta(min_length=1)]


class FlatAssessmentRequest(msgspec.Struct, rename="camel"):
    """One attempt whose ``assessments`` are its ASSESS events. ``events`` is accepted in place of ``assessments``."""

    content_id: _Id
    assessments: Annotated[list[AssessEvent], Meta(min_length=1)]
    attempt_id: Annotated[str | None, Meta(description="default: an id derived from the attempt")] = None
    collection_id: _IdOfCollection = None
    context_id: _IdOfContext = None
    assessment_ts: _AssessmentTs = None


Results = dict[str, list[str]]
"""Texts by content id, one for each assessment of that content."""


class AcceptedAssessment(msgspec.Struct, frozen=True):
    """An assessment that the aggregator accepts. ``message`` is the Kafka value, ``event`` is what it decodes to."""

    user_id: str
    content_id: str
    message: bytes
    event: AssessmentEvent


class RefusedAssessment(msgspec.Struct, frozen=True):
    """An assessment that the aggregator would refuse. One that was submitted goes to the failed topic."""

    user_id: str
    content_id: str
    message: bytes
    refusal: Refused


class IncompleteAssessment(msgspec.Struct, frozen=True):
    """An assessment without a content id or attempt id. It goes nowhere; ``text`` is the client's answer."""

    content_id: str
    text: str


Assessment = AcceptedAssessment | RefusedAssessment | IncompleteAssessment


class _Shape(msgspec.Struct, rename="camel"):
    """What tells an attempt from an ASSESS event."""

    edata: msgspec.Raw | UnsetType = UNSET
    content_id: msgspec.Raw | UnsetType = UNSET
    attempt_id: msgspec.Raw | UnsetType = UNSET
    events: msgspec.Raw | UnsetType = UNSET

    @property
    def is_attempt(self) -> bool:
        return not (self.content_id is UNSET and self.attempt_id is UNSET and self.events is UNSET)


_MEMBERS = msgspec.json.Decoder(Fields | None)
_LIST = msgspec.json.Decoder(list[msgspec.Raw] | None)
_ATTEMPTS = msgspec.json.Decoder(list[Fields])
_SHAPES = msgspec.json.Decoder(list[_Shape])
_EVENTS = msgspec.json.Decoder(list[Fields] | None)
_ACTOR = msgspec.json.Decoder(Fields)
_TEXT = msgspec.json.Decoder(str | None)
_NULL = msgspec.Raw(b"null")


def parse(request: bytes | None, user_id: str, now_ms: int, max_assessments: int) -> list[Assessment]:
    """The assessments of a request, all of them of the user ``user_id``.

    ``request`` is the JSON of the member ``request``, None if there is none. An attempt without a time gets ``now_ms``.
    Raises ApiError 400 where the request has neither of the two shapes, or more than ``max_assessments`` attempts.
    """
    try:
        return [_assessment(fields, user_id, now_ms) for fields in _attempts(request, user_id, max_assessments)]
    except (msgspec.DecodeError, RecursionError):
        raise invalid_fields({"request.assessments": INVALID}) from None


def _attempts(request: bytes | None, user_id: str, max_assessments: int) -> list[Fields]:
    """The attempts of a request of either shape: a list of attempts, or one attempt with its ASSESS events."""
    members = (None if request is None else _MEMBERS.decode(request)) or {}
    name = "assessments" if _LIST.decode(members.get("assessments", _NULL)) else "events"
    elements = members.get(name, _NULL)
    count = len(_LIST.decode(elements) or ())
    if not count:
        raise invalid_fields({"request.assessments": EMPTY})
    if count > max_assessments and "contentId" not in members:
        raise _too_many(max_assessments)
    shapes = _SHAPES.decode(elements)
    if name == "assessments" and any(shape.is_attempt for shape in shapes):
        if count > max_assessments:
            raise _too_many(max_assessments)
        return _ATTEMPTS.decode(elements)
    if all(shape.edata is UNSET for shape in shapes):
        raise invalid_fields({"request.assessments": INVALID})
    if not (_TEXT.decode(members.get("contentId", _NULL)) or "").strip():
        raise invalid_fields({"request.contentId": EMPTY})
    return [_from_flat(members, elements, user_id)]


def _too_many(max_assessments: int) -> ApiError:
    return invalid_fields({"request.assessments": f"No more than {max_assessments} assessments are taken at a time"})


def _from_flat(members: Fields, elements: msgspec.Raw, user_id: str) -> Fields:
    """The attempt of a flat request.

    One without an attempt id gets one that depends on its user, content, time and events only, so that a request which
    is sent again counts once.
    """
    fields = {name: value for name, value in members.items() if name != "assessments"} | {"events": elements}
    if bytes(fields.get("attemptId", _NULL)) == b"null":
        names = ("collectionId", "courseId", "contextId", "batchId", "contentId", "assessmentTs", "events")
        fields["attemptId"] = _raw(
            deterministic_uuid(user_id, *(bytes(fields.get(name, _NULL)).decode() for name in names))
        )
    return fields


def _assessment(fields: Fields, user_id: str, now_ms: int) -> Assessment:
    own = fields | {"userId": _raw(user_id)}
    content_id = ""
    try:
        content_id = _text(fields, "contentId")
        attempt_id = _text(fields, "attemptId")
        empty = [name for name, value in (("contentId", content_id), ("attemptId", attempt_id)) if not value.strip()]
        if empty:
            text = msgspec.json.encode({f"request.{name}": EMPTY for name in empty}).decode()
            return IncompleteAssessment(content_id, text)
        collection_id = _text(fields, "collectionId") or _text(fields, "courseId") or content_id
        context_id = _text(fields, "contextId") or _text(fields, "batchId") or collection_id
        own |= {"courseId": _raw(collection_id), "batchId": _raw(context_id)}
        own["assessmentTs"] = _time(own.get("assessmentTs", _NULL), now_ms)
        if "events" in own:
            own["events"] = _own_events(own["events"], user_id)
        message = msgspec.json.encode(own)
        event = attempts.decode(message, now_ms)
        if event.attempt is None:
            # The aggregator would take it for a recompute request, and nothing would be captured.
            raise BadEvent("missing_field", "event has no events: an attempt needs at least one answer")
    except BadEvent as error:
        refusal = Refused(error.kind, error.reason)
        return RefusedAssessment(user_id, content_id, msgspec.json.encode(own), refusal)
    return AcceptedAssessment(user_id, content_id, message, event)


def _time(raw: msgspec.Raw, now_ms: int) -> msgspec.Raw:
    """``assessmentTs`` as the aggregator takes it: now for null, ms for ISO 8601, anything else unchanged."""
    value = bytes(raw)
    if value == b"null":
        return _raw(now_ms)
    if not value.startswith(b'"'):
        return raw
    text = _TEXT.decode(value) or ""
    if to_number(text) is not None:
        return raw
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return raw
    return _raw(to_time_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC)))


def _own_events(raw: msgspec.Raw, user_id: str) -> msgspec.Raw:
    """The events, with this user as the actor of each event that has one."""
    decoded = events.decode(_EVENTS, bytes(raw), "events")
    for event in decoded or ():
        if bytes(event.get("actor", b"")).startswith(b"{"):
            event["actor"] = _raw(events.decode(_ACTOR, bytes(event["actor"]), "actor") | {"id": _raw(user_id)})
    return _raw(decoded)


def _text(fields: Fields, name: str) -> str:
    """The text, empty if it is missing or null. Raises BadEvent for anything else."""
    return events.decode(_TEXT, bytes(fields.get(name, _NULL)), name) or ""


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def check_content(
    accepted: AcceptedAssessment, leaf_nodes: Collection[str] | Refused
) -> AcceptedAssessment | RefusedAssessment:
    """The assessment, refused if its content is not among the ``leaf_nodes`` of the collection.

    Without leaf nodes every content is accepted. Leaf nodes that cannot be read refuse it, as the aggregator does.
    """
    if isinstance(leaf_nodes, Refused):
        refusal = leaf_nodes
    elif leaf_nodes and accepted.content_id not in leaf_nodes:
        course_id = accepted.event.enrolment.course_id
        reason = f"content {shown(accepted.content_id)} is not part of course {shown(course_id)}"
        refusal = Refused("content_not_in_course", reason)
    else:
        return accepted
    return RefusedAssessment(accepted.user_id, accepted.content_id, accepted.message, refusal)


def results(assessments: Sequence[Assessment], success: Mapping[int, str]) -> Results:
    """The texts by content id. ``success`` has the texts of the assessments that went well, by their index."""
    texts: Results = {}
    for index, assessment in enumerate(assessments):
        refusal = assessment.text if isinstance(assessment, IncompleteAssessment) else INVALID_ASSESSMENT
        texts.setdefault(assessment.content_id, []).append(success.get(index, refusal))
    return texts
