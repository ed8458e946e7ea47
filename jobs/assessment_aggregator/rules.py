"""The rules of the assessment aggregator: stored rows and events in, rows to write and messages to send out. Pure.

Times of rows are aware datetimes with ms precision, as the driver reads and writes them; times of events are ms.
Steps are numbered as in the job's description.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from common.domain import messages
from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, metric_key
from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.events import BadEvent, shown, to_datetime, to_number
from common.domain.messages import Message
from common.domain.questions import Question

if TYPE_CHECKING:
    from common.servers.http import Answer

JOB = "AssessmentAggregator"

METRICS = (SCORE, MAX_SCORE, ATTEMPTS_COUNT)
"""The metrics of ``user_activity_agg`` that are this job's; ``completedCount`` is not."""

# English whatever the locale of the machine is.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# A format code such as :02 costs three times as much, and there is one time per stored attempt and event.
_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """A row of ``assessment_aggregator`` as far as it is read: all columns but ``question`` of one enrolment.

    A row without ``total_score`` is a draft, saved before it was submitted.
    """

    content_id: str
    attempt_id: str
    last_attempted_on: datetime | None
    created_on: datetime | None
    total_score: float | None
    total_max_score: float | None


class AttemptRow(Attempt, frozen=True, gc=False):
    """A row to be written."""

    updated_on: datetime
    grand_total: str
    questions: tuple[Question, ...]


class AggregateChanges(msgspec.Struct, frozen=True):
    """What becomes of an enrolment's row of ``user_activity_agg``.

    ``aggregates`` are the entries to add; the same keys get the time of the write in ``agg_last_updated``.
    ``removed_keys`` leave both maps. ``agg_details`` replaces the list.
    """

    aggregates: Mapping[str, float]
    agg_details: Sequence[str]
    removed_keys: Sequence[str]


class Effect(StrEnum):
    """What an event came to, as the metrics name it."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    """The stored attempt has this event's time: only its row was not written again."""
    STALE = "stale"
    """The stored attempt is later: the event is skipped."""
    RECOMPUTED = "recomputed"


class Result(msgspec.Struct, frozen=True):
    """What one event came to, and the messages to send for it once all rows are written."""

    effect: Effect
    messages: Sequence[Message]


class Decision(msgspec.Struct, frozen=True):
    """All that the events of one enrolment change.

    ``attempts`` are written before ``aggregates``: after a crash in between the replay finds the attempts and adds
    what is missing. ``aggregates`` is None if every event was stale. ``results`` are in the order of the events.
    """

    attempts: Sequence[AttemptRow]
    aggregates: AggregateChanges | None
    results: Sequence[Result]


class Settings(msgspec.Struct, frozen=True):
    """``time_zone`` is that of the times in ``agg_details``."""

    certificate_topic: str
    time_zone: tzinfo


def check_content(event: AssessmentEvent, leaf_nodes: Collection[str]) -> None:
    """Step 1. ``leaf_nodes`` are the course's; empty where the cache does not know the course, which proves nothing.

    Raises BadEvent ``content_not_in_course``.
    """
    if leaf_nodes and event.content_id not in leaf_nodes:
        raise BadEvent(
            "content_not_in_course",
            f"content {shown(event.content_id)} is not part of course {shown(event.enrolment.course_id)}",
        )


class ContentMetadata(msgspec.Struct):
    """A content as the content cache and the content read API describe it, as far as step 3 needs it.

    The number of questions has three spellings, and anything may stand there.
    """

    total_questions_camel: Any = msgspec.field(default=None, name="totalQuestions")
    total_questions_lower: Any = msgspec.field(default=None, name="totalquestions")
    total_questions_snake: Any = msgspec.field(default=None, name="total_questions")


CONTENT_METADATA = msgspec.json.Decoder(ContentMetadata)


def cached_total_questions(cached: object) -> float | None:
    """The number of questions in an entry of the content cache; None where the API has to be asked.

    A cache is a copy: where it holds something else than ContentMetadata, it is as good as empty.
    """
    return _total_questions(cached) if isinstance(cached, ContentMetadata) else None


