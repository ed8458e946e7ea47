"""What a learner's completions change, and whom to tell. Pure.

One decision is one enrolment with the events that arrived for it, one by one in their order: a decision about many
events is what as many decisions about one event each would have left behind, so it does not matter where a batch ends.

A worker may be killed between any two writes, and then all events since the checkpoint come again. What makes the rows
come out the same, and every message go out at least once:

* whether a completion was counted is told by the row that counts it, and no other row is written later than that one
  (:class:`Decision`);
* aggregates and enrolment are computed from rows and events, and never from what they held before;
* a completion that was counted, and an enrolment that was completed, know the event that did it by its time, and send
  the same messages when it comes again.
"""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from common.domain import messages
from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from jobs.activity_aggregate_updater.events import COMPLETED, JOB, ContentsCompleted
from jobs.activity_aggregate_updater.relations import Relations, units_of

IN_PROGRESS = 1


class Settings(msgspec.Struct, frozen=True):
    """What an operator may set, as the rules need it.

    ``recount_after_ms`` is the time after which a content that is completed again is counted again. Its default is the
    time that the Scala job remembers a completion, 7 days.
    """

    audit_topic: str
    certificate_topic: str
    module_aggs: bool = True
    recount_after_ms: int = 604_800_000


class Content(msgspec.Struct, frozen=True, gc=False):
    """A row of ``user_content_consumption``. None stands for an unset column and for the write time of one."""

    content_id: str
    status: int | None = None
    view_count: int | None = None
    completed_count: int | None = None
    view_time_us: int | None = None
    completed_time_us: int | None = None


class EnrolmentRow(msgspec.Struct, frozen=True):
    """A row of ``user_enrolments``; None stands for an unset column."""

    active: bool | None
    status: int | None
    completed_on_ms: int | None
    content_status: Mapping[str, int] | None

    @property
    def is_phantom(self) -> bool:
        """Of a learner who is not enrolled: the content state update writes its last-read columns unconditionally."""
        return self.active is None and self.status is None


class Stored(msgspec.Struct, frozen=True):
    """The stored rows of one enrolment: all its contents, and the row of ``user_enrolments`` if there is one.

    ``is_known`` says whether this job has written aggregates of this enrolment before: the course's row of
    ``user_activity_agg`` has ``completedCount`` in ``aggregates``.
    """

    contents: Sequence[Content]
    enrolment: EnrolmentRow | None
    is_known: bool


class CompletedCount(msgspec.Struct, frozen=True):
    """Adds ``completedCount`` to ``aggregates`` of a course or unit, and the clock's time to ``agg_last_updated``."""

    activity_id: str
    value: float


class EnrolmentChange(msgspec.Struct, frozen=True):
    """Sets columns of ``user_enrolments``: these and ``datetime``, which is the clock's; ``content_status`` is added.

    ``completedon`` is set only where it is not None.
    """

    status: int
    progress: int
    content_status: Mapping[str, int]
    completed_on_ms: int | None = None


class ContentCounts(msgspec.Struct, frozen=True):
    """Sets both counts of a row of ``user_content_consumption``, each USING TIMESTAMP its own time.

    The two must be written as one: in one statement where the times are the same, else in one batch.
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
    """What one content of an event came to, as the metrics name it."""

    WRITTEN = "written"
    REPLAYED = "replayed"
    DUPLICATE = "duplicate"


class Result(msgspec.Struct, frozen=True):
    """What one event came to. The effects are in the order of the event's contents."""

    effects: tuple[Effect, ...]
    messages: tuple[Message, ...]

    @property
    def effect(self) -> Effect:
        """That of the whole event: the first of :class:`Effect` that one of its contents has."""
        return next(effect for effect in Effect if effect in self.effects)


class Decision(msgspec.Struct, frozen=True):
    """What to write, first ``aggregates`` and then ``learner``, and what to send when all is written.

    ``aggregates`` are stages: the writes of one may be executed in any order or at once, but none before those of the
    stage before are done. A course's first ``completedCount`` comes after those of its units, since it marks the
    enrolment as known, after which no other units are looked at.

    ``learner`` are writes to the learner's partition, to be executed in their order or, as many as fit into one batch,
    at once: a replica applies such a batch as a whole. The counts of the contents come last, since they mark the events
    as counted.

    ``results`` are those of the events in their order.
    """

    aggregates: tuple[tuple[CompletedCount, ...], ...]
    learner: tuple[EnrolmentChange | ContentCounts, ...]
    results: tuple[Result, ...]


def contents_to_locate(stored: Stored, events: Sequence[ContentsCompleted], settings: Settings) -> set[str]:
    """The contents whose ancestors :func:`decide` needs, possibly some more."""
    if not settings.module_aggs:
        return set()
    contents = {content_id for event in events for content_id in event.content_ids}
    return contents if stored.is_known else contents.union(content.content_id for content in stored.contents)


