"""Content state read: how far a learner is in the contents of a batch, with scores if they are asked for. Pure."""

import struct
from collections.abc import Collection, Mapping, Sequence
from datetime import tzinfo
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, metric_key
from services.envelope import convert, course_time, missing

_FLOAT = struct.Struct(">f")


class ContentStateRequest(msgspec.Struct, frozen=True, rename="camel"):
    """What is asked for. On the public route ``userId`` is that of the token, whatever stands here."""

    course_ids: Annotated[list[str] | None, Meta(description="only its first, without the two others")] = None
    content_ids: Annotated[list[str] | None, Meta(description="none: all contents of the learner in the batch")] = None
    user_id: str | None = None
    course_id: str | None = None
    collection_id: Annotated[str | None, Meta(description="the same as courseId, which wins")] = None
    batch_id: str | None = None
    fields: Annotated[list[str] | None, Meta(description='"score" switches scores on')] = None


class ContentStateQuery(NamedTuple):
    """A checked request; no ``content_ids`` means all."""

    user_id: str
    course_id: str
    batch_id: str
    content_ids: Collection[str]
    with_score: bool


class Consumption(NamedTuple):
    """A row of ``user_content_consumption``, times in ms."""

    content_id: str
    course_id: str
    batch_id: str
    status: int | None
    progress: int | None
    view_count: int | None
    completed_count: int | None
    completion_percentage: float | None
    progressdetails: str | None
    last_access_time_ms: int | None
    last_completed_time_ms: int | None


class Attempt(NamedTuple):
    """A row of ``assessment_aggregator``. Without a total it is a draft."""

    content_id: str
    attempt_id: str
    last_attempted_on_ms: int | None
    total_score: float | None
    total_max_score: float | None


class AttemptScore(msgspec.Struct, rename="camel"):
    """An attempt as clients know it; ``lastAttemptedOn`` in ms."""

    attempt_id: str
    last_attempted_on: int | None
    total_score: float
    total_max_score: float | None


class ContentState(msgspec.Struct, rename="camel"):
    """One content; what is unset in the table is null here."""

    content_id: str
    course_id: str
    collection_id: str
    batch_id: str
    status: int | None
    progress: int | None
    view_count: int | None
    completed_count: int | None
    completion_percentage: float | None
    progressdetails: Any
    last_access_time: str | None
    last_completed_time: str | None
    score: list[AttemptScore] | UnsetType = UNSET
    best_score: float | UnsetType = UNSET
    max_score: float | UnsetType = UNSET
    attempts_count: float | UnsetType = UNSET


class ContentStates(msgspec.Struct, rename="camel"):
    """The result, in the order of content ids."""

    content_list: list[ContentState]


def parse(request: Mapping[str, Any], token_user_id: str | None) -> ContentStateQuery:
    """Checks a request; ``token_user_id`` None is the private route, which believes the body. Raises ApiError."""
    asked = convert(request, ContentStateRequest)
    user_id = token_user_id or asked.user_id
    course_id = asked.course_id or asked.collection_id or next(iter(asked.course_ids or ()), None)
    if not user_id:
        raise missing("userId")
    if not course_id:
        raise missing("courseId")
    if not asked.batch_id:
        raise missing("batchId")
    return ContentStateQuery(
        user_id, course_id, asked.batch_id, frozenset(asked.content_ids or ()), "score" in (asked.fields or ())
    )


def shape(
    rows: Sequence[Consumption],
    attempts: Sequence[Attempt],
    aggregates: Mapping[str, float],
    with_score: bool,
    attempts_limit: int,
    time_zone: tzinfo,
) -> ContentStates:
    """The result: ``rows`` in clustering order, ``attempts`` in theirs, ``aggregates`` merged.

    Without ``with_score`` neither attempts nor aggregates are looked at.
    """
    states = [_state(row, time_zone) for row in rows]
    if with_score:
        scores = _scores(attempts, attempts_limit)
        for state in states:
            state.score = scores.get(state.content_id, [])
            state.best_score = aggregates.get(metric_key(SCORE, state.content_id), UNSET)
            state.max_score = aggregates.get(metric_key(MAX_SCORE, state.content_id), UNSET)
            state.attempts_count = aggregates.get(metric_key(ATTEMPTS_COUNT, state.content_id), UNSET)
    return ContentStates(states)


def _state(row: Consumption, time_zone: tzinfo) -> ContentState:
    return ContentState(
        content_id=row.content_id,
        course_id=row.course_id,
        collection_id=row.course_id,
        batch_id=row.batch_id,
        status=row.status,
        progress=row.progress,
        view_count=row.view_count,
        completed_count=row.completed_count,
        completion_percentage=shortest_float(row.completion_percentage),
        progressdetails=_json(row.progressdetails),
        last_access_time=course_time(row.last_access_time_ms, time_zone),
        last_completed_time=course_time(row.last_completed_time_ms, time_zone),
    )


def _scores(attempts: Sequence[Attempt], limit: int) -> dict[str, list[AttemptScore]]:
    """By content. Clients take the maximum and the length of these lists, so a draft must not be in one."""
    scores: dict[str, list[AttemptScore]] = {}
    for attempt in attempts:
        of_content = scores.setdefault(attempt.content_id, [])
        if attempt.total_score is not None and len(of_content) < limit:
            of_content.append(
                AttemptScore(
                    attempt.attempt_id, attempt.last_attempted_on_ms, attempt.total_score, attempt.total_max_score
                )
            )
    return scores


def shortest_float(value: float | None) -> float | None:
    """The double that a reader of a 4-byte float means: 99.9, not 99.9000015258789."""
    if value is None:
        return None
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < 3e38 and _FLOAT.pack(short) == _FLOAT.pack(value):
            return short
    return value


def _json(text: str | None) -> Any:
    """JSON that is stored as text; what is no JSON stays a text, so that one broken row spoils no list."""
    if not text or not text.strip():
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return msgspec.Raw(text.encode())
