"""The rules of the activity aggregate updater: what completions and syncs change, and what they send. Pure.

A decision is about one enrolment and the events that arrived for it, applied one by one in order. Its result is the
same as that of one decision per event, so it does not matter where a batch ends.

A worker may be killed between any two writes. Then all events since the checkpoint are applied again. The rows end up
the same, and every message is sent at least once, for three reasons:

* The row that counts a completion says whether it was counted, and it is written last (:class:`Decision`).
* Aggregates and enrolment are computed from contents and events, never from their own earlier values.
* A counted completion and a completed enrolment are stored with the time of their event, so that the event is
  recognised when it comes again, and the same messages are sent.

There is one exception to the messages: a content that a learner has completed twice, ``recount_after_ms`` apart, and
both since the checkpoint. The row has the time of the second completion, so the first one is a duplicate when it comes
again. A batch is also applied again without a kill, if a server fails. So two such events are never in one batch
(:func:`may_recount`).

The numbers of rules are those of ``docs/jobs.md``.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from common.domain import messages
from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from jobs.activity_aggregate_updater.events import COMPLETED, IN_PROGRESS, JOB, EnrolmentSync, LearnerEvent
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow, Progress
from jobs.activity_aggregate_updater.relations import Relations, units_of


class Settings(msgspec.Struct, frozen=True):
    """What an operator may set.

    ``recount_after_ms``: a content that is completed again so much later is counted again. The default is 7 days, for
    which the Scala job remembers a completion.
    """

    audit_topic: str
    certificate_topic: str
    module_aggs: bool = True
    recount_after_ms: int = 604_800_000


class Content(msgspec.Struct, frozen=True, gc=False):
    """A row of ``user_content_consumption``. None stands for an unset column, and for the write time of one."""

    content_id: str
    status: int | None = None
    view_count: int | None = None
    completed_count: int | None = None
    view_time_us: int | None = None
    completed_time_us: int | None = None


class Stored(msgspec.Struct, frozen=True):
    """The stored rows of one enrolment: all its contents, and its row of ``user_enrolments`` if there is one.

    ``is_known``: this job has written aggregates of the enrolment before, so the course's row of ``user_activity_agg``
    has ``completedCount`` in ``aggregates``.
    """

    contents: Sequence[Content]
    enrolment: EnrolmentRow | None
    is_known: bool


class CompletedCount(msgspec.Struct, frozen=True):
    """Sets ``completedCount`` of a course or unit in ``aggregates``, and the time of the write."""

    activity_id: str
    value: float


class ContentCounts(msgspec.Struct, frozen=True):
    """Sets both counts of a row of ``user_content_consumption``, each USING TIMESTAMP its own time.

    Both must be written as one: in one statement if the times are equal, otherwise in one batch.
    """

    content_id: str
    view_count: int
    completed_count: int
    view_time_us: int
    completed_time_us: int

    def applied_to(self, content: Content) -> Content:
        """The row once this is written."""
        return Content(
            content.content_id,
            content.status,
            self.view_count,
            self.completed_count,
            self.view_time_us,
            self.completed_time_us,
        )


class Effect(StrEnum):
    """What one content of an event did, or a sync, as the metrics name it."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    DUPLICATE = "duplicate"
    SYNCED = "synced"


class Result(msgspec.Struct, frozen=True):
    """What one event did. The effects are in the order of the event's contents; a sync has one."""

    effects: tuple[Effect, ...]
    messages: tuple[Message, ...]

    @property
    def effect(self) -> Effect:
        """The effect of the whole event: the first one of :class:`Effect` that any of its contents has."""
        return next(effect for effect in Effect if effect in self.effects)


