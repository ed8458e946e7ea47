"""The rules of the assessment aggregator: stored rows and events in, rows to write and messages to send out. Pure.

Times of rows are aware datetimes with ms precision, as the driver reads and writes them. Times of events are ms. The
numbers of rules are those of ``docs/jobs.md``.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, tzinfo
from enum import StrEnum
from itertools import groupby
from operator import attrgetter

import msgspec

from common.domain import messages
from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, metric_key
from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.events import BadEvent, shown, to_datetime
from common.domain.messages import Message
from common.domain.questions import Question

JOB = "AssessmentAggregator"

METRICS = (SCORE, MAX_SCORE, ATTEMPTS_COUNT)
"""The metrics in ``aggregates`` that this job writes. It does not write ``completedCount``."""

# Month names do not depend on the locale of the machine.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
# Three times as fast as the format code :02, and every event formats a time for every stored attempt.
_TWO_DIGITS = tuple(f"{number:02}" for number in range(60))


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """A stored attempt: a row of ``assessment_aggregator`` without ``question``.

    An attempt without ``total_score`` is a draft: it was saved and not yet submitted.
    """

    content_id: str
    attempt_id: str
    last_attempted_on: datetime | None
    created_on: datetime | None
    total_score: float | None
    total_max_score: float | None


class Detail(msgspec.Struct, frozen=True, gc=False):
    """An element of ``agg_details``: what is told of an attempt that is not a draft."""

    attempt_id: str
    last_attempted_on: str | None
    total_score: float = msgspec.field(name="score")
    content_id: str
    total_max_score: float = msgspec.field(name="max_score")
    type: str = "attempt_metrics"


AttemptKey = tuple[str, str]
"""Content and attempt, which sort attempts as Cassandra does: it compares UTF-8 bytes, which sort like code points."""

Unread = Mapping[AttemptKey, tuple[Detail, str]]
"""The elements of ``agg_details``, decoded and as they are, of the attempts of an enrolment that were not read."""


def attempt_key(attempt: Attempt | Detail) -> AttemptKey:
    """Unique within an enrolment."""
    return attempt.content_id, attempt.attempt_id


def submitted_keys(events: Iterable[AssessmentEvent]) -> set[AttemptKey]:
    """The attempts that the events submit."""
    return {(event.content_id, event.attempt.attempt_id) for event in events if event.attempt is not None}


class AttemptRow(Attempt, frozen=True, gc=False):
    """An attempt to write."""

    updated_on: datetime
    grand_total: str
    questions: tuple[Question, ...]


class AggregateChanges(msgspec.Struct, frozen=True):
    """The changes to an enrolment's row of ``user_activity_agg``.

    ``aggregates`` are the entries to add; the same keys get the time of the write in ``agg_last_updated``.
    ``removed_keys`` are removed from both maps. ``agg_details`` replaces the list.
    """

    aggregates: Mapping[str, float]
    agg_details: Sequence[str]
    removed_keys: Sequence[str]


class Effect(StrEnum):
    """What applying an event did, as the metrics name it."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    """The stored attempt has the event's time: its row is not written again, everything else is."""
    STALE = "stale"
    """The stored attempt is later: the event is skipped."""
    RECOMPUTED = "recomputed"


class Result(msgspec.Struct, frozen=True):
    """What one event did, and the messages to send for it once all rows are written."""

    effect: Effect
    messages: Sequence[Message]


class Decision(msgspec.Struct, frozen=True):
    """Everything that the events of one enrolment change.

    ``attempts`` are written before ``aggregates``. After a crash between the two, the replay finds the attempts and
    writes the aggregates. ``aggregates`` is None if every event was stale. ``results`` are in the order of the events.
    """

    attempts: Sequence[AttemptRow]
    aggregates: AggregateChanges | None
    results: Sequence[Result]


class Settings(msgspec.Struct, frozen=True):
    """What an operator may set. ``time_zone`` is that of the times in ``agg_details``."""

    certificate_topic: str
    time_zone: tzinfo


def check_content(event: AssessmentEvent, leaf_nodes: Collection[str]) -> None:
    """Rule A2. ``leaf_nodes`` are those of the course; if there are none, every content is accepted.

    Raises BadEvent ``content_not_in_course``.
    """
    if leaf_nodes and event.content_id not in leaf_nodes:
        raise BadEvent(
            "content_not_in_course",
            f"content {shown(event.content_id)} is not part of course {shown(event.enrolment.course_id)}",
        )


