"""What a request leaves behind when it fails, with connections that a test answers."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cassandra.connection import ConnectionShutdown
from cassandra.pool import NoConnectionsAvailable
from cassandra.protocol import InvalidRequestException, OverloadedErrorMessage

from common.domain.faults import WorldFault
from common.servers.cassandra_driver.errors import StatementError
from tests.support.cassandra_nodes import cluster

INVALID = InvalidRequestException(code=0x2200, message="it is wrong", info=None)
OVERLOADED = OverloadedErrorMessage(code=0x1001, message="too much", info=None)


class Text(str):
    """That can have a weak reference."""


@contextmanager
def nothing_kept() -> Iterator[Text]:
    """A value, of which nothing may be left at the end. A worker collects rarely, and an event may have a megabyte."""
    value = Text("of a megabyte")
    kept = weakref.ref(value)
    gc.collect()
    gc.disable()
    try:
        yield value
        del value
        assert kept() is None
    finally:
        gc.enable()


async def test_a_statement_that_is_refused() -> None:
    async with cluster() as nodes:
        with nothing_kept() as value:
            request = nodes.execute(values=[value])
            del value
            await nodes.a.wait_for(1)
            nodes.a.answer(INVALID)
            nodes.a.sent.clear()
            with pytest.raises(StatementError, match="it is wrong"):
                await request
            del request
            await asyncio.sleep(0)


async def test_a_value_that_cannot_be_encoded() -> None:
    def encode(_: object) -> list[bytes]:
        raise StatementError("it is no number")

    async with cluster() as nodes:
        with nothing_kept() as value:
            request = nodes.execute(values=[value], encode=encode)
            del value
            with pytest.raises(StatementError, match="it is no number"):
                await request
            del request
            await asyncio.sleep(0)


@pytest.mark.parametrize("error", [ConnectionShutdown("it was killed"), NoConnectionsAvailable("all are busy")])
@pytest.mark.parametrize("method", ["borrow_connection", "send_msg"])
async def test_a_request_that_no_node_takes(error: Exception, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if method == "send_msg" and isinstance(error, NoConnectionsAvailable):
        error = ConnectionShutdown("it was closed")

    def refuse(*_: object, **__: object) -> None:
        raise error

    async with cluster() as nodes:
        for node in nodes.nodes.values():
            monkeypatch.setattr(node, method, refuse)
        with nothing_kept() as value:
            request = nodes.execute(values=[value])
            del value
            with pytest.raises(WorldFault, match=str(error)):
                await request
            del request
            await asyncio.sleep(0)


async def test_a_request_whose_caller_has_gone() -> None:
    async with cluster() as nodes:
        with nothing_kept() as value:
            request = nodes.execute(values=[value])
            del value
            await nodes.a.wait_for(1)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            nodes.a.answer(INVALID)
            nodes.a.sent.clear()
            del request
            await asyncio.sleep(0)


async def test_a_request_that_all_nodes_refuse_for_now() -> None:
    async with cluster() as nodes:
        with nothing_kept() as value:
            request = nodes.execute(values=[value])
            del value
            for node in nodes.nodes.values():
                await node.wait_for(1)
                node.answer(OVERLOADED)
                node.sent.clear()
            with pytest.raises(WorldFault, match="too much"):
                await request
            del request
            await asyncio.sleep(0)
