"""Stands between a session and a real Cassandra node: sees their frames, holds them back, answers for the node."""

import asyncio
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Self

from common.config.model import CassandraConfig
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, next_timestamp_us

HEADER = struct.Struct(">BBhBI")
ERROR, RESULT, EXECUTE, BATCH = 0x00, 0x08, 0x0A, 0x0D


@dataclass(frozen=True)
class Frame:
    """One request or answer of the native protocol."""

    version: int
    flags: int
    stream: int
    opcode: int
    body: bytes

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> "Frame":
        version, flags, stream, opcode, length = HEADER.unpack(await reader.readexactly(HEADER.size))
        return cls(version, flags, stream, opcode, await reader.readexactly(length))

    def encoded(self) -> bytes:
        return HEADER.pack(self.version, self.flags, self.stream, self.opcode, len(self.body)) + self.body

    def answer(self, opcode: int, body: bytes) -> "Frame":
        return Frame(0x80 | self.version, 0, self.stream, opcode, body)

    def error(self, code: int, message: str, more: bytes = b"") -> "Frame":
        """The answer that refuses this request; ``more`` is what follows the message for this code."""
        text = message.encode()
        return self.answer(ERROR, struct.pack(">iH", code, len(text)) + text + more)


Answer = Callable[[Frame], Awaitable[Frame | None]]
"""What to answer to an EXECUTE or BATCH in the node's place; None lets the node answer."""


async def let_the_node_answer(_: Frame) -> Frame | None:
    return None


class CassandraProxy:
    """Listens on `port`, by default a free one, while the `async with` block lasts."""

    def __init__(
        self, node_port: int, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._tls, self._address, self.port = tls, address, port
        self.answer: Answer = let_the_node_answer
        self.requests: list[Frame] = []
        """All EXECUTEs and BATCHes that have arrived."""
        self.connections = 0
        self.in_flight = self.most_in_flight = 0
        """EXECUTEs and BATCHes without an answer."""
        self.bytes_at_a_time: int | None = None
        """Of the node's answers, None for as they come."""
        self._node_port = node_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._address, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.drop_connections()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def drop_connections(self) -> None:
        """As when the node is killed: without an answer to what is in flight."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self.connections += 1
        node, to_node = await asyncio.open_connection("127.0.0.1", self._node_port)
        self._writers |= {to_client, to_node}
        streams: set[int] = set()
        self._start(self._pass_answers(node, to_client, streams))
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await Frame.read(client)
                if frame.opcode not in (EXECUTE, BATCH):
                    to_node.write(frame.encoded())
                    continue
                self.requests.append(frame)
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                self._start(self._handle(frame, to_node, to_client, streams))
        self._writers -= {to_client, to_node}
        to_node.transport.abort()

    async def _handle(
        self, frame: Frame, to_node: asyncio.StreamWriter, to_client: asyncio.StreamWriter, streams: set[int]
    ) -> None:
        answer = await self.answer(frame)
        if answer is None:
            streams.add(frame.stream)
            to_node.write(frame.encoded())
        else:
            self.in_flight -= 1
            to_client.write(answer.encoded())

    async def _pass_answers(
        self, node: asyncio.StreamReader, to_client: asyncio.StreamWriter, streams: set[int]
    ) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                frame = await Frame.read(node)
                if frame.stream in streams:
                    streams.remove(frame.stream)
                    self.in_flight -= 1
                data = frame.encoded()
                step = self.bytes_at_a_time or len(data)
                for start in range(0, len(data), step):
                    to_client.write(data[start : start + step])
                    if self.bytes_at_a_time:
                        await to_client.drain()
                        await asyncio.sleep(0)
        to_client.transport.abort()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def opened(
    config: CassandraConfig, clock: Callable[[], int] = next_timestamp_us, **changes: Any
) -> AsyncIterator[tuple[Cassandra, Metrics]]:
    metrics = Metrics()
    cassandra = Cassandra(config.model_copy(update=changes), metrics, clock)
    try:
        await cassandra.open()
        yield cassandra, metrics
    finally:
        await cassandra.close()


@asynccontextmanager
async def behind_a_proxy(
    config: CassandraConfig, clock: Callable[[], int] = next_timestamp_us, **changes: Any
) -> AsyncIterator[tuple[Cassandra, CassandraProxy]]:
    async with (
        CassandraProxy(config.port) as proxy,
        opened(config, clock, port=proxy.port, **changes) as (cassandra, _),
    ):
        yield cassandra, proxy
