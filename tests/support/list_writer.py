"""Writes rows with lists to three nodes, while a test takes nodes away, and reads back what came of them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from common.config.model import CassandraConfig
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write
from local.config import LOOPBACK

ELEMENTS = ["a", "b", "c"]
ROWS_AT_A_TIME = 50
_KEYSPACE = (
    "CREATE KEYSPACE IF NOT EXISTS lists WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}"
)
_TABLE = "CREATE TABLE IF NOT EXISTS lists.rows (id text PRIMARY KEY, elements list<text>)"


class ListWriter:
    """Writes and reads rows in waves, as a job does, and repeats a wave that fails."""

    def __init__(self, cassandra: Cassandra, metrics: Metrics) -> None:
        """``cassandra`` is open, and counts in ``metrics``."""
        self._cassandra = cassandra
        self._counts = metrics.counts
        self.written: list[str] = []
        self.wave_ends: list[float] = []
        """When each wave was done, by `time.monotonic`."""
        self.faults: list[str] = []

    async def prepare(self) -> None:
        self._insert = await self._cassandra.prepare("INSERT INTO lists.rows (id, elements) VALUES (?, ?)")
        self._select = await self._cassandra.prepare("SELECT elements FROM lists.rows WHERE id = ?")

    async def run(self, stop: asyncio.Event, *, with_reads: bool = True) -> None:
        """Waves until `stop` is set."""
        while not stop.is_set():
            ids = [f"row-{len(self.written) + n}" for n in range(ROWS_AT_A_TIME)]
            while True:
                try:
                    if with_reads:
                        await self._cassandra.read(self._select, [(id_,) for id_ in ids])
                    await self._cassandra.write([[Write(self._insert, (id_, ELEMENTS))] for id_ in ids])
                    break
                except WorldFault as fault:
                    self.faults.append(str(fault))
                    await asyncio.sleep(0.1)
            self.written += ids
            self.wave_ends.append(time.monotonic())

    async def wait_for_rows(self, more: int) -> None:
        target = len(self.written) + more
        while len(self.written) < target:  # noqa: ASYNC110 - the writer is another task
            await asyncio.sleep(0.01)

    async def wrong_rows(self) -> dict[str, Any]:
        """Rows whose list is not what was written."""
        rows: list[Any] = []
        for start in range(0, len(self.written), 1_000):
            rows += await self._cassandra.read(self._select, [(id_,) for id_ in self.written[start : start + 1_000]])
        expected = [(ELEMENTS,)]
        return {id_: found for id_, found in zip(self.written, rows, strict=True) if found != expected}

    def repeats(self) -> int:
        """How many requests were sent to another node, or sent again."""
        return self._counts["requests_repeated"]

    def longest_pause(self, since: float) -> float:
        """Seconds between the ends of two waves, of which the second came after `since`."""
        ends = [since, *(end for end in self.wave_ends if end > since)]
        return max(later - earlier for earlier, later in pairwise(ends))


@asynccontextmanager
async def list_writer(port: int, **settings: Any) -> AsyncIterator[ListWriter]:
    """With the keyspace and the table, on all three nodes."""
    config = CassandraConfig(contact_points=LOOPBACK, port=port, **settings)
    metrics = Metrics()
    cassandra = Cassandra(config, metrics)
    try:
        await cassandra.open()
        await _until_all_nodes_are_up(cassandra)
        await cassandra.execute(_KEYSPACE, 60)
        await cassandra.execute(_TABLE, 60)
        writer = ListWriter(cassandra, metrics)
        await writer.prepare()
        yield writer
    finally:
        await cassandra.close()


async def _until_all_nodes_are_up(cassandra: Cassandra) -> None:
    """A node that does not know the others yet would keep a table for itself."""
    while True:
        rows = await cassandra.execute("SELECT peer FROM system.peers")
        peers_up = await cassandra.execute("SELECT address, port, status FROM system_views.gossip_info", 60)
        if len(rows) == len(LOOPBACK) - 1 and len(peers_up) == len(LOOPBACK):
            return
        await asyncio.sleep(0.2)
