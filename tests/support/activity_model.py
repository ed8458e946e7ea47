"""The activity aggregate updater on tables in memory, to be killed between any two of its effects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from random import Random
from typing import Any

from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from common.domain.relations import ancestors_key, leaf_nodes_key, optional_nodes_key
from jobs.activity_aggregate_updater.events import ContentsCompleted, EnrolmentSync, LearnerEvent
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow
from jobs.activity_aggregate_updater.relations import Relations, leaf_nodes, units_of
from jobs.activity_aggregate_updater.rules import (
    CompletedCount,
    Content,
    ContentCounts,
    Result,
    Settings,
    Stored,
    contents_to_locate,
    decide,
)

COURSE = "do_course"
ASHA = EnrolmentKey("asha", COURSE, "b1")
AGAIN = EnrolmentKey("asha", COURSE, "b2")
LEARNERS = [ASHA, EnrolmentKey("ravi", COURSE, "b1"), AGAIN]
SETTINGS = Settings(audit_topic="audit", certificate_topic="certificate")

SECOND = 1_000
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
T0 = 1_715_657_560_123
"""An event time."""


def completed(*content_ids: str, at: int = T0, by: EnrolmentKey = ASHA) -> ContentsCompleted:
    return ContentsCompleted(by, content_ids, at)


def sync(at: int = T0, by: EnrolmentKey = ASHA) -> EnrolmentSync:
    return EnrolmentSync(by, at)


@dataclass
class RelationCache:
    """The sets in Redis: units hold contents, the course holds all of them."""

    units: Mapping[str, Sequence[str]]
    optional: Sequence[str] = ()
    course_id: str = COURSE
    sets: dict[str, frozenset[str]] = field(init=False)

    def __post_init__(self) -> None:
        collections = {
            **self.units,
            self.course_id: sorted({leaf for leaves in self.units.values() for leaf in leaves}),
        }
        self.sets = {}
        for collection, leaves in collections.items():
            self.sets[leaf_nodes_key(self.course_id, collection)] = frozenset(leaves)
            self.sets[optional_nodes_key(self.course_id, collection)] = frozenset(leaves) & set(self.optional)
            for leaf in leaves:
                key = ancestors_key(self.course_id, leaf)
                self.sets[key] = self.sets.get(key, frozenset()) | {collection}

    @property
    def required(self) -> frozenset[str]:
        required = self.required_of(self.course_id)
        assert required is not None
        return required

    def required_of(self, collection: str) -> frozenset[str] | None:
        nodes = leaf_nodes(
            self.sets.get(leaf_nodes_key(self.course_id, collection), frozenset()),
            self.sets.get(optional_nodes_key(self.course_id, collection), frozenset()),
        )
        return None if nodes is None else nodes.required

    def relations(self, content_ids: Iterable[str]) -> Relations:
        ancestors = {
            content_id: self.sets.get(ancestors_key(self.course_id, content_id), frozenset())
            for content_id in content_ids
        }
        units = {unit: self.required_of(unit) for unit in units_of(self.course_id, ancestors)}
        return Relations(self.required, ancestors, units)


class Tables:
    """The tables as Cassandra keeps them: per cell the write with the latest time, of equal times the greater value.

    A cell is found by table, key and column; a column of a map, by its name and the key of the entry.
    """

    def __init__(self) -> None:
        self.cells: dict[tuple[Any, ...], tuple[int, Any]] = {}
        self.clock_us = (T0 + 100 * DAY) * 1000

    def copy(self) -> "Tables":
        other = Tables()
        other.cells, other.clock_us = dict(self.cells), self.clock_us
        return other

    def put(self, *cell: Any, value: Any, time_us: int | None = None) -> None:
        self.clock_us += 1
        written = (self.clock_us if time_us is None else time_us, value)
        if cell not in self.cells or self.cells[cell] < written:
            self.cells[cell] = written

    def put_content(self, enrolment: EnrolmentKey, content: Content) -> None:
        """A row of other writers: the API's status, the Scala job's counts."""
        key = ("consumption", enrolment, content.content_id)
        if content.status is not None:
            self.put(*key, "status", value=content.status)
        if content.view_count is not None:
            self.put(*key, "viewcount", value=content.view_count, time_us=content.view_time_us)
        if content.completed_count is not None:
            self.put(*key, "completedcount", value=content.completed_count, time_us=content.completed_time_us)

    def enrol(self, enrolment: EnrolmentKey, **columns: Any) -> None:
        for column, value in (columns or {"active": True, "status": 0}).items():
            self.put("enrolments", enrolment, column, value=value)

    def stored(self, enrolment: EnrolmentKey) -> Stored:
        ids = dict.fromkeys(cell[2] for cell in self.cells if cell[:2] == ("consumption", enrolment))
        return Stored(
            contents=[self.content(enrolment, content_id) for content_id in ids],
            enrolment=self._enrolment(enrolment),
            is_known=("aggregates", enrolment, enrolment.course_id) in self.cells,
        )

    def content(self, enrolment: EnrolmentKey, content_id: str) -> Content:
        def cell(column: str) -> tuple[int | None, Any]:
            return self.cells.get(("consumption", enrolment, content_id, column), (None, None))

        (view_us, views), (completed_us, completions) = cell("viewcount"), cell("completedcount")
        return Content(content_id, cell("status")[1], views, completions, view_us, completed_us)

    def _enrolment(self, enrolment: EnrolmentKey) -> EnrolmentRow | None:
        row = {cell[2:]: value for cell, (_, value) in self.cells.items() if cell[:2] == ("enrolments", enrolment)}
        if not row:
            return None
        entries = {column[1]: value for column, value in row.items() if column[0] == "contentstatus"}
        columns = ("active", "status", "completedon", "progress")
        active, status, completed_on, progress = (row.get((column,)) for column in columns)
        return EnrolmentRow(active, status, completed_on, entries or None, progress)

    def write(self, enrolment: EnrolmentKey, write: CompletedCount | EnrolmentChange | ContentCounts) -> None:
        if isinstance(write, CompletedCount):
            self.put("aggregates", enrolment, write.activity_id, value=write.value)
        elif isinstance(write, EnrolmentChange):
            self.put("enrolments", enrolment, "status", value=write.status)
            self.put("enrolments", enrolment, "progress", value=write.progress)
            if write.completed_on_ms is not None:
                self.put("enrolments", enrolment, "completedon", value=write.completed_on_ms)
            for content_id, status in write.content_status.items():
                self.put("enrolments", enrolment, "contentstatus", content_id, value=status)
        else:
            key = ("consumption", enrolment, write.content_id)
            self.put(*key, "viewcount", value=write.view_count, time_us=write.view_time_us)
            self.put(*key, "completedcount", value=write.completed_count, time_us=write.completed_time_us)

    def completed_counts(self, enrolment: EnrolmentKey = ASHA) -> dict[str, float]:
        return {cell[2]: value for cell, (_, value) in self.cells.items() if cell[:2] == ("aggregates", enrolment)}

    def rows(self, *enrolments: EnrolmentKey) -> dict[tuple[Any, ...], Any]:
        """All values, with their write time where that is an event time; of these enrolments, or of all."""
        return {
            cell: (value, time_us) if cell[-1] in ("viewcount", "completedcount") else value
            for cell, (time_us, value) in self.cells.items()
            if not enrolments or cell[1] in enrolments
        }


class Killed(Exception):
    """Nothing of the process is left: neither the writes still to do nor the messages still to send."""


class Updater:
    """One process of the job, which starts with its first event and ends when it is killed or has no more events."""

    def __init__(
        self,
        tables: Tables,
        cache: RelationCache,
        settings: Settings = SETTINGS,
        effects: int | None = None,
        shuffle: Random | None = None,
    ) -> None:
        """Killed after so many ``effects``, writes or messages; ``shuffle`` decides on the order within a stage.

        The learner's writes are executed one by one. Where they share a batch some of these kills cannot happen.
        """
        self.tables = tables
        self.cache = cache
        self.settings = settings
        self.effects = effects
        self.shuffle = shuffle or Random(0)
        self.sent: list[Message] = []
        self.applied = 0
        """Events of whole batches: behind them the process may take a checkpoint."""

    def run(self, events: Sequence[LearnerEvent], batch_sizes: Iterable[int] = ()) -> list[Result]:
        """Applies the events in batches of these sizes, then one by one, and gives the result of each event."""
        results: list[Result] = []
        for batch in batches(events, batch_sizes):
            results += self._apply(batch)
            self.applied += len(batch)
        return results

    def _apply(self, batch: Sequence[LearnerEvent]) -> list[Result]:
        groups: dict[EnrolmentKey, list[int]] = {}
        for index, event in enumerate(batch):
            groups.setdefault(event.enrolment, []).append(index)
        results: dict[int, Result] = {}
        for enrolment, indexes in groups.items():
            stored = self.tables.stored(enrolment)
            events = [batch[index] for index in indexes]
            relations = self.cache.relations(contents_to_locate(stored, events, self.settings))
            decision = decide(enrolment, events, stored, relations, self.settings)
            aggregates = [self.shuffle.sample(stage, len(stage)) for stage in decision.aggregates]
            for write in chain(*aggregates, decision.learner):
                self._effect()
                self.tables.write(enrolment, write)
            results.update(zip(indexes, decision.results, strict=True))
        for index in range(len(batch)):
            for message in results[index].messages:
                self._effect()
                self.sent.append(message)
        return [results[index] for index in range(len(batch))]

    def _effect(self) -> None:
        if self.effects is not None:
            if self.effects == 0:
                raise Killed
            self.effects -= 1


def batches(events: Sequence[LearnerEvent], sizes: Iterable[int]) -> Iterator[Sequence[LearnerEvent]]:
    position = 0
    remaining = iter(sizes)
    while position < len(events):
        size = next(remaining, 1)
        yield events[position : position + size]
        position += size
