"""When a request goes to a second node because the first one sends nothing, with connections that a test answers."""

import asyncio
import time

import pytest

from common.servers.cassandra_driver import direct
from tests.support.cassandra_nodes import IN_FLIGHT, PAGE, SILENT_AFTER, cluster


async def test_a_request_goes_to_the_next_node_when_the_first_one_is_silent() -> None:
    async with cluster() as nodes:
        first = nodes.execute()
        started = time.monotonic()
        await nodes.b.wait_for(1)
        assert time.monotonic() - started >= SILENT_AFTER
        assert nodes.silent_last() == "BCA"
        second = nodes.execute()
        await nodes.b.wait_for(2)
        nodes.b.answer()
        await second
        assert len(nodes.a.sent) == 1
        nodes.a.answer()
        await first
        assert nodes.silent_last() == "ABC"


async def test_a_node_that_sends_something_to_others_is_not_silent() -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        for _ in range(40):
            await asyncio.sleep(SILENT_AFTER / 20)
            nodes.a.hear()
        assert len(nodes.b.sent) == 0
        nodes.a.answer()
        await request


async def test_where_all_nodes_are_slow_few_requests_are_sent_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the reserve, and then one of twenty: more copies would make the nodes slower still."""
    monkeypatch.setattr(direct, "_RESERVE", 1)
    async with cluster() as nodes:
        first = [nodes.execute() for _ in range(IN_FLIGHT)]
        await nodes.b.wait_for(IN_FLIGHT)
        for answered in nodes.b.sent:
            answered(PAGE)
        await asyncio.gather(*first)
        # A is silent, so these go to B.
        second = [nodes.execute() for _ in range(IN_FLIGHT)]
        await nodes.b.wait_for(2 * IN_FLIGHT)
        await asyncio.sleep(3 * SILENT_AFTER)
        assert (len(nodes.c.sent), nodes.counts["requests_repeated"]) == (0, IN_FLIGHT)
        for answered in nodes.b.sent[IN_FLIGHT:]:
            answered(PAGE)
        await asyncio.gather(*second)
        nodes.b.hear()
        third = [nodes.execute() for _ in range(2)]
        await nodes.c.wait_for(1)
        await asyncio.sleep(3 * SILENT_AFTER)
        assert (len(nodes.c.sent), nodes.counts["requests_repeated"]) == (1, IN_FLIGHT + 1)
        for answered in nodes.b.sent[2 * IN_FLIGHT :]:
            answered(PAGE)
        await asyncio.gather(*third)


async def test_a_page_may_take_longer() -> None:
    async with cluster() as nodes:
        request = nodes.execute(page=(500, None))
        await asyncio.sleep(3 * SILENT_AFTER)
        assert (len(nodes.b.sent), nodes.silent_last()) == (0, "ABC")
        nodes.a.answer()
        await request


async def test_while_the_loop_is_busy_no_node_becomes_silent() -> None:
    """However many looks there were before."""
    async with cluster() as nodes:
        request = nodes.execute()
        looks = 0
        while looks < 3:
            look = nodes.requests._look_handle
            await asyncio.sleep(0.001)
            looks += look is not None and look is not nodes.requests._look_handle
        look = nodes.requests._look_handle
        assert look is not None
        # In the same iteration as the next look, and before it. The answer is there, but has not been read.
        asyncio.get_running_loop().call_at(look.when() - 1e-6, time.sleep, 2 * SILENT_AFTER)
        while look is nodes.requests._look_handle:  # noqa: ASYNC110 - the driver is another task
            await asyncio.sleep(0)
        nodes.a.answer()
        await request
        assert (len(nodes.b.sent), nodes.silent_last()) == (0, "ABC")


async def test_a_repeat_passes_over_a_node_that_has_become_silent_meanwhile() -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        await nodes.a.wait_for(1)
        nodes.requests._silent_nodes.note("B", nodes.b)
        await nodes.c.wait_for(1)
        nodes.c.answer()
        await request
        assert len(nodes.b.sent) == 0


async def test_a_node_that_is_silent_when_it_is_told_a_statement_again_is_passed_over() -> None:
    async with cluster() as nodes:
        request = nodes.execute()
        await nodes.a.wait_for(1)
        await nodes.a.forget()
        started = time.monotonic()
        await nodes.b.wait_for(1)
        assert time.monotonic() - started >= SILENT_AFTER
        assert nodes.silent_last() == "BCA"
        nodes.b.answer()
        await request


@pytest.mark.parametrize("silent", ["AB", "ABC"])
async def test_if_all_nodes_are_silent_a_request_still_has_two_copies(silent: str) -> None:
    async with cluster() as nodes:
        for name in silent:
            nodes.requests._silent_nodes.note(name, nodes.nodes[name])
        request = nodes.execute()
        first, second = (nodes.nodes[name] for name in nodes.silent_last()[:2])
        await second.wait_for(1)
        assert (len(first.sent), nodes.counts["requests_repeated"]) == (1, 1)
        second.answer()
        await request
