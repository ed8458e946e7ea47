"""An API client with short times, and servers for it that answer as a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from common.config.http import HttpConfig
from common.metrics import Metrics
from common.servers.http import ApiClient

USER_READ = "/private/user/v1/read/"


USER_FIELDS = "?organisations,roles,locations,declarations,externalIds"


CONTENT_READ = "/content/v3/read/"


QUICK = {
    # No test waits for these three.
    "connect_timeout_ms": 10_000,
    "request_timeout_ms": 10_000,
    "call_timeout_ms": 60_000,
    "initial_backoff_ms": 5,
    "max_backoff_ms": 20,
    "breaker_delay_ms": 50,
}


class Client(ApiClient):
    """An ApiClient with short times that keeps its metrics in sight."""

    def __init__(self, base_url: str, poison_after_ms: int | None = None, **changes: int) -> None:
        self.metrics = Metrics()
        config = HttpConfig(**{**QUICK, **changes})
        super().__init__("learner", base_url, config, self.metrics, poison_after_ms=poison_after_ms)

    @property
    def counts(self) -> tuple[int, int]:
        """Calls and failures."""
        return self.metrics.counts["api_calls", "api", "learner"], self.metrics.counts["api_failures", "api", "learner"]


@asynccontextmanager
async def client(base_url: str, poison_after_ms: int | None = None, **changes: int) -> AsyncIterator[Client]:
    opened = Client(base_url, poison_after_ms, **changes)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def canned(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that gives every request the same answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for happens in the server's thread
        await asyncio.sleep(0.005)
