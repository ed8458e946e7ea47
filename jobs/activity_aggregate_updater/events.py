"""The events of the activity aggregate updater. Pure.

They say which contents a learner has completed (topic ``coursebatch.job.request``), or that the rows of an enrolment
are to be brought in line with them (topic ``batch.enrolment.sync.request``). ``edata.action`` tells them apart.
"""

from typing import Any

import msgspec

from common.domain import events
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent, Skip, check_key_length, growth_limit, require_text, require_time_ms
from common.domain.messages import SYNC_ENROLMENT

JOB = "ActivityAggregateUpdater"
COMPLETE_CONTENTS = "batch-enrolment-update"
IN_PROGRESS = 1
COMPLETED = 2
"""``status`` of a content and of an enrolment."""


class ContentsCompleted(msgspec.Struct, frozen=True, gc=False):
    """One valid event at ``time_ms``; ``content_ids`` holds at least one id, none of them blank or twice."""

    enrolment: EnrolmentKey
    content_ids: tuple[str, ...]
    time_ms: int


class EnrolmentSync(msgspec.Struct, frozen=True, gc=False):
    """A valid request of ``time_ms`` to bring an enrolment in line with the stored contents (rule U9)."""

    enrolment: EnrolmentKey
    time_ms: int

    @property
    def content_ids(self) -> tuple[str, ...]:
        """None: the request names no contents."""
        return ()


LearnerEvent = ContentsCompleted | EnrolmentSync


class _Edata(msgspec.Struct, rename="camel"):
    """Fields may have any type, because other actions use the topic too and may use the same names."""

    action: Any = None
    user_id: Any = None
    course_id: Any = None
    batch_id: Any = None
    contents: Any = None


class _Event(msgspec.Struct):
    edata: _Edata | None = None
    ets: Any = None


_EVENT = msgspec.json.Decoder(_Event)


def decode(value: bytes, timestamp_ms: int) -> LearnerEvent | Skip:
    """Decodes one Kafka value (rules U1 and U9). ``timestamp_ms`` is its Kafka timestamp, used if ``ets`` is missing.

    Skips ``other_action``, also for an event without an action, and ``no_completed_content`` if no entry of
    ``contents`` counts. An entry counts if it is an object with a non-blank text ``contentId`` and the number 2 as
    ``status``. Any other entry is ignored, whatever it is.

    Raises BadEvent, with the path of the field, for a value that is not a JSON object, for a field of the action that
    is missing or has the wrong type, and ``too_large`` for ids that do not fit into the keys of the tables, or that are
    long in an event with many contents.
    """
    event = events.decode(_EVENT, value)
    edata = event.edata
    if edata is None or not isinstance(edata.action, str):
        return Skip("other_action")
    action = edata.action.lower()
    if action not in (COMPLETE_CONTENTS, SYNC_ENROLMENT):
        return Skip("other_action")
    enrolment = EnrolmentKey(
        user_id=_text("edata.userId", edata.user_id),
        course_id=_text("edata.courseId", edata.course_id),
        batch_id=_text("edata.batchId", edata.batch_id),
    )
    time_ms = _event_time(event.ets, timestamp_ms)
    if action == SYNC_ENROLMENT:
        _check_key_lengths(enrolment, ())
        return EnrolmentSync(enrolment, time_ms)
    content_ids = _completed(edata.contents)
    if not content_ids:
        return Skip("no_completed_content")
    _check_key_lengths(enrolment, content_ids)
    _check_growth(value, enrolment, content_ids)
    return ContentsCompleted(enrolment, content_ids, time_ms)


def _text(path: str, value: object) -> str:
    if value is not None and not isinstance(value, str):
        raise BadEvent("wrong_type", f"event has a wrong {path}: a text is required")
    return require_text(path, value)


def _event_time(ets: object, timestamp_ms: int) -> int:
    if ets is None:
        # 0 stands for a record without a timestamp.
        return require_time_ms("ets and no Kafka timestamp", timestamp_ms or None)
    if isinstance(ets, bool) or not isinstance(ets, int | float):
        raise BadEvent("wrong_type", "event has a wrong ets: a time in ms is required")
    return require_time_ms("ets", ets)


def _completed(contents: object) -> tuple[str, ...]:
    if contents is None:
        raise BadEvent("missing_field", "event has no edata.contents: a list is required")
    if not isinstance(contents, list):
        raise BadEvent("wrong_type", "event has a wrong edata.contents: a list is required")
    # In the order of the list, each content once.
    return tuple(dict.fromkeys(content_id for entry in contents if (content_id := _completed_content(entry))))


def _completed_content(entry: object) -> str | None:
    if not isinstance(entry, dict):
        return None
    content_id = entry.get("contentId")
    # Of all that JSON can hold, only the numbers 2 and 2.0 are equal to 2.
    if entry.get("status") != COMPLETED or not isinstance(content_id, str) or not content_id.strip():
        return None
    return content_id


def _check_key_lengths(enrolment: EnrolmentKey, content_ids: tuple[str, ...]) -> None:
    user_id, course_id, batch_id = enrolment
    longest = max(content_ids, key=lambda content_id: len(content_id.encode()), default="")
    check_key_length("userId and courseId", user_id, course_id)
    check_key_length("courseId, batchId and contentId", course_id, batch_id, longest)


def _check_growth(value: bytes, enrolment: EnrolmentKey, content_ids: tuple[str, ...]) -> None:
    """The AUDIT events ``start`` and ``complete`` of each content repeat the ids of the learner, course and batch."""
    copies = 2 * len(content_ids) * sum(len(one.encode()) for one in enrolment)
    limit = growth_limit(len(value))
    if copies > limit:
        raise BadEvent(
            "too_large",
            f"event has {len(content_ids)} completed contents and long ids: they would take {copies} bytes in its "
            f"AUDIT events, and may take {limit}",
        )