def check_number_of_questions(event: AssessmentEvent, total: float | None) -> None:
    """Rule A4. ``total`` is the content's number of questions, None if it is not known.

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
    """Whether :func:`decide` needs the keys of the stored aggregates. Only a recompute request removes keys."""
    return any(event.attempt is None for event in events)


def decide(
    stored: Iterable[Attempt],
    events: Sequence[AssessmentEvent],
    aggregate_keys: Iterable[str],
    settings: Settings,
    now_ms: int,
    unread: Unread | None = None,
) -> Decision:
    """Rules A6, A8 and A9 for the events of one enrolment, in the order they arrived.

    ``stored`` are all attempts of the enrolment. ``aggregate_keys`` are the keys of its ``aggregates`` (see
    :func:`needs_aggregate_keys`). ``now_ms`` is the time of the write. The result is the same as if the events had been
    decided one after another.

    With ``unread``, ``stored`` are only the attempts that the events submit, and all others are in ``unread``:
    see :func:`many_attempts.unread_attempts`. No event may be a recompute request then.
    """
    now = to_datetime(now_ms)
    attempts = {attempt_key(attempt): attempt for attempt in stored}
    rows: dict[AttemptKey, AttemptRow] = {}
    effects = [_apply(event, attempts, rows, now) for event in events]
    if all(effect is Effect.STALE for effect in effects):
        return Decision((), None, [Result(effect, ()) for effect in effects])
    scored = [attempts[key] for key in sorted(attempts) if attempts[key].total_score is not None]
    details = {attempt_key(attempt): _detail(attempt, settings.time_zone) for attempt in scored}
    at_contents: list[Attempt | Detail] = [*scored]
    # With unread attempts, there are attempts at more than one content.
    latest_attempt_id = "" if unread else _latest_attempt_id(scored)
    if unread:
        content_ids = {event.content_id for event in events}
        at_contents += [detail for detail, _ in unread.values() if detail.content_id in content_ids]
        at_contents.sort(key=attempt_key)
        details |= {key: text for key, (_, text) in unread.items()}
    return Decision(
        attempts=tuple(rows.values()),
        aggregates=AggregateChanges(
            aggregates=aggregates_of(at_contents),
            agg_details=[details[key] for key in sorted(details)],
            removed_keys=_removed_keys(aggregate_keys, scored) if Effect.RECOMPUTED in effects else (),
        ),
        results=[
            Result(effect, () if effect is Effect.STALE else (_request(event, latest_attempt_id, settings),))
            for event, effect in zip(events, effects, strict=True)
        ],
    )


def _apply(
    event: AssessmentEvent,
    attempts: dict[AttemptKey, Attempt],
    rows: dict[AttemptKey, AttemptRow],
    now: datetime,
) -> Effect:
    """Rule A6: puts the event's attempt into ``attempts`` and ``rows``, unless the stored one is as late or later."""
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
    """Rule A5: ``"<score>/<max>"``, such as ``7.5/10.0``."""
    return f"{score_text(attempt.total_score)}/{score_text(attempt.total_max_score)}"


def score_text(score: float) -> str:
    """A score with one or two decimals (Java's pattern ``0.0#``) and never an exponent.

    It is rounded half-even on the exact binary value, as Java's DecimalFormat does: 0.125 is a tie and becomes 0.12,
    while 1.005 is stored as slightly less and becomes 1.0. Unlike in Java, a zero has no sign.
    """
    text = f"{score:.2f}".removesuffix("0")
    return "0.0" if text == "-0.0" else text


def aggregates_of(scored: Iterable[Attempt | Detail]) -> dict[str, float]:
    """Rule A8: per content the best attempt (of equal ones the first) and the number of attempts.

    ``scored`` are in the order of their keys, without drafts.
    """
    aggregates = {}
    for content_id, attempts in groupby(scored, attrgetter("content_id")):
        of_content = list(attempts)
        best = max(of_content, key=_score)
        aggregates[metric_key(SCORE, content_id)] = _score(best)
        aggregates[metric_key(MAX_SCORE, content_id)] = best.total_max_score or 0.0
        aggregates[metric_key(ATTEMPTS_COUNT, content_id)] = float(len(of_content))
    return aggregates


def _score(attempt: Attempt | Detail) -> float:
    """The score of an attempt that is not a draft."""
    assert attempt.total_score is not None
    return attempt.total_score


_ENCODER = msgspec.json.Encoder()


def _detail(attempt: Attempt, time_zone: tzinfo) -> str:
    """Rule A8: an element of ``agg_details``. An attempt that another writer stored without a time has none here."""
    moment = attempt.last_attempted_on
    detail = Detail(
        attempt.attempt_id,
        None if moment is None else time_text(moment.astimezone(time_zone)),
        _score(attempt),
        attempt.content_id,
        attempt.total_max_score or 0.0,
    )
    return _ENCODER.encode(detail).decode()


def time_text(moment: datetime) -> str:
    """A time in the form that clients expect: ``May 14, 2024, 9:12:40 AM`` (Java's ``MMM d, yyyy, h:mm:ss a``)."""
    hour = moment.hour
    return (
        f"{_MONTHS[moment.month - 1]} {moment.day}, {moment.year}, "
        f"{hour % 12 or 12}:{_TWO_DIGITS[moment.minute]}:{_TWO_DIGITS[moment.second]} {'AM' if hour < 12 else 'PM'}"
    )


def _removed_keys(aggregate_keys: Iterable[str], scored: Iterable[Attempt]) -> list[str]:
    """Rule A8: the keys of contents that have no attempt left."""
    content_ids = {attempt.content_id for attempt in scored}
    return [key for key in aggregate_keys if is_of_other_content(key, content_ids)]


def is_of_other_content(key: str, content_ids: Collection[str]) -> bool:
    """Whether a key of ``aggregates`` is one of this job's, and of a content that is not among ``content_ids``."""
    metric, colon, content_id = key.partition(":")
    return bool(colon) and metric in METRICS and content_id not in content_ids


def _latest_attempt_id(scored: Sequence[Attempt]) -> str:
    """Rule A9: the latest attempt (of equally late ones the first) if all are of one content, else ``""``."""
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
    """Rule A9: one request per event, not one per enrolment and batch.

    The request's id depends on the event alone. So a replay sends the same ids, whatever other events are in the
    batch. A replayed event that a later one for the same attempt has made stale sends nothing: the later one does.
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
