"""The activity aggregate updater on real tables and a real Redis, filled from the model's and compared with them.

Everything has ids that no other test has: `Ids` renames what the model and the strategies call by fixed names.
"""

import random
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, Self, TypeVar
from unittest.mock import patch

import msgspec
import redis
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import SimpleStatement

from common.config.loader import load
from common.config.model import CassandraConfig
from common.domain.aggregates import COMPLETED_COUNT
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, to_time_ms
from common.domain.messages import Message, enrolment_sync
from common.flink.job import Outcome
from common.metrics import Key, Metrics
from common.servers.cassandra import Cassandra, Row, Statement, Write, next_timestamp_us
from jobs.activity_aggregate_updater import job as job_module
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.events import ContentsCompleted, EnrolmentSync, LearnerEvent
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater
from jobs.activity_aggregate_updater.rules import Settings
from local import generator
from local.servers import Redis
from local.world import World
from tests.support.activity_model import DAY, LEARNERS, T0, Killed, RelationCache, Tables, Updater, batches, completed
from tests.support.tables import Tables as CassandraTables

AnyEvent = TypeVar("AnyEvent", ContentsCompleted, EnrolmentSync)

CONSUMPTION, ENROLMENTS, AGGREGATES = "consumption", "enrolments", "aggregates"
SETTINGS = Settings(audit_topic="dev.telemetry.raw", certificate_topic="dev.issue.certificate.request")
"""Of a job with the configuration of :meth:`Servers.config`."""

TABLES = {CONSUMPTION: "user_content_consumption", ENROLMENTS: "user_enrolments"}

Rows = dict[tuple[Any, ...], Any]
"""As in `Tables.rows`."""


@dataclass(frozen=True)
class Ids:
    """A course and its learners under names of their own."""

    prefix: str = field(default_factory=lambda: uuid.uuid4().hex[:12])

    def enrolment(self, enrolment: EnrolmentKey) -> EnrolmentKey:
        return EnrolmentKey(*(f"{self.prefix}-{part}" for part in enrolment))

    def event(self, event: AnyEvent) -> AnyEvent:
        return msgspec.structs.replace(event, enrolment=self.enrolment(event.enrolment))

    def course(self, course: RelationCache) -> RelationCache:
        units = {f"{self.prefix}-{unit}": contents for unit, contents in course.units.items()}
        return RelationCache(units, course.optional, f"{self.prefix}-{course.course_id}")

    def tables(self, tables: Tables) -> Tables:
        renamed = tables.copy()
        renamed.cells = {
            (table, self.enrolment(enrolment), *column): cell
            for (table, enrolment, *column), cell in tables.cells.items()
        }
        return renamed


def value(event: LearnerEvent) -> bytes:
    """The event as the Course Service sends it."""
    user_id, course_id, batch_id = event.enrolment
    if isinstance(event, EnrolmentSync):
        return enrolment_sync("", user_id=user_id, course_id=course_id, batch_id=batch_id, time_ms=event.time_ms).value
    course = generator.Course(course_id, batch_id, ())
    return generator.encode(generator.completion(course, user_id, event.content_ids, event.time_ms))


