"""Why there is no connection to a node, told by a node that a test plays."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from cassandra.auth import PlainTextAuthProvider
from cassandra.connection import ConnectionException, ConnectionShutdown, DefaultEndPoint

from common.servers.cassandra_driver.connection import DirectConnection, LoopConnection, bound_to
from common.servers.cassandra_driver.errors import Refused
from common.servers.cassandra_driver.values import PROTOCOL_VERSION
from tests.support.cassandra_proxy import Frame

READY, AUTHENTICATE, OPTIONS, SUPPORTED, STARTUP = 0x02, 0x03, 0x05, 0x06, 0x01
VERSIONS = b"\0\2\0\13CQL_VERSION\0\1\0\0053.0.0\0\13COMPRESSION\0\0"

Connect = Callable[[], "asyncio.Future[LoopConnection]"]


@asynccontextmanager
async def node(refuse: Callable[[Frame], Frame] | None = None) -> AsyncIterator[tuple[Connect, type[LoopConnection]]]:
    """Asks for a login if ``refuse`` answers it, and else is ready at once."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await Frame.read(reader)
                if frame.opcode == OPTIONS:
                    answer = frame.answer(SUPPORTED, VERSIONS)
                elif frame.opcode == STARTUP:
                    answer = frame.answer(AUTHENTICATE, b"\0\5login") if refuse else frame.answer(READY, b"")
                else:
                    assert refuse is not None
                    answer = refuse(frame)
                writer.write(answer.encoded())
        writer.close()

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    endpoint = DefaultEndPoint("127.0.0.1", server.sockets[0].getsockname()[1])
    connection_class = bound_to(loop, DirectConnection)
    login = PlainTextAuthProvider("us", "secret").new_authenticator("127.0.0.1") if refuse else None
    connect = partial(
        connection_class.factory,
        endpoint,
        5,
        protocol_version=PROTOCOL_VERSION,
        authenticator=login,
        compression=False,
        user_type_map={},
    )
    async with server:
        yield partial(loop.run_in_executor, None, connect), connection_class


async def test_a_wrong_password_is_a_refusal() -> None:
    def refuse(frame: Frame) -> Frame:
        return frame.error(0x0100, "Provided username us and/or password are incorrect")

    async with node(refuse) as (connect, connection_class):
        with pytest.raises(Refused, match="are incorrect"):
            await connect()
        assert [type(problem) for problem in connection_class.problems.values()] == [Refused]


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0x0100, "Unable to perform authentication: Cannot achieve consistency level QUORUM"),
        (0x0000, "java.lang.RuntimeException"),
        (0x1001, "Request is throttled"),
        (0x1002, "Cannot read from a bootstrapping node"),
    ],
)
async def test_a_node_that_cannot_check_a_password_refuses_nobody(code: int, text: str) -> None:
    """Such as when the nodes with the table of the logins are down."""
    async with node(lambda frame: frame.error(code, text)) as (connect, connection_class):
        with pytest.raises(ConnectionException, match=text) as raised:
            await connect()
        assert type(raised.value) is ConnectionException
        assert list(connection_class.problems.values()) == [raised.value]


class CutShort:
    """A TLS socket whose peer has gone without a word."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket

    def send(self, _data: Any) -> int:
        raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")

    def recv(self, _size: int) -> bytes:
        raise ssl.SSLEOFError(ssl.SSL_ERROR_EOF, "EOF occurred in violation of protocol")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@pytest.mark.parametrize("way", ["push", "read"])
async def test_a_node_that_cuts_a_connection_short_refuses_nobody(way: str) -> None:
    async with node() as (connect, connection_class):
        connection = await connect()
        connection._socket = CutShort(connection._socket)
        if way == "push":
            connection.push(b"request")
            await asyncio.sleep(0)
        else:
            connection._read()
        assert connection.is_defunct
        assert [type(problem) for problem in connection_class.problems.values()] == [ConnectionShutdown]