class Decision(msgspec.Struct, frozen=True):
    """What to write (rule U8), first ``aggregates`` and then ``learner``, and what to send when everything is written.

    ``aggregates`` are stages. The writes of a stage may be executed in any order or concurrently, but only after those
    of the stage before. A course's first ``completedCount`` comes after those of its units: it marks the enrolment as
    known, and then only the units of new completions are looked at.

    ``learner`` are writes to the learner's partition. They are executed in order or, as many as fit into one batch, at
    once: a replica applies a batch of one partition as a whole. The counts of the contents come last, because they mark
    the events as counted.

    ``results`` are those of the events, in order.

    ``uncounted_units`` are units that were due and have no count, because their leaf nodes are not known. A later
    completion in such a unit, or a sync, writes it.
    """

    aggregates: tuple[tuple[CompletedCount, ...], ...]
    learner: tuple[EnrolmentChange | ContentCounts, ...]
    results: tuple[Result, ...]
    uncounted_units: tuple[str, ...] = ()


def may_recount(earlier: LearnerEvent, later: LearnerEvent, recount_after_ms: int) -> bool:
    """Whether ``later`` may count a content again that ``earlier`` has counted, both of one learner."""
    return (
        later.time_ms - earlier.time_ms >= recount_after_ms
        and later.enrolment == earlier.enrolment
        and not set(later.content_ids).isdisjoint(earlier.content_ids)
    )


def contents_to_locate(stored: Stored, events: Sequence[LearnerEvent], settings: Settings) -> set[str]:
    """The contents whose ancestors :func:`decide` needs, and possibly some more."""
    if not settings.module_aggs:
        return set()
    contents = {content_id for event in events for content_id in event.content_ids}
    if stored.is_known and not any(isinstance(event, EnrolmentSync) for event in events):
        return contents
    return contents.union(content.content_id for content in stored.contents)


def decide(
    enrolment: EnrolmentKey,
    events: Sequence[LearnerEvent],
    stored: Stored,
    relations: Relations,
    settings: Settings,
) -> Decision:
    """Rules U3 to U9: applies the events of one enrolment to its stored rows, in the order they arrived."""
    contents = {content.content_id: content for content in stored.contents}
    statuses = {content.content_id: _status(content) for content in stored.contents}
    completed = {content_id for content_id, status in statuses.items() if status >= COMPLETED}
    progress = Progress(stored.enrolment)
    counted: dict[str, ContentCounts] = {}
    is_synced = False
    results = []
    for event in events:
        effects = []
        to_send: list[Message] = []
        for content_id in event.content_ids:
            content = contents.get(content_id) or Content(content_id)
            effect = _effect(content, event.time_ms, settings)
            effects.append(effect)
            if effect is Effect.DUPLICATE:
                continue
            if effect is Effect.WRITTEN:
                counts = _count(content, event.time_ms)
                counted[content_id] = counts
                contents[content_id] = content = counts.applied_to(content)
                statuses[content_id] = _status(content)
                completed.add(content_id)
            to_send += _content_audits(event, content, settings)
        if isinstance(event, EnrolmentSync):
            effects.append(Effect.SYNCED)
            if contents:
                is_synced = True
                progress.sync(event.time_ms, relations.required, completed, statuses)
        if Effect.WRITTEN in effects:
            progress.advance(event.time_ms, relations.required, completed, statuses)
        if progress.was_completed_at(event.time_ms):
            to_send += _completion_messages(event, settings)
        results.append(Result(tuple(effects), tuple(to_send)))
    if not counted and not is_synced:
        return Decision((), (), tuple(results))

    course = CompletedCount(enrolment.course_id, float(len(relations.required & completed)))
    units: tuple[CompletedCount, ...] = ()
    uncounted: tuple[str, ...] = ()
    if settings.module_aggs:
        are_all_due = is_synced or not stored.is_known
        units, uncounted = _unit_counts(enrolment, contents if are_all_due else counted, relations, completed)
    aggregates = ((*units, course),) if stored.is_known else (units, (course,))
    return Decision(aggregates, (*progress.change(), *counted.values()), tuple(results), uncounted)