def total_questions(content_id: str, answer: "Answer") -> float | None:
    """The number of questions in an answer of the content read API; None if it has none, so that nothing is checked.

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


def check_number_of_questions(event: AssessmentEvent, total: float | None) -> None:
    """Step 3, only with ``skip_missing_records``. ``total`` is None where nobody knows it.

    Raises BadEvent ``too_many_questions``.
    """
    if event.attempt is None or total is None:
        return
    answered = len(event.attempt.questions)
    if answered > total:
        raise BadEvent(
            "too_many_questions",
            f"event has answers to {answered} questions, but content {shown(event.content_id)} has {total:g}",
        )


def needs_aggregate_keys(events: Iterable[AssessmentEvent]) -> bool:
    """Whether :func:`decide` needs the keys of the stored aggregates: only a recompute request removes any."""
    return any(event.attempt is None for event in events)


def decide(
    stored: Iterable[Attempt],
    events: Sequence[AssessmentEvent],
    aggregate_keys: Iterable[str],
    settings: Settings,
    now_ms: int,
) -> Decision:
    """Steps 5 to 7 for events of one enrolment, in the order they arrived.

    ``stored`` are all attempts of the enrolment, ``aggregate_keys`` the keys of its ``aggregates`` (see
    :func:`needs_aggregate_keys`). The rows end up as if the events had been decided one after another.
    """
    now = to_datetime(now_ms)
    attempts = {(attempt.content_id, attempt.attempt_id): attempt for attempt in stored}
    rows: dict[tuple[str, str], AttemptRow] = {}
    effects = [_apply(event, attempts, rows, now) for event in events]
    if all(effect is Effect.STALE for effect in effects):
        return Decision((), None, [Result(effect, ()) for effect in effects])
    # Clustering order: Cassandra compares UTF-8 bytes, which order texts as Python's code points do.
    scored = [attempts[key] for key in sorted(attempts) if attempts[key].total_score is not None]
    latest_attempt_id = _latest_attempt_id(scored)
    return Decision(
        attempts=tuple(rows.values()),
        aggregates=AggregateChanges(
            aggregates=_aggregates(scored),
            agg_details=[_detail(attempt, settings.time_zone) for attempt in scored],
            removed_keys=_removed_keys(aggregate_keys, scored) if Effect.RECOMPUTED in effects else (),
        ),
        results=[
            Result(effect, () if effect is Effect.STALE else (_request(event, latest_attempt_id, settings),))
            for event, effect in zip(events, effects, strict=True)
        ],
    )


def _apply(
    event: AssessmentEvent,
    attempts: dict[tuple[str, str], Attempt],
    rows: dict[tuple[str, str], AttemptRow],
    now: datetime,
) -> Effect:
    """Step 5: puts the event's attempt into ``attempts`` and ``rows`` unless what is there is as late or later."""
    if event.attempt is None:
        return Effect.RECOMPUTED
    key = (event.content_id, event.attempt.attempt_id)
    attempted_on = to_datetime(event.time_ms)
    known = attempts.get(key)
    if known is not None and known.last_attempted_on is not None:
        if known.last_attempted_on == attempted_on:
            return Effect.REPLAYED
        if known.last_attempted_on > attempted_on:
            return Effect.STALE
    attempts[key] = rows[key] = AttemptRow(
        content_id=event.content_id,
        attempt_id=event.attempt.attempt_id,
        last_attempted_on=attempted_on,
        created_on=now if known is None or known.created_on is None else known.created_on,
        total_score=event.attempt.total_score,
        total_max_score=event.attempt.total_max_score,
        updated_on=now,
        grand_total=grand_total(event.attempt),
        questions=event.attempt.questions,
    )
    return Effect.WRITTEN


def grand_total(attempt: SubmittedAttempt) -> str:
    """Step 4: ``"<score>/<max>"``, such as ``7.5/10.0``."""
    return f"{score_text(attempt.total_score)}/{score_text(attempt.total_max_score)}"