class Servers:
    """The tables and the relation cache of the session's servers, in the terms of the model."""

    def __init__(self, world: World, session: Session, redis_server: Redis | None = None) -> None:
        """`redis_server` instead of the session's, which must not be killed."""
        self._world = world
        self._session = session
        self._rows = CassandraTables(session)
        self._redis = redis_server or world.redis

    def publish(self, course: RelationCache) -> None:
        """Replaces the sets of the course."""
        with self.relations() as client, client.pipeline(transaction=False) as pipeline:
            for key, members in course.sets.items():
                pipeline.delete(key)
                if members:
                    pipeline.sadd(key, *members)
            pipeline.execute()

    def relations(self) -> "redis.Redis":
        return self._redis.client(db=10, decode_responses=True)

    def put(self, tables: Tables) -> None:
        """Writes every cell of consumption and enrolments at its time."""
        statements = []
        for (table, enrolment, *column), (time_us, value) in tables.cells.items():
            keys = [*enrolment]
            where = "userid = %s AND courseid = %s AND batchid = %s"
            if table == CONSUMPTION:
                keys.append(column.pop(0))
                where += " AND contentid = %s"
            name, *entry = column
            change = f"{name}[%s] = %s" if entry else f"{name} = %s"
            update = f"UPDATE {TABLES[table]} USING TIMESTAMP {time_us} SET {change} WHERE {where}"
            statements.append((SimpleStatement(update), [*entry, value, *keys]))
        execute_concurrent(self._session, statements)

    def rows(self, enrolments: Iterable[EnrolmentKey], course: RelationCache) -> Rows:
        """What is there of these enrolments, but for columns that hold clock times."""
        rows: Rows = {}
        with ThreadPoolExecutor(10) as threads:
            for found in threads.map(lambda enrolment: self._rows_of(enrolment, course), enrolments):
                rows |= found
        return rows

    def _rows_of(self, enrolment: EnrolmentKey, course: RelationCache) -> Rows:
        rows: Rows = {**dict(self._contents(enrolment)), **dict(self._enrolment(enrolment))}
        for activity_id in (course.course_id, *course.units):
            if COMPLETED_COUNT in (aggregates := self.aggregates(enrolment, activity_id)):
                rows[AGGREGATES, enrolment, activity_id] = aggregates[COMPLETED_COUNT]
        return rows

    def _contents(self, enrolment: EnrolmentKey) -> Iterator[tuple[tuple[Any, ...], Any]]:
        found = self._session.execute(
            "SELECT contentid, status, viewcount, completedcount, WRITETIME(viewcount) AS view_us, "
            "WRITETIME(completedcount) AS completed_us FROM user_content_consumption "
            "WHERE userid = %s AND courseid = %s AND batchid = %s",
            enrolment,
        )
        for row in found:
            key = (CONSUMPTION, enrolment, row.contentid)
            if row.status is not None:
                yield (*key, "status"), row.status
            if row.viewcount is not None:
                yield (*key, "viewcount"), (row.viewcount, row.view_us)
            if row.completedcount is not None:
                yield (*key, "completedcount"), (row.completedcount, row.completed_us)

    def enrolment(self, enrolment: EnrolmentKey) -> Any:
        """The row of `user_enrolments`, None if there is none."""
        return self._rows.enrolment(enrolment)

    def _enrolment(self, enrolment: EnrolmentKey) -> Iterator[tuple[tuple[Any, ...], Any]]:
        row = self.enrolment(enrolment)
        if row is None:
            return
        key = (ENROLMENTS, enrolment)
        for column in ("active", "status", "progress", "lastreadcontentid"):
            if (value := getattr(row, column)) is not None:
                yield (*key, column), value
        if row.completedon is not None:
            yield (*key, "completedon"), to_time_ms(row.completedon.replace(tzinfo=UTC))
        for content_id, status in (row.contentstatus or {}).items():
            yield (*key, "contentstatus", content_id), status

    def aggregates_row(self, enrolment: EnrolmentKey, activity_id: str) -> Any:
        """The row of `user_activity_agg`, None if there is none."""
        return self._rows.aggregates(enrolment, activity_id)

    def aggregates(self, enrolment: EnrolmentKey, activity_id: str) -> dict[str, float]:
        row = self.aggregates_row(enrolment, activity_id)
        return dict(row.aggregates or {}) if row else {}

    def config(self, **environ: str) -> ActivityAggregateUpdaterConfig:
        """Of a job on these servers; `environ` has the names of the variables without their prefix."""
        own = {"SEARCH_API": "http://127.0.0.1:9/nobody", "REDIS__PORT": str(self._redis.port), **environ}
        variables = {f"AGGREGATES__{name}": value for name, value in own.items()}
        return load(ActivityAggregateUpdaterConfig, environ=self._world.job_environment() | variables)