def _status(content: Content) -> int:
    """Rule U4: the stored status, but at least 2 if a completion was counted, and 1 if nothing is known.

    The API publishes before it writes, so a completion may be counted while its row still says 1, or nothing.
    """
    status = IN_PROGRESS if content.status is None else content.status
    return max(status, COMPLETED) if content.completed_count else status


def _effect(content: Content, time_ms: int, settings: Settings) -> Effect:
    """Rule U3."""
    counted_us = content.completed_time_us
    if not content.completed_count or counted_us is None:
        return Effect.WRITTEN
    time_us = time_ms * 1000
    if time_us == counted_us or (time_us < counted_us and content.view_time_us == counted_us + _mark_us(time_ms)):
        return Effect.REPLAYED
    return Effect.WRITTEN if time_us >= counted_us + settings.recount_after_ms * 1000 else Effect.DUPLICATE


def _count(content: Content, time_ms: int) -> ContentCounts:
    """Rule U3: the counts with one more completion.

    Both are written with the event time, so that the event is recognised if it comes again. If the row has a later
    write time (the Scala job wrote at clock time), that write would win. Then the counts are written just behind it,
    and the write time of the view count is later by a mark of the event time. The Scala job wrote both counts at the
    same time, so none of its rows has a mark.
    """
    time_us = time_ms * 1000
    newest_us = max(-1 if time is None else time for time in (content.view_time_us, content.completed_time_us))
    counted_us = max(time_us, newest_us + 1)
    return ContentCounts(
        content.content_id,
        view_count=(content.view_count or 0) + 1,
        completed_count=(content.completed_count or 0) + 1,
        view_time_us=counted_us if counted_us == time_us else counted_us + _mark_us(time_ms),
        completed_time_us=counted_us,
    )


def _mark_us(time_ms: int) -> int:
    """1 us to 1 s. Two event times have the same mark with a probability of one in a million.

    The divisor is prime, so that event times a round number of minutes or days apart have different marks.
    """
    return time_ms % 999_983 + 1


def _unit_counts(
    enrolment: EnrolmentKey, content_ids: Iterable[str], relations: Relations, completed: set[str]
) -> tuple[tuple[CompletedCount, ...], tuple[str, ...]]:
    """Rule U5: one for each unit that holds any of the contents, and the units whose leaf nodes are not known."""
    ancestors = {content_id: relations.ancestors[content_id] for content_id in content_ids}
    counts = []
    unknown = []
    for unit_id in sorted(units_of(enrolment.course_id, ancestors)):
        required = relations.units[unit_id]
        if required is None:
            unknown.append(unit_id)
        else:
            counts.append(CompletedCount(unit_id, float(len(required & completed))))
    return tuple(counts), tuple(unknown)


def _content_audits(event: LearnerEvent, content: Content, settings: Settings) -> list[Message]:
    """Rule U7: the AUDIT events of a first view and a first completion, if this event was the first one."""
    audits = []
    if content.view_count == 1:
        audits.append(_audit(event, "start", ("viewcount",), settings, content.content_id))
    if content.completed_count == 1:
        audits.append(_audit(event, "complete", ("viewcount", "completedcount"), settings, content.content_id))
    return audits


def _completion_messages(event: LearnerEvent, settings: Settings) -> tuple[Message, ...]:
    request = messages.certificate_request(
        settings.certificate_topic,
        JOB,
        user_id=event.enrolment.user_id,
        course_id=event.enrolment.course_id,
        batch_id=event.enrolment.batch_id,
        time_ms=event.time_ms,
    )
    return _audit(event, "enrol-complete", ("status", "completedon"), settings), request


def _audit(
    event: LearnerEvent, action: str, props: Sequence[str], settings: Settings, content_id: str | None = None
) -> Message:
    return messages.audit(
        settings.audit_topic,
        JOB,
        action=action,
        props=props,
        user_id=event.enrolment.user_id,
        course_id=event.enrolment.course_id,
        batch_id=event.enrolment.batch_id,
        content_id=content_id,
        time_ms=event.time_ms,
    )
