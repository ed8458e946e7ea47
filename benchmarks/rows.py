"""Rows that a benchmark finds in the tables."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from common.config.model import CassandraConfig
from common.domain.aggregates import ATTEMPTS_COUNT, COMPLETED_COUNT, MAX_SCORE, SCORE, metric_key
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write
from local.world import World

_PARTITIONS_AT_A_TIME = 2_000


@asynccontextmanager
async def open_cassandra(world: World) -> AsyncIterator[Cassandra]:
    """A session, closed at the end. Raises WorldFault."""
    cassandra = Cassandra(cassandra_config(world), Metrics())
    await cassandra.open()
    try:
        yield cassandra
    finally:
        await cassandra.close()


def cassandra_config(world: World) -> CassandraConfig:
    """Of the world's Cassandra, everything else as it is by default."""
    return CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)


def aggregates(completed: int, scores: Mapping[str, float]) -> dict[str, float]:
    """The map of a learner who has completed so many contents, and attempted each content of ``scores`` once, of 10."""
    entries = {COMPLETED_COUNT: float(completed)}
    for content_id, score in scores.items():
        entries[metric_key(SCORE, content_id)] = score
        entries[metric_key(MAX_SCORE, content_id)] = 10.0
        entries[metric_key(ATTEMPTS_COUNT, content_id)] = 1.0
    return entries


async def write_rows(cassandra: Cassandra, partitions: Iterable[Sequence[Write]]) -> None:
    """The writes of one partition in one batch. Raises WorldFault and TaskFault."""
    remaining = iter(partitions)
    while some := list(islice(remaining, _PARTITIONS_AT_A_TIME)):
        await cassandra.write(some)