class WatchedCassandra(Cassandra):
    """Counts requests. With `writes_left` it writes one request after the other, and raises when none is left."""

    def __init__(self, config: CassandraConfig, metrics: Metrics, writes_left: int | None = None) -> None:
        super().__init__(config, metrics)
        self.requests = 0
        self.writes_left = writes_left

    async def write(self, partitions: Iterable[Sequence[Write]]) -> None:
        batches = [writes for writes in partitions if writes]
        if self.writes_left is None:
            self.requests += len(batches)
            await super().write(batches)
            return
        for writes in batches:
            if self.writes_left == 0:
                raise Killed
            self.writes_left -= 1
            self.requests += 1
            await super().write([writes])

    async def read(self, statement: Statement, parameters: Sequence[Sequence[Any]]) -> list[list[Row]]:
        self.requests += len(parameters)
        return await super().read(statement, parameters)


@dataclass(frozen=True)
class Arrivals:
    """Completions of some learners at random, stored and published what they refer to, and what must come of them."""

    course: RelationCache
    learners: list[EnrolmentKey]
    events: list[ContentsCompleted]
    expected: list[list[Message]]
    """The messages of each event."""
    tables: Tables
    """With all of them applied."""

    @classmethod
    def random(
        cls,
        servers: Servers,
        config: ActivityAggregateUpdaterConfig,
        source: random.Random,
        units: Mapping[str, Sequence[str]],
        number: int,
        *,
        contents: Sequence[str],
        days: int,
    ) -> Self:
        """`number` events within `days`, each of two of `contents`, which need not all be the course's."""
        ids, tables = Ids(), Tables()
        course = ids.course(RelationCache(units))
        learners = [ids.enrolment(learner) for learner in LEARNERS]
        for learner in learners:
            tables.enrol(learner)
        servers.publish(course)
        servers.put(tables)
        events = [
            completed(*source.sample(contents, 2), at=T0 + source.randint(0, days * DAY), by=source.choice(learners))
            for _ in range(number)
        ]
        settings = Settings(config.kafka.topic("telemetry.raw"), config.kafka.topic("issue.certificate.request"))
        results = Updater(tables, course, settings).run(events)
        return cls(course, learners, events, [list(result.messages) for result in results], tables)


def refusal(outcome: Outcome) -> Refused:
    """Why the event was refused, as a whole."""
    (refused,) = outcome
    assert isinstance(refused, Refused)
    return refused


class Running:
    """One process of the job, as far as it concerns its servers; killed after so many writes."""

    def __init__(self, config: ActivityAggregateUpdaterConfig, writes_left: int | None = None) -> None:
        self._job = ActivityAggregateUpdater(config)
        self._metrics = Metrics()
        self._cassandra = WatchedCassandra(config.cassandra, self._metrics, writes_left)

    async def __aenter__(self) -> Self:
        with patch.object(job_module, "Cassandra", lambda *_: self._cassandra):
            await self._job.open(self._metrics, next_timestamp_us)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._job.close()

    def survive(self) -> None:
        """From now on there is no end to the writes: the process was not killed, its server was down."""
        self._cassandra.writes_left = None

    def count(self, name: str, value: str) -> int:
        """Of a metric, with this value of its label."""
        return sum(count for key, count in self._metrics.counts.items() if key[0] == name and key[2] == value)

    @property
    def counts(self) -> Counter[Key]:
        return self._metrics.counts

    @property
    def requests(self) -> int:
        """To Cassandra, so far; a batch is one."""
        return self._cassandra.requests

    async def apply(self, *events: LearnerEvent) -> list[list[Message | Refused]]:
        """What becomes of each event of one batch."""
        return list(map(list, await self._job.apply_batch(events)))

    async def run(self, events: Sequence[LearnerEvent], sizes: Iterable[int] = ()) -> list[list[Message]]:
        """The messages of each event, in batches of these sizes and then one by one; none may be refused."""
        sent = []
        for batch in batches(events, sizes):
            for outcome in await self.apply(*batch):
                messages = [part for part in outcome if isinstance(part, Message)]
                assert messages == outcome
                sent.append(messages)
        return sent