def score_text(score: float) -> str:
    """A score with at least one and at most two decimals (Java's pattern ``0.0#``), never with an exponent.

    Rounded half-even on the exact binary value, as Java's DecimalFormat does: 0.125 is a tie and becomes 0.12, 1.005 is
    a little less than it looks and becomes 1.0. Unlike there, what rounds to zero has no sign.
    """
    text = f"{score:.2f}".removesuffix("0")
    return "0.0" if text == "-0.0" else text


def _aggregates(scored: Iterable[Attempt]) -> dict[str, float]:
    """Step 6: per content the best attempt, of equal ones the first, and the number of attempts."""
    aggregates = {}
    for content_id, attempts in groupby(scored, attrgetter("content_id")):
        of_content = list(attempts)
        best = max(of_content, key=_score)
        aggregates[metric_key(SCORE, content_id)] = _score(best)
        aggregates[metric_key(MAX_SCORE, content_id)] = best.total_max_score or 0.0
        aggregates[metric_key(ATTEMPTS_COUNT, content_id)] = float(len(of_content))
    return aggregates


def _score(attempt: Attempt) -> float:
    """The score of an attempt that is no draft."""
    assert attempt.total_score is not None
    return attempt.total_score


class _Detail(msgspec.Struct):
    attempt_id: str
    last_attempted_on: str | None
    score: float
    content_id: str
    max_score: float
    type: str = "attempt_metrics"


_ENCODER = msgspec.json.Encoder()


def _detail(attempt: Attempt, time_zone: tzinfo) -> str:
    """Step 6: an element of ``agg_details``. A row that another writer left without a time has none here either."""
    moment = attempt.last_attempted_on
    detail = _Detail(
        attempt.attempt_id,
        None if moment is None else time_text(moment.astimezone(time_zone)),
        _score(attempt),
        attempt.content_id,
        attempt.total_max_score or 0.0,
    )
    return _ENCODER.encode(detail).decode()


def time_text(moment: datetime) -> str:
    """A time as clients know it: ``May 14, 2024, 9:12:40 AM`` (Java's pattern ``MMM d, yyyy, h:mm:ss a``)."""
    hour = moment.hour
    return (
        f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year}, "
        f"{hour % 12 or 12}:{_TWO_DIGITS[moment.minute]}:{_TWO_DIGITS[moment.second]} {'AM' if hour < 12 else 'PM'}"
    )


def _removed_keys(aggregate_keys: Iterable[str], scored: Iterable[Attempt]) -> list[str]:
    """Step 6: this job's keys of contents that have no attempt left."""
    content_ids = {attempt.content_id for attempt in scored}
    removed = []
    for key in aggregate_keys:
        metric, colon, content_id = key.partition(":")
        if colon and metric in METRICS and content_id not in content_ids:
            removed.append(key)
    return removed


def _latest_attempt_id(scored: Sequence[Attempt]) -> str:
    """Step 7: the latest attempt, of equally late ones the first, if all are of one content; else ``""``."""
    if len({attempt.content_id for attempt in scored}) != 1:
        return ""
    latest = scored[0]
    for attempt in scored[1:]:
        if attempt.last_attempted_on is not None and (
            latest.last_attempted_on is None or attempt.last_attempted_on > latest.last_attempted_on
        ):
            latest = attempt
    return latest.attempt_id


def _request(event: AssessmentEvent, latest_attempt_id: str, settings: Settings) -> Message:
    """Step 7: one request per event rather than per enrolment and batch.

    Its id comes from the event alone, so it is the same in whatever company a replay applies the event; had the
    batch's last event lent its id, which ids are ever sent would depend on how events happened to meet. An event
    that a later one for the same attempt has made stale by the time of its replay sends nothing: the later one does.
    """
    return messages.certificate_request(
        settings.certificate_topic,
        JOB,
        user_id=event.enrolment.user_id,
        course_id=event.enrolment.course_id,
        batch_id=event.enrolment.batch_id,
        cause=(event.content_id, event.attempt.attempt_id if event.attempt else ""),
        time_ms=event.time_ms,
        attempt_id=latest_attempt_id,
    )
