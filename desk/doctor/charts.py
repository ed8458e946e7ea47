"""Puts the charts of many learners together, from Cassandra, the caches and the APIs."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from cachetools import LRUCache

from common.domain.aggregates import SCORE, contents_of
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from common.servers.redis import RedisClient
from desk.config import DeskConfig, settings_of
from desk.doctor import relation_sets
from desk.doctor.certificate_checks import may_need_user
from desk.doctor.chart import Chart, UnitRow
from desk.doctor.checks import examine
from desk.doctor.findings import Check, Finding
from desk.doctor.relation_sets import RelationSets, Sets
from desk.doctor.requested import Requested
from desk.doctor.store import Contents, Enrolment, Store
from desk.explanation.settings import JobSettings
from desk.records import Batch, Course, LearnerRecord, LearnerRows
from desk.sources import Sources
from desk.store import Store as DeskStore
from jobs.activity_aggregate_updater.rules import Settings as ProgressSettings
from jobs.collection_cert_pre_processor.templates import Templates

MAX_REMEMBERED = 10_000
"""Batches with their templates, and 10 times as many types of contents; about 1 KB each."""

NEED_TYPES = frozenset({Check.CERTIFICATES, Check.CUT})
"""The checks that need the types of contents, where a template asks for a score."""
NEED_TEMPLATES = NEED_TYPES | {Check.SCORES, Check.DETAILS, Check.PROGRESS}
"""The checks that need the templates of the batch: also those whose remedy asks for certificates."""


class Doctor:
    """Reads charts and examines them; from :func:`open_doctor`."""

    def __init__(self, config: DeskConfig, checks: Collection[Check], requested: Requested) -> None:
        """Connects to nothing yet. To be called inside the event loop."""
        metrics = Metrics()
        self.config = config
        self.checks = frozenset(checks)
        self._requested = requested
        self._cassandra = Cassandra(config.cassandra, metrics)
        self._redis = RedisClient(config.redis, config.redis.relation_database)
        self._batch_store = DeskStore(config, metrics)
        self._sources = Sources(config, metrics)
        self._relations = RelationSets(self._redis)
        self.store = Store(self._cassandra, config.cassandra.keyspace, with_questions=Check.DETAILS in self.checks)
        self._settings = doctor_settings(config)
        self._batches: LRUCache[tuple[str, str], Batch] = LRUCache(MAX_REMEMBERED)
        self._types: LRUCache[str, str | Refused | None] = LRUCache(10 * MAX_REMEMBERED)

    async def open(self) -> None:
        """Connects. Raises WorldFault and TaskFault; :meth:`close` is to be called then, too."""
        await self._cassandra.open()
        await self.store.prepare()
        await self._redis.open()
        await self._batch_store.open()

    async def close(self) -> None:
        """Closes all connections."""
        for resource in (self._sources, self._batch_store, self._redis, self._cassandra):
            await resource.close()

    async def examine_keys(self, keys: Iterable[EnrolmentKey]) -> list[Finding]:
        """All findings about these enrolments, a page at a time. Raises WorldFault and TaskFault."""
        findings: list[Finding] = []
        all_keys = list(dict.fromkeys(keys))
        for start in range(0, len(all_keys), self.config.page_size):
            page = all_keys[start : start + self.config.page_size]
            findings += await self.examine(await self.store.enrolments(page))
        return findings

    async def examine(self, enrolments: Sequence[Enrolment]) -> list[Finding]:
        """All findings about a page of enrolments. Raises WorldFault and TaskFault."""
        return [
            finding
            for chart in await self.charts(enrolments)
            for finding in examine(chart, self.checks, self._settings)
        ]

    async def charts(self, enrolments: Sequence[Enrolment]) -> list[Chart]:
        """The charts of a page of enrolments, in their order. Raises WorldFault and TaskFault."""
        keys = [enrolment.key for enrolment in enrolments]
        # One after the other: each is a page of concurrent reads, and other token ranges are read meanwhile.
        contents = await self.store.contents(keys)
        attempts = await self.store.attempts(keys)
        aggregates = await self.store.aggregates(keys)
        sets = await self._relations.of(self._located_by_course(keys, contents))
        units = await self._units(keys, contents, sets)
        batches = await self._batches_of(keys)
        now_ms = time.time_ns() // 1_000_000
        charts = []
        for enrolment, content, attempt, (row, times), batch in zip(
            enrolments, contents, attempts, aggregates, batches, strict=True
        ):
            key = enrolment.key
            record = LearnerRecord(
                key,
                now_ms,
                Course(key.course_id, key.course_id, relation_sets.of_course(key.course_id, sets)),
                batch,
                LearnerRows(enrolment.row, content.rows, attempt.rows, row),
            )
            charts.append(
                Chart(
                    record,
                    relation_sets.of_contents(key.course_id, self._located(content), sets),
                    units[key],
                    attempt.answers,
                    [*enrolment.times, *content.times, *attempt.times, *times],
                    self._requested.of(key),
                )
            )
        return await self._with_accounts(await self._with_types(charts))

    async def _units(
        self, keys: Sequence[EnrolmentKey], contents: Sequence[Contents], sets: Sets
    ) -> dict[EnrolmentKey, dict[str, UnitRow]]:
        """The row of each unit that holds any of a learner's contents."""
        found: dict[EnrolmentKey, dict[str, UnitRow]] = {key: {} for key in keys}
        if Check.PROGRESS not in self.checks:
            return found
        wanted = [
            (key, unit_id)
            for key, of_learner in zip(keys, contents, strict=True)
            for unit_id in sorted(relation_sets.units_of(key.course_id, self._located(of_learner), sets))
        ]
        for (key, unit_id), row in zip(wanted, await self.store.units(wanted), strict=True):
            found[key][unit_id] = row
        return found

    def _located_by_course(self, keys: Sequence[EnrolmentKey], contents: Sequence[Contents]) -> dict[str, set[str]]:
        found = defaultdict[str, set[str]](set)
        for key, of_learner in zip(keys, contents, strict=True):
            found[key.course_id].update(self._located(of_learner))
        return found

    def _located(self, contents: Contents) -> list[str]:
        """The contents whose units are needed: as in the job, none if it does not count units."""
        return [row.content.content_id for row in contents.rows] if self._settings.progress.module_aggs else []

    async def _batches_of(self, keys: Sequence[EnrolmentKey]) -> list[Batch]:
        if not NEED_TEMPLATES & self.checks:
            return [_without_templates(key) for key in keys]
        found: dict[tuple[str, str], Batch] = {}
        for ids in dict.fromkeys(key[1:] for key in keys):
            if (batch := self._batches.get(ids)) is None:
                self._batches[ids] = batch = await self._batch_store.batch(*ids)
            found[ids] = batch
        return [found[key[1:]] for key in keys]

    async def _with_types(self, charts: Sequence[Chart]) -> list[Chart]:
        """With the types of the contents that have a score, where a template asks for one."""
        scored = {
            index: {*contents_of(SCORE, chart.record.aggregates.merged), *_attempted(chart)}
            for index, chart in enumerate(charts)
            if chart.record.batch.templates.need_aggregates and NEED_TYPES & self.checks
        }
        wanted = sorted(set().union(*scored.values()))
        missing = [content_id for content_id in wanted if content_id not in self._types]
        types: dict[str, str | Refused | None] = {
            content_id: self._types[content_id] for content_id in wanted if content_id in self._types
        }
        if missing:
            found = (await self._sources.known_contents((), missing)).types
            types.update(found)
            # What is refused may be had later: an API has failed for this content alone.
            self._types.update({key: value for key, value in found.items() if not isinstance(value, Refused)})
        return [
            replace(chart, record=replace(chart.record, content_types=types)) if index in scored else chart
            for index, chart in enumerate(charts)
        ]

    async def _with_accounts(self, charts: Sequence[Chart]) -> list[Chart]:
        """With the user's account and the course's name, where a certificate seems to be missing."""
        if Check.CERTIFICATES not in self.checks:
            return list(charts)
        candidates = [chart for chart in charts if may_need_user(chart, self._settings)]
        names = await self._sources.course_names(sorted({chart.record.key.course_id for chart in candidates}))
        asked_for = [chart.record.key.user_id for chart in candidates]
        others = sorted({chart.record.key.user_id for chart in charts}.difference(asked_for))
        users = await self._sources.users(asked_for, others)
        completed = {
            chart.record.key: replace(
                chart,
                record=replace(
                    chart.record,
                    user=user,
                    course=replace(chart.record.course, name=names[chart.record.key.course_id]),
                ),
            )
            for chart, user in zip(candidates, users, strict=True)
        }
        return [completed.get(chart.record.key, chart) for chart in charts]


def doctor_settings(config: DeskConfig) -> JobSettings:
    """As for an explanation, but with the units, if the job counts them."""
    progress = ProgressSettings(audit_topic="", certificate_topic="", module_aggs=config.module_aggs)
    return replace(settings_of(config), progress=progress)


@asynccontextmanager
async def open_doctor(config: DeskConfig, checks: Collection[Check]) -> AsyncIterator[Doctor]:
    """Connects, and closes at the end. Raises WorldFault and TaskFault."""
    requested = Requested()
    if NEED_TEMPLATES.intersection(checks):
        await asyncio.to_thread(requested.read, config.kafka)
    doctor = Doctor(config, checks, requested)
    try:
        await doctor.open()
        yield doctor
    finally:
        await doctor.close()


def _attempted(chart: Chart) -> set[str]:
    return {attempt.content_id for attempt in chart.record.attempts}


def _without_templates(key: EnrolmentKey) -> Batch:
    return Batch(key.course_id, key.batch_id, Templates((), ()))
