"""The circuit breaker of an API client."""

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Breaker:
    """Lets calls pass until several in a row have failed; then one at a time, a delay apart, until one succeeds."""

    def __init__(self, failures: int, delay_seconds: float) -> None:
        self._limit = failures
        self._delay_seconds = delay_seconds
        self._failures = 0
        self._next_probe_at = 0.0
        # Who waits for it waits for the outcome of the probe, or for its turn to be the next one.
        self._probing = asyncio.Lock()

    def is_open(self) -> bool:
        """Whether only probes may be sent."""
        return self._failures >= self._limit

    def failed(self) -> None:
        """Notes a failure."""
        self._failures += 1
        self._next_probe_at = asyncio.get_running_loop().time() + self._delay_seconds

    def succeeded(self) -> None:
        """Notes a success."""
        self._failures = 0

    @contextlib.asynccontextmanager
    async def admitted(self) -> AsyncIterator[bool]:
        """Enters when a request may be sent, which may be long after: the caller bounds the time.

        Yields whether it is the probe. Any other request may be sent as long as the breaker is not open.
        """
        if self.is_open():
            async with self._probing:
                if self.is_open():
                    await asyncio.sleep(self._next_probe_at - asyncio.get_running_loop().time())
                    yield True
                    return
        yield False