def decide(
    enrolment: EnrolmentKey,
    events: Sequence[ContentsCompleted],
    stored: Stored,
    relations: Relations,
    settings: Settings,
) -> Decision:
    """Applies the events of one enrolment to its stored rows, in the order in which they arrived."""
    contents = {content.content_id: content for content in stored.contents}
    statuses = {content.content_id: _status(content) for content in stored.contents}
    completed = {content_id for content_id, status in statuses.items() if status >= COMPLETED}
    learner = _Learner(stored.enrolment)
    counted: dict[str, ContentCounts] = {}
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
        if Effect.WRITTEN in effects:
            learner.advance(event.time_ms, relations.required, completed, statuses)
        if learner.was_completed_at(event.time_ms):
            to_send += _completion_messages(event, settings)
        results.append(Result(tuple(effects), tuple(to_send)))
    if not counted:
        return Decision((), (), tuple(results))

    course = CompletedCount(enrolment.course_id, float(len(relations.required & completed)))
    units: tuple[CompletedCount, ...] = ()
    if settings.module_aggs:
        units = _unit_counts(enrolment, counted if stored.is_known else contents, relations, completed)
    aggregates = ((*units, course),) if stored.is_known else (units, (course,))
    return Decision(aggregates, (*learner.change(), *counted.values()), tuple(results))


def _status(content: Content) -> int:
    """The status of a content: the stored one, at least 2 where a completion is counted, 1 where nothing is known.

    The API publishes before it writes, so a completion may be counted while its row still says 1, or nothing.
    """
    status = IN_PROGRESS if content.status is None else content.status
    return max(status, COMPLETED) if content.completed_count else status


def _effect(content: Content, time_ms: int, settings: Settings) -> Effect:
    counted_us = content.completed_time_us
    if not content.completed_count or counted_us is None:
        return Effect.WRITTEN
    time_us = time_ms * 1000
    if time_us == counted_us or (time_us < counted_us and content.view_time_us == counted_us + _mark_us(time_ms)):
        return Effect.REPLAYED
    return Effect.WRITTEN if time_us >= counted_us + settings.recount_after_ms * 1000 else Effect.DUPLICATE


def _count(content: Content, time_ms: int) -> ContentCounts:
    """The counts with one more completion.

    Both are written at the event time, by which the event is known if it comes again. Where the row holds a later
    write (the Scala job wrote at clock time) that would not be seen, so they are written just behind it, and the view
    count is late by a mark of the event time. The Scala job wrote both counts at once: no row of its bears a mark.
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
    """1 us to 1 s, the same for one pair of event times in a million.

    The divisor is prime, so that event times a round number of minutes or days apart differ, too.
    """
    return time_ms % 999_983 + 1


def _unit_counts(
    enrolment: EnrolmentKey, content_ids: Iterable[str], relations: Relations, completed: set[str]
) -> tuple[CompletedCount, ...]:
    """One for each unit that holds any of the contents, apart from units of which no leaf nodes are known."""
    ancestors = {content_id: relations.ancestors[content_id] for content_id in content_ids}
    return tuple(
        CompletedCount(unit_id, float(len(required & completed)))
        for unit_id in sorted(units_of(enrolment.course_id, ancestors))
        if (required := relations.units[unit_id]) is not None
    )


class _Learner:
    """The row of ``user_enrolments`` while events are applied to it; nothing changes where there is none."""

    def __init__(self, row: EnrolmentRow | None) -> None:
        self._row = None if row is None or row.is_phantom else row
        self._status = row.status if row else None
        self._completed_on_ms = row.completed_on_ms if row else None
        self._progress: int | None = None
        self._statuses: dict[str, int] = {}

    def advance(self, time_ms: int, required: frozenset[str], completed: set[str], statuses: Mapping[str, int]) -> None:
        """Applies an event with new completions, which are among ``completed`` and ``statuses`` already."""
        if self._row is None or self._status == COMPLETED:
            return
        self._progress = len(required & completed)
        self._statuses = dict(statuses)
        if required <= completed:
            self._status, self._completed_on_ms = COMPLETED, time_ms
        else:
            self._status = IN_PROGRESS

    def was_completed_at(self, time_ms: int) -> bool:
        """Whether the event with this time is the one that completed the course, now or before."""
        return self._row is not None and self._status == COMPLETED and self._completed_on_ms == time_ms

    def change(self) -> tuple[EnrolmentChange, ...]:
        """What has to be written, if anything; of the contents' statuses those that the row lacks or has lower."""
        if self._row is None or self._status is None or self._progress is None:
            return ()
        known = self._row.content_status or {}
        content_status = {key: status for key, status in self._statuses.items() if status > known.get(key, -1)}
        completed_on_ms = self._completed_on_ms if self._status == COMPLETED else None
        return (EnrolmentChange(self._status, self._progress, content_status, completed_on_ms),)


def _content_audits(event: ContentsCompleted, content: Content, settings: Settings) -> list[Message]:
    """The AUDIT events of the first view and the first completion, if ``content`` holds this event as the first one."""
    audits = []
    if content.view_count == 1:
        audits.append(_audit(event, "start", ("viewcount",), settings, content.content_id))
    if content.completed_count == 1:
        audits.append(_audit(event, "complete", ("viewcount", "completedcount"), settings, content.content_id))
    return audits


def _completion_messages(event: ContentsCompleted, settings: Settings) -> tuple[Message, ...]:
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
    event: ContentsCompleted, action: str, props: Sequence[str], settings: Settings, content_id: str | None = None
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
