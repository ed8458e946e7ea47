"""Rows that a benchmark finds in the tables."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from itertools import islice

from common.cassandra import Cassandra, Write
from common.config import CassandraConfig
from common.metrics import Metrics
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


async def write_rows(cassandra: Cassandra, partitions: Iterable[Sequence[Write]]) -> None:
    """The writes of one partition in one batch. Raises WorldFault and TaskFault."""
    remaining = iter(partitions)
    while some := list(islice(remaining, _PARTITIONS_AT_A_TIME)):
        await cassandra.write(some)
