"""What happens when a node does not know a statement any more, with connections that a test answers."""

import asyncio
from typing import Any

import pytest
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import InvalidRequestException, OverloadedErrorMessage

from common.domain.faults import TaskFault, WorldFault
from tests.support.cassandra_nodes import cluster

OVERLOADED = OverloadedErrorMessage(code=0x1001, message="too much", info=None)


async def test_a_statement_that_the_schema_no_longer_fits_fails_the_task() -> None:
    """It is no fault of the event, which would go to the failed topic with all others."""
    async with cluster() as nodes:
        request = nodes.execute()
        await nodes.a.wait_for(1)
        await nodes.a.forget()
        nodes.a.prepared[0](InvalidRequestException(code=0x2200, message="unconfigured table t", info=None))
        with pytest.raises(TaskFault, match=r"Cassandra refuses a statement: .*unconfigured table t"):
            await request


async def test_only_the_node_that_has_forgotten_it_is_told_and_once_for_all_requests() -> None:
    async with cluster() as nodes:
        requests = [nodes.execute() for _ in range(5)]
        await nodes.a.wait_for(5)
        for answered in nodes.a.sent[:4]:
            answered(nodes.a.FORGOTTEN)
        await nodes.a.forget()
        nodes.a.prepared[0](None)
        await nodes.a.wait_for(10)
        assert [len(node.prepared) for node in nodes.nodes.values()] == [1, 0, 0]
        for answered in nodes.a.sent[5:]:
            answered(([], None))
        await asyncio.gather(*requests)


async def test_each_node_may_have_forgotten_it() -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        for node in (nodes.a, nodes.b):
            await node.wait_for(1)
            await node.forget()
            node.prepared[0](None)
            await node.wait_for(2)
            node.answer(OVERLOADED)
        await nodes.c.wait_for(1)
        nodes.c.answer()
        await request


async def test_a_node_that_forgets_it_again_is_passed_over() -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        await nodes.a.wait_for(1)
        await nodes.a.forget()
        nodes.a.prepared[0](None)
        await nodes.a.wait_for(2)
        nodes.a.answer(nodes.a.FORGOTTEN)
        await nodes.b.wait_for(1)
        nodes.b.answer()
        await request


@pytest.mark.parametrize("answer", [OVERLOADED, ConnectionShutdown("it was killed")])
async def test_a_node_that_cannot_prepare_it_now_is_passed_over(answer: Any) -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        await nodes.a.wait_for(1)
        await nodes.a.forget()
        nodes.a.prepared[0](answer)
        await nodes.b.wait_for(1)
        nodes.b.answer()
        await request


async def test_if_no_node_can_prepare_it_now_that_is_the_world() -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        for node in nodes.nodes.values():
            await node.wait_for(1)
            await node.forget()
            node.prepared[0](OVERLOADED)
        with pytest.raises(WorldFault, match="too much"):
            await request


@pytest.mark.parametrize("forgetful", "AB")
async def test_no_two_nodes_get_one_timestamp(forgetful: str) -> None:
    """Both could execute it, and the lists would double."""
    async with cluster() as nodes:
        request = nodes.execute()
        # A is silent.
        await nodes.b.wait_for(1)
        node = nodes.nodes[forgetful]
        await node.forget()
        node.prepared[0](None)
        await node.wait_for(2)
        assert not set(nodes.a.timestamps) & set(nodes.b.timestamps)
        node.answer()
        await request


async def test_a_copy_whose_node_is_told_the_statement_is_in_flight() -> None:
    async with cluster() as nodes:
        nodes.c.is_shutdown = True
        waiting = nodes.execute()
        # A is silent.
        await nodes.b.wait_for(1)
        (request,) = nodes.requests._in_flight
        await nodes.b.forget()
        assert request.copies == 2
        nodes.a.answer(OVERLOADED)
        assert request.copies == 1
        nodes.b.prepared[0](None)
        await nodes.b.wait_for(2)
        assert request.copies == 1
        nodes.b.answer()
        await waiting
        assert request.copies == 0


async def test_a_node_that_is_lost_after_it_was_told_does_not_count_as_asked() -> None:
    """If it did, nobody would look whether the only node that has the request is silent."""
    async with cluster() as nodes:
        request = nodes.execute()
        await nodes.a.wait_for(1)
        await nodes.a.forget()
        nodes.a.is_shutdown = True
        nodes.a.prepared[0](None)
        await nodes.b.wait_for(1)
        await nodes.c.wait_for(1)
        nodes.c.answer()
        await request


async def test_a_node_that_does_not_answer_is_told_again_after_the_timeout() -> None:
    """An answer that is lost would block the statement on this node for as long as its connection lives."""
    async with cluster(request_timeout=0.5) as nodes:
        nodes.b.is_shutdown = nodes.c.is_shutdown = True
        waiting = [nodes.execute() for _ in range(2)]
        await nodes.a.wait_for(2)
        for answered in nodes.a.sent:
            answered(nodes.a.FORGOTTEN)
        for request in waiting:
            with pytest.raises(WorldFault, match=r"A: .* within 0\.5 s"):
                await request

        again = nodes.execute()
        await nodes.a.wait_for(3)
        nodes.a.answer(nodes.a.FORGOTTEN)
        async with asyncio.timeout(0.4):
            while len(nodes.a.prepared) < 2:  # noqa: ASYNC110 - the driver is another task
                await asyncio.sleep(0.001)
        # The first answer comes after all, and nobody waits for it any more.
        nodes.a.prepared[0](None)
        await asyncio.sleep(0.01)
        assert len(nodes.a.sent) == 3
        nodes.a.prepared[1](None)
        await nodes.a.wait_for(4)
        nodes.a.answer()
        await again
