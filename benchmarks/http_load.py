"""Sends HTTP requests from a process of its own: at an even rate, or as fast as the answers come."""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from typing import cast
from urllib.parse import urlsplit

import httptools
import uvloop

_MAX_CONNECTIONS = 4_000
"""More would be refused by the limit of open files, and an answer that is so late is of no interest."""
_HEALTH_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: one of ``requests`` after the other, whole HTTP requests, and between them health checks."""

    url: str
    requests: Sequence[bytes]
    seconds: float
    per_second: float | None = None
    """None: each of ``connections`` sends its next request when it has the answer to the last one."""
    connections: int = 0
    health_url: str = ""
    health_paths: Sequence[str] = ()


@dataclass(slots=True)
class Answers:
    """Seconds from the moment when each request was sent to its answer, by kind of answer."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    """Answers 503 without the header."""
    failed: int = 0
    """Answers other than 200 and 503."""
    health: dict[str, list[float]] = field(default_factory=dict)
    unhealthy: int = 0
    """Answers of a health check other than 200."""
    late: list[float] = field(default_factory=list)
    """Seconds by which requests were sent later than they were due: the fault of this process."""
    cpu_share: float = 0
    """CPU seconds of this process per second: at 1 it would be the bottleneck."""


def send(load: Load) -> Answers:
    """Sends the load from a new process and waits for all answers. Raises OSError if a connection breaks."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_send, load).result()


def http_request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """A whole request, as it is sent."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _send(load: Load) -> Answers:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_Generator(load).run())


OnAnswer = Callable[[int, bool], None]
"""Takes the status of an answer, and whether it had the header ``Retry-After``."""


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, on_closed: "Callable[[_Connection], None]") -> None:
        self._on_closed = on_closed
        self._parser = httptools.HttpResponseParser(self)
        self.is_waiting = False
        self.is_reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is none of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, on_answer: OnAnswer) -> None:
        self._on_answer = on_answer
        self.is_waiting = True
        self._has_retry_after = False
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_closed(self)

    def on_header(self, name: bytes, _: bytes) -> None:
        self._has_retry_after |= name.lower() == b"retry-after"

    def on_message_complete(self) -> None:
        self.is_waiting = False
        self.is_reusable = self._parser.should_keep_alive()
        self._on_answer(self._parser.get_status_code(), self._has_retry_after)


class _Generator:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = itertools.cycle(load.requests)
        self._answers = Answers(health={path: [] for path in load.health_paths})
        self._idle: deque[_Connection] = deque()
        self._connections = 0
        self._waiting = 0
        self._changed = asyncio.Event()
        self._is_broken = False

    async def run(self) -> Answers:
        """Sends everything, then waits for the answers that are still missing."""
        health = asyncio.create_task(self._watch_health())
        cpu, started = time.process_time(), time.perf_counter()
        if self._load.per_second is None:
            await self._closed_loop(started + self._load.seconds)
        else:
            await self._open_loop(started, self._load.per_second)
        self._answers.cpu_share = (time.process_time() - cpu) / (time.perf_counter() - started)
        await self._until(lambda: not self._waiting)
        if health.done():
            await health
        health.cancel()
        return self._answers

    async def _open_loop(self, started: float, per_second: float) -> None:
        for number in range(int(per_second * self._load.seconds)):
            due = started + number / per_second
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            self._ask(self._idle.pop() if self._idle else await self._connect(self._load.url), due)

    async def _closed_loop(self, end: float) -> None:
        self._idle += [await self._connect(self._load.url) for _ in range(self._load.connections)]
        while (now := time.perf_counter()) < end:
            while self._idle:
                self._ask(self._idle.pop(), now)
            await self._until(lambda: bool(self._idle))

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()
            self._check()

    def _ask(self, connection: _Connection, due: float) -> None:
        request = next(self._requests)
        sent = time.perf_counter()
        self._answers.late.append(sent - due)
        self._waiting += 1

        def on_answer(status: int, has_retry_after: bool) -> None:
            answers = self._answers
            seconds = time.perf_counter() - sent
            if status == 200:
                answers.accepted.append(seconds)
            elif status == 503:
                answers.refused.append(seconds)
                answers.without_retry_after += not has_retry_after
            else:
                answers.failed += 1
            if connection.is_reusable:
                self._idle.append(connection)
            self._waiting -= 1
            self._changed.set()

        connection.send(request, on_answer)

    async def _watch_health(self) -> None:
        connections = {path: await self._connect(self._load.health_url) for path in self._load.health_paths}
        loop = asyncio.get_running_loop()
        while True:
            for path, connection in connections.items():
                answered: asyncio.Future[int] = loop.create_future()
                sent = time.perf_counter()
                connection.send(http_request("GET", path, {}), partial(_settle, answered))
                self._answers.unhealthy += await answered != 200
                self._answers.health[path].append(time.perf_counter() - sent)
            await asyncio.sleep(_HEALTH_SECONDS)

    async def _connect(self, url: str) -> _Connection:
        self._check()
        if self._connections >= _MAX_CONNECTIONS:
            raise OSError(f"{_MAX_CONNECTIONS} requests wait for their answers")
        address = urlsplit(url)
        assert address.hostname and address.port
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: _Connection(self._on_closed), address.hostname, address.port
        )
        self._connections += 1
        return connection

    def _on_closed(self, connection: _Connection) -> None:
        """A server may close a connection that has been idle for a while, but none that waits for an answer."""
        self._connections -= 1
        if connection.is_waiting:
            self._is_broken = True
            self._changed.set()
        elif connection in self._idle:
            self._idle.remove(connection)

    def _check(self) -> None:
        if self._is_broken:
            raise OSError("the server has closed a connection")


def _settle(answered: "asyncio.Future[int]", status: int, _: bool) -> None:
    # Cancelled if the load ends while the answer is on its way.
    if not answered.done():
        answered.set_result(status)
