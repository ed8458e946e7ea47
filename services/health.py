"""Whether the servers behind the services answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

_LOG = logging.getLogger(__name__)

_CACHE_SECONDS = 1.0
_TIMEOUT_SECONDS = 3.0

Ping = Callable[[], Awaitable[None]]


class HealthCheck:
    """The check of one server. However often it is asked for, there is one at a time, and one a second."""

    def __init__(self, name: str, ping: Ping) -> None:
        """``ping`` raises an exception if the server does not answer."""
        self.name = name
        self._ping = ping
        self._task: asyncio.Task[bool] | None = None
        self._expires_at = 0.0

    async def is_healthy(self) -> bool:
        """The result of the check that is under way, or of the last one if that is less than a second old."""
        if self._task is None or (self._task.done() and asyncio.get_running_loop().time() >= self._expires_at):
            self._task = asyncio.create_task(self._check())
        # The check goes on for the others if this caller goes away.
        return await asyncio.shield(self._task)

    async def _check(self) -> bool:
        fault: Exception | None = None
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                await self._ping()
        except Exception as error:  # noqa: BLE001 - whatever it is, the server cannot be used
            fault = error
            _LOG.warning("health of %s: %s", self.name, str(error) or f"no answer in {_TIMEOUT_SECONDS:g} s")
        self._expires_at = asyncio.get_running_loop().time() + _CACHE_SECONDS
        return fault is None

    def cancel(self) -> None:
        """Ends a check that is under way."""
        if self._task is not None:
            self._task.cancel()
