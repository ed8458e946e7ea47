"""The row of ``user_enrolments``, and how completions and syncs change it. Pure."""

from collections.abc import Mapping

import msgspec

from jobs.activity_aggregate_updater.events import COMPLETED, IN_PROGRESS


class EnrolmentRow(msgspec.Struct, frozen=True):
    """A row of ``user_enrolments``; None stands for an unset column."""

    active: bool | None
    status: int | None
    completed_on_ms: int | None
    content_status: Mapping[str, int] | None
    progress: int | None

    @property
    def is_phantom(self) -> bool:
        """Whether the learner is not enrolled: the content state update writes its last-read columns in any case."""
        return self.active is None and self.status is None


class EnrolmentChange(msgspec.Struct, frozen=True):
    """Sets these columns of ``user_enrolments``, and ``datetime`` to the time of the write.

    ``content_status`` is added to the map. ``completedon`` is set only if ``completed_on_ms`` is not None.
    """

    status: int
    progress: int
    content_status: Mapping[str, int]
    completed_on_ms: int | None = None


class Progress:
    """Rule U6: the progress of an enrolment while events are applied to it. Without a row nothing changes."""

    def __init__(self, row: EnrolmentRow | None) -> None:
        self._row = None if row is None or row.is_phantom else row
        self._status = row.status if row else None
        self._completed_on_ms = row.completed_on_ms if row else None
        self._stored_progress = (row.progress if row else None) or 0
        self._progress: int | None = None
        self._statuses: dict[str, int] = {}

    def advance(self, time_ms: int, required: frozenset[str], completed: set[str], statuses: Mapping[str, int]) -> None:
        """Applies an event with new completions, which ``completed`` and ``statuses`` hold already."""
        if self._row is None or self._status == COMPLETED:
            return
        self._progress = len(required & completed)
        self._statuses = dict(statuses)
        if required <= completed:
            self._status, self._completed_on_ms = COMPLETED, time_ms
        else:
            self._status = IN_PROGRESS

    def sync(self, time_ms: int, required: frozenset[str], completed: set[str], statuses: Mapping[str, int]) -> None:
        """Applies a sync (rule U9). Unlike a completion it lowers neither ``progress`` nor a status above 1."""
        status = self._status
        progress = self._stored_progress if self._progress is None else self._progress
        self.advance(time_ms, required, completed, statuses)
        if self._progress is not None:
            self._progress = max(self._progress, progress)
        if status and self._status == IN_PROGRESS:
            self._status = status

    def was_completed_at(self, time_ms: int) -> bool:
        """Whether the event of this time completed the course, now or earlier."""
        return self._row is not None and self._status == COMPLETED and self._completed_on_ms == time_ms

    def change(self) -> tuple[EnrolmentChange, ...]:
        """What has to be written, if anything. Of the contents' statuses: those that the row lacks or has lower."""
        if self._row is None or self._status is None or self._progress is None:
            return ()
        known = self._row.content_status or {}
        content_status = {key: status for key, status in self._statuses.items() if status > known.get(key, -1)}
        completed_on_ms = self._completed_on_ms if self._status == COMPLETED else None
        return (EnrolmentChange(self._status, self._progress, content_status, completed_on_ms),)
