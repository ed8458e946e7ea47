"""Read of assessments: the best scores of a learner in a batch. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, contents_of
from services.envelope import EMPTY, INVALID, ApiError, invalid_fields


class ReadRequest(msgspec.Struct, rename="camel"):
    """What is asked for. Without ``contentId`` all contents that have a score."""

    collection_id: Annotated[str | None, Meta(description="default: courseId, then contentId if that is a text")] = None
    course_id: Annotated[str | None, Meta(description="the same as collectionId, which wins")] = None
    context_id: Annotated[str | None, Meta(description="default: batchId, then the collection")] = None
    batch_id: Annotated[str | None, Meta(description="the same as contextId, which wins")] = None
    content_id: str | list[str] | None = None


class ContentScore(msgspec.Struct):
    """The best score of a content. Members that neither column holds are left out."""

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
    """A checked read. ``content_ids`` None means all contents."""

    user_id: str
    collection_id: str
    context_id: str
    content_ids: Sequence[str] | None


_READ = msgspec.json.Decoder(ReadRequest | None)


def parse(request: bytes | None, user_id: str) -> ReadQuery:
    """Checks a read. Missing ids default as they do when an assessment is submitted. Raises ApiError 400."""
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
    """The best score of each content that has one: in the order of the request, else in the order of content ids."""
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
