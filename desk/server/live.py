"""Keeps the figures of the batches that somebody looks at up to date, by scanning again and again."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from common.domain.aggregates import SCORE, contents_of
from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from desk.explanation.settings import JobSettings
from desk.figures import Figures, units_of
from desk.reader import Reader
from jobs.activity_aggregate_updater.relations import LeafNodes

PAUSE_FACTOR = 4
"""A scan is not begun before so many times the time of the last one has passed: at most a fifth of the time is spent
on scans, however large the table is."""

MAX_SCANS = 2
"""Batches that are scanned at the same time. Each scan reads the whole table of enrolments."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The figures of a batch as of ``read_at_ms``, with the names of units and contents."""

    figures: Figures
    names: Mapping[str, str]
    read_at_ms: int
    seconds: float


@dataclass(slots=True)
class _Entry:
    snapshot: Snapshot | None = None
    task: "asyncio.Task[Snapshot] | None" = None
    due: float = 0.0
    fault: Exception | None = None
    """Why the last scan has failed."""


class LiveFigures:
    """The figures by batch. They are read when somebody asks, at most as often as configured."""

    def __init__(self, reader: Reader, settings: JobSettings) -> None:
        """``reader`` is open."""
        self._reader = reader
        self._settings = settings
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._turns = asyncio.Semaphore(MAX_SCANS)

    async def snapshot(self, course_id: str, batch_id: str, *, wait_seconds: float) -> Snapshot | None:
        """The latest figures; None if the first scan has not ended within ``wait_seconds``.

        Raises WorldFault, TaskFault and StatementError if there are none because the last scan has failed.
        """
        entry = self._entry((course_id, batch_id))
        if entry.task is not None and entry.task.done():
            self._take(entry)
        if entry.task is None and time.monotonic() >= entry.due:
            entry.task = asyncio.create_task(self._scan_in_turn(course_id, batch_id))
        task = entry.task
        if task is not None and entry.snapshot is None:
            await asyncio.wait({task}, timeout=wait_seconds)
            if task.cancelled():
                return None  # others have asked for so many batches meanwhile that this one was dropped
            # Somebody else who waited for the same scan may have taken it.
            if entry.task is task and task.done():
                self._take(entry)
        if entry.snapshot is None and entry.fault is not None:
            # Without the frames of earlier requests. Each time it is raised it would keep some more of them.
            raise entry.fault.with_traceback(None)
        return entry.snapshot

    async def close(self) -> None:
        """Ends all scans."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _entry(self, key: tuple[str, str]) -> _Entry:
        entry = self._entries.setdefault(key, _Entry())
        self._entries.move_to_end(key)
        while len(self._entries) > self._reader.config.server.max_batches:
            _, oldest = self._entries.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()
        return entry

    def _take(self, entry: _Entry) -> None:
        """Takes over what a scan that has ended found."""
        task, entry.task = entry.task, None
        assert task is not None
        pause = float(self._reader.config.server.refresh_seconds)
        try:
            entry.snapshot, entry.fault = task.result(), None
            pause = max(pause, PAUSE_FACTOR * entry.snapshot.seconds)
        except Exception as fault:
            entry.fault = fault
            if not isinstance(fault, WorldFault | TaskFault | StatementError):
                raise
        finally:
            # Whatever has failed would fail again: each request would scan the table.
            entry.due = time.monotonic() + pause

    async def _scan_in_turn(self, course_id: str, batch_id: str) -> Snapshot:
        async with self._turns:
            return await self._scan(course_id, batch_id)

    async def _scan(self, course_id: str, batch_id: str) -> Snapshot:
        started = time.monotonic()
        store, sources = self._reader.store, self._reader.sources
        batch = await store.batch(course_id, batch_id)
        units, names = await self._units(course_id)
        figures = Figures(batch, units)
        types: dict[str, str | Refused | None] = {}
        async for page in store.enrolments(course_id, batch_id):
            rows = await store.aggregates(course_id, batch_id, [user_id for user_id, _ in page])
            scored = set().union(*(contents_of(SCORE, row.merged) for row in rows)) - types.keys()
            if scored:
                found = await sources.known_contents(sorted(scored), sorted(scored))
                types |= found.types
                names |= found.names
            for (user_id, enrolment), row in zip(page, rows, strict=True):
                figures.add(enrolment, row, types, self._settings, user_id)
        now_ms = time.time_ns() // 1_000_000
        return Snapshot(figures, names, now_ms, time.monotonic() - started)

    async def _units(self, course_id: str) -> tuple[dict[str, frozenset[str]], dict[str, str]]:
        """The required leaf nodes of each unit, and the names of the units. Empty where the caches know none."""
        sources = self._reader.sources
        nodes = await sources.leaf_nodes(course_id)
        if not isinstance(nodes, LeafNodes):
            return {}, {}
        above = await sources.ancestors(course_id, sorted(nodes.all))
        units = {
            unit_id: frozenset(contents & nodes.required) for unit_id, contents in units_of(above, course_id).items()
        }
        named = await sources.contents(sorted(units), ())
        return {unit_id: required for unit_id, required in sorted(units.items()) if required}, dict(named.names)
