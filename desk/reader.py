"""Puts a learner's record together, from Cassandra, the caches, the APIs and Kafka."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.domain.aggregates import SCORE, contents_of
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, Skip
from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics
from desk.config import DeskConfig, DeskKafkaConfig
from desk.records import FoundMessage, LearnerRecord, Search, Unknown
from desk.sources import Sources
from desk.store import Store
from desk.topic_search import certificate_requests_for, failed_for
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.collection_cert_pre_processor.answers import User


class DeskError(Exception):
    """What was asked for cannot be answered: the text says why, to the person who asked."""


class Reader:
    """Everything the desk reads; from :func:`open_reader`."""

    def __init__(self, config: DeskConfig) -> None:
        """Connects to nothing yet. To be called inside the event loop."""
        metrics = Metrics()
        self.config = config
        self.store = Store(config, metrics)
        self.sources = Sources(config, metrics)

    async def open(self) -> None:
        """Connects to Cassandra. Raises WorldFault and TaskFault; :meth:`close` is to be called then, too."""
        await self.store.open()

    async def close(self) -> None:
        """Closes all connections."""
        await self.sources.close()
        await self.store.close()

    async def enrolment_key(self, user_id: str, course_id: str, batch_id: str | None) -> EnrolmentKey:
        """The learner in the batch, or in the only batch of the course if none is given. Raises DeskError."""
        if batch_id:
            return EnrolmentKey(user_id, course_id, batch_id)
        batches = await self.store.batches_of_learner(user_id, course_id)
        if not batches:
            raise DeskError(
                f"No enrolment of the learner “{user_id}” in the course “{course_id}” was found. Check both ids."
            )
        if len(batches) > 1:
            raise DeskError(
                f"The learner “{user_id}” is in several batches of the course “{course_id}”. Give the id of one: "
                f"{', '.join(sorted(batches))}"
            )
        return EnrolmentKey(user_id, course_id, batches[0])

    async def learner(self, key: EnrolmentKey) -> LearnerRecord:
        """Everything about a learner in a batch. Raises WorldFault and TaskFault if Cassandra cannot be read."""
        # Apart: a failed topic that cannot be seen hides no request, and the other way round.
        searches = asyncio.gather(
            _searched(failed_for, self.config.kafka, key),
            _searched(certificate_requests_for, self.config.kafka, key),
        )
        try:
            rows = await self.store.learner(key)
            batch = await self.store.batch(key.course_id, key.batch_id)
            course = await self.sources.course(key.course_id)
            nodes = course.leaf_nodes.all if isinstance(course.leaf_nodes, LeafNodes) else frozenset[str]()
            scored = list(contents_of(SCORE, rows.aggregates.merged))
            of_attempts = {attempt.content_id for attempt in rows.attempts}
            user: User | Skip | Refused | Unknown | None = None
            if batch.templates.usable:
                user = await self.sources.user(key.user_id)
            contents = await self.sources.contents(sorted(nodes | of_attempts), scored)
            failed, certificates = await searches
        finally:
            searches.cancel()
        return LearnerRecord(
            key,
            time.time_ns() // 1_000_000,
            course,
            batch,
            rows,
            content_types=contents.types,
            names=contents.names,
            user=user,
            failed=failed,
            certificate_messages=certificates,
        )


async def _searched(
    search: Callable[[DeskKafkaConfig, EnrolmentKey], Search[FoundMessage]], kafka: DeskKafkaConfig, key: EnrolmentKey
) -> Search[FoundMessage] | Unknown:
    """What a search of topics for a learner finds, in a thread."""
    try:
        return await asyncio.to_thread(search, kafka, key)
    except (WorldFault, TaskFault) as fault:
        return Unknown(str(fault))


@asynccontextmanager
async def open_reader(config: DeskConfig) -> AsyncIterator[Reader]:
    """Connects, and closes at the end. Raises WorldFault and TaskFault."""
    reader = Reader(config)
    try:
        await reader.open()
        yield reader
    finally:
        await reader.close()
