"""Writes the rows that a benchmark needs in the tables before it starts."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from common.config.model import CassandraConfig
from common.domain.aggregates import COMPLETED_COUNT
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write
from local.expected import content_aggregates
from local.world import World

_PARTITIONS_AT_A_TIME = 2_000
_COMPACTION_SECONDS = 300.0
_POLL_SECONDS = 0.2


@asynccontextmanager
async def open_cassandra(world: World) -> AsyncIterator[Cassandra]:
    """A session that is closed at the end of the `with` block. Raises WorldFault."""
    cassandra = Cassandra(cassandra_config(world), Metrics())
    await cassandra.open()
    try:
        yield cassandra
    finally:
        await cassandra.close()


def cassandra_config(world: World) -> CassandraConfig:
    """The address of the world's Cassandra, with defaults for everything else."""
    return CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)


def aggregates(completed: int, scores: Mapping[str, float]) -> dict[str, float]:
    """The column ``aggregates`` of a learner who has completed ``completed`` contents.

    ``scores`` are the scores by content id, each from one attempt with a maximum of 10.
    """
    entries = {COMPLETED_COUNT: float(completed)}
    for content_id, score in scores.items():
        entries |= content_aggregates(content_id, [(score, 10.0)])
    return entries


async def wait_until_compacted(world: World) -> None:
    """Waits until Cassandra compacts nothing, so that what is measured next does not pay for what came before.

    Raises TimeoutError if that takes too long.
    """
    deadline = time.monotonic() + _COMPACTION_SECONDS
    async with open_cassandra(world) as cassandra:
        statement = await cassandra.prepare(
            "SELECT active_tasks, pending_tasks FROM system_views.thread_pools WHERE name = 'CompactionExecutor'"
        )
        while True:
            ((tasks,),) = await cassandra.read(statement, [()])
            if not any(tasks):
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"Cassandra still compacts after {_COMPACTION_SECONDS:g} s")
            await asyncio.sleep(_POLL_SECONDS)


async def write_rows(cassandra: Cassandra, partitions: Iterable[Sequence[Write]]) -> None:
    """Writes the rows of each partition as one batch. Raises WorldFault and TaskFault."""
    remaining = iter(partitions)
    while chunk := list(islice(remaining, _PARTITIONS_AT_A_TIME)):
        await cassandra.write(chunk)
