"""Content state read: a learner's progress in the contents of a batch, with scores on demand. Pure."""

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
    """What is asked for. On the public route ``userId`` is ignored: the user is that of the token."""

    course_ids: Annotated[
        list[str] | None, Meta(description="only the first counts, and only without courseId and collectionId")
    ] = None
    content_ids: Annotated[
        list[str] | None, Meta(description="none or empty: all contents of the learner in the batch")
    ] = None
    user_id: str | None = None
    course_id: str | None = None
    collection_id: Annotated[str | None, Meta(description="the same as courseId, which wins")] = None
    batch_id: str | None = None
    fields: Annotated[list[str] | None, Meta(description='"score" switches scores on')] = None


class ContentStateQuery(NamedTuple):
    """A checked request. Empty ``content_ids`` means all contents."""

    user_id: str
    course_id: str
    batch_id: str
    content_ids: Collection[str]
    with_score: bool


class Consumption(NamedTuple):
    """A row of ``user_content_consumption``, with times in ms."""

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


class AttemptTotals(NamedTuple):
    """A row of ``assessment_aggregator``, without its questions. A row without a total score is a draft."""

    content_id: str
    attempt_id: str
    last_attempted_on_ms: int | None
    total_score: float | None
    total_max_score: float | None


class AttemptScore(msgspec.Struct, rename="camel"):
    """One attempt."""

    attempt_id: str
    last_attempted_on: Annotated[int | None, Meta(description="ms since 1970")]
    total_score: float
    total_max_score: float


class BestScore(msgspec.Struct, rename="camel"):
    """The best score from the aggregates, in the form that Sunbird's client libraries use."""

    total_score: float
    total_max_score: float


class ContentState(msgspec.Struct, rename="camel"):
    """One content. Columns that are unset in the table are null."""

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
    best_score: BestScore | UnsetType = UNSET
    attempts_count: float | UnsetType = UNSET


class ContentStates(msgspec.Struct, rename="camel"):
    """The result, in the order of content ids."""

    content_list: list[ContentState]


def parse(request: Mapping[str, Any], token_user_id: str | None) -> ContentStateQuery:
    """Checks a request. With ``token_user_id`` None, on the private route, the user is that of the body.

    Raises ApiError 400.
    """
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
    attempts: Sequence[AttemptTotals],
    aggregates: Mapping[str, float],
    with_score: bool,
    attempts_limit: int,
    time_zone: tzinfo,
) -> ContentStates:
    """The result, in the order of ``rows``. ``attempts`` are in clustering order, ``aggregates`` are merged.

    Without ``with_score`` attempts and aggregates are ignored.
    """
    states = [_state(row, time_zone) for row in rows]
    if with_score:
        scores = _scores(attempts, attempts_limit)
        for state in states:
            state.score = scores.get(state.content_id, [])
            state.best_score = _best_score(aggregates, state.content_id)
            state.attempts_count = aggregates.get(metric_key(ATTEMPTS_COUNT, state.content_id), UNSET)
    return ContentStates(states)


def _best_score(aggregates: Mapping[str, float], content_id: str) -> BestScore | UnsetType:
    score = aggregates.get(metric_key(SCORE, content_id))
    if score is None:
        return UNSET
    return BestScore(score, aggregates.get(metric_key(MAX_SCORE, content_id), 0.0))


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


def _scores(attempts: Sequence[AttemptTotals], limit: int) -> dict[str, list[AttemptScore]]:
    """At most ``limit`` attempts of each content, in clustering order.

    Clients take the maximum of these lists for the best score, and their length for the number of attempts. So a draft
    must not be among them, and of more than ``limit`` attempts the best one must be: it and the latest are given.
    """
    by_content: dict[str, list[AttemptTotals]] = {}
    for attempt in attempts:
        of_content = by_content.setdefault(attempt.content_id, [])
        if attempt.total_score is not None:
            of_content.append(attempt)
    return {
        content_id: [
            AttemptScore(
                attempt.attempt_id,
                attempt.last_attempted_on_ms,
                attempt.total_score or 0.0,
                # The table of contents of Sunbird's portal fails on null.
                attempt.total_max_score or 0.0,
            )
            for attempt in (of_content if len(of_content) <= limit else _best_and_latest(of_content, limit))
        ]
        for content_id, of_content in by_content.items()
    }


def _best_and_latest(attempts: Sequence[AttemptTotals], limit: int) -> list[AttemptTotals]:
    """The attempt with the best score, the first of several, and the latest others, in the given order."""
    best = max(range(len(attempts)), key=lambda index: attempts[index].total_score or 0.0)
    # An attempt without a time counts as the oldest.
    latest = sorted(range(len(attempts)), key=lambda index: attempts[index].last_attempted_on_ms or 0, reverse=True)
    kept = {best, *[index for index in latest if index != best][: limit - 1]}
    return [attempts[index] for index in sorted(kept)]


def shortest_float(value: float | None) -> float | None:
    """The shortest double that is the same 4-byte float: 99.9 rather than 99.9000015258789."""
    if value is None:
        return None
    for digits in range(1, 9):
        short = float(f"{value:.{digits}g}")
        if abs(short) < 3e38 and _FLOAT.pack(short) == _FLOAT.pack(value):
            return short
    return value


def _json(text: str | None) -> Any:
    """JSON that is stored as text. Invalid JSON stays text, so that one broken row does not cost the whole list."""
    if not text or not text.strip():
        return None
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    return msgspec.Raw(text.encode())
