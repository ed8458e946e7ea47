"""The driver with three nodes: each can be asked, and a frozen one makes no wave of writes wait for its timeout."""

import asyncio
import os
import signal
import time

import pytest

from common.config.model import CassandraConfig
from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics
from common.servers.cassandra import Cassandra as CassandraClient
from common.servers.cassandra import Write, next_timestamp_us
from local.config import LOOPBACK
from local.servers import Cassandra
from local.world import World
from tests.support.list_writer import ROWS_AT_A_TIME, list_writer

TIMEOUT_MS = 12_000


@pytest.fixture
def nodes(cluster: World) -> list[Cassandra]:
    return cluster.cassandra_nodes


async def test_each_node_can_be_asked(nodes: list[Cassandra]) -> None:
    client = CassandraClient(CassandraConfig(contact_points=LOOPBACK[:1], port=nodes[0].port), Metrics())
    await client.open()
    try:
        found = await client.nodes()
        assert found == [f"{address}:{nodes[0].port}" for address in LOOPBACK]
        for node in found:
            ((address, port),) = await client.execute("SELECT rpc_address, rpc_port FROM system.local", node=node)
            assert f"{address}:{port}" == node
        with pytest.raises(WorldFault, match="no connection to"):
            await client.execute("SELECT rpc_address FROM system.local", node="127.0.0.9:1")
    finally:
        await client.close()


@pytest.mark.timeout(600)
async def test_a_frozen_node_holds_up_nothing_for_long(nodes: list[Cassandra]) -> None:
    async with list_writer(
        nodes[0].port,
        request_timeout_ms=TIMEOUT_MS,
        speculative_delay_ms=TIMEOUT_MS,
        silent_after_ms=500,
        consistency="QUORUM",
    ) as writer:
        stop = asyncio.Event()
        # Reads would also wait for a coordinator that has asked the frozen node for a copy.
        load = asyncio.ensure_future(writer.run(stop, with_reads=False))
        await writer.wait_for_rows(500)
        repeats_before = writer.repeats()
        os.kill(nodes[2].pid, signal.SIGSTOP)
        frozen_at = time.monotonic()
        try:
            await writer.wait_for_rows(12 * ROWS_AT_A_TIME)
            repeats = writer.repeats() - repeats_before
        finally:
            os.kill(nodes[2].pid, signal.SIGCONT)
        pause = writer.longest_pause(frozen_at)
        await writer.wait_for_rows(300)
        stop.set()
        await load
        # Without the second copy each wave would have waited for the node's answer, up to the timeout.
        assert pause < TIMEOUT_MS / 1000
        # A third of each wave would have gone to the frozen node first.
        assert 0 < repeats < 2 * ROWS_AT_A_TIME
        assert writer.faults == []
        assert await writer.wrong_rows() == {}


@pytest.mark.timeout(600)
async def test_a_loop_that_is_busy_takes_no_node_for_silent(nodes: list[Cassandra]) -> None:
    async with list_writer(
        nodes[0].port, request_timeout_ms=TIMEOUT_MS, speculative_delay_ms=TIMEOUT_MS, silent_after_ms=2_000
    ) as writer:
        stop = asyncio.Event()
        load = asyncio.ensure_future(writer.run(stop, with_reads=False))
        # After the requests of the first wave have been made, and before they leave.
        asyncio.get_running_loop().call_soon(time.sleep, 3)
        await writer.wait_for_rows(ROWS_AT_A_TIME)
        stop.set()
        await load
        assert writer.repeats() == 0


async def test_a_late_request_goes_to_no_other_node_once_the_task_must_not_write(
    nodes: list[Cassandra], unique: str
) -> None:
    rows = left = 60

    def clock() -> int:
        nonlocal left
        if not left:
            raise TaskFault("stood still")
        left -= 1
        return next_timestamp_us()

    config = CassandraConfig(
        contact_points=LOOPBACK[:1],
        port=nodes[0].port,
        request_timeout_ms=TIMEOUT_MS,
        speculative_delay_ms=500,
        silent_after_ms=TIMEOUT_MS,
    )
    metrics = Metrics()
    client = CassandraClient(config, metrics, clock)
    await client.open()
    try:
        assert len(await client.nodes()) == len(nodes)
        insert = await client.prepare(
            "INSERT INTO sunbird_courses.user_content_consumption (userid, courseid, batchid, contentid, status) "
            "VALUES (?, 'c', 'b', 'do_1', 2)"
        )
        os.kill(nodes[2].pid, signal.SIGSTOP)
        started_at = time.monotonic()
        try:
            with pytest.raises(TaskFault, match="stood still"):
                await client.write([[Write(insert, (f"{unique}-{n}",))] for n in range(rows)])
        finally:
            os.kill(nodes[2].pid, signal.SIGCONT)
        assert time.monotonic() - started_at < TIMEOUT_MS / 1000
        assert metrics.counts["requests_repeated"] == 0
    finally:
        await client.close()
