"""How many requests a process takes at a time. It refuses the rest at once, so that those it takes are quick."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from services.envelope import busy

_PROBE_SECONDS = 0.01
_PROBES = 10
"""The limit is set anew after so many probes, every 0.1 s or so."""
_MIN_LIMIT = 4
_FIRST_LIMIT = 32
_DECREASE = 0.8
_INCREASE = 1.1


class Admission:
    """Admits requests up to a limit that follows the delay of the event loop.

    The delay is the time between the moment when a callback is due and the moment when it runs: all the work that is
    queued before it. If even the smallest delay of several probes is above the target, the queue does not empty any
    more, and the limit shrinks; otherwise it grows again. (Active queue management does the same with packets: see
    CoDel, RFC 8289, and for the steps additive increase, multiplicative decrease.) Requests that wait for another
    server delay nobody, so of those many are admitted.

    All methods belong to one event loop.
    """

    def __init__(self, max_concurrent_requests: int, target_delay_ms: int) -> None:
        """``max_concurrent_requests`` bounds the limit."""
        self._max_limit = max_concurrent_requests
        self._target_seconds = target_delay_ms / 1000
        self.limit = min(_FIRST_LIMIT, max_concurrent_requests)
        self.in_flight = 0

    def check(self) -> None:
        """Raises ApiError 503 if no request is admitted now."""
        if self.in_flight >= self.limit:
            raise busy()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Holds a slot for a request. Raises ApiError 503 if there is none."""
        self.check()
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def watch(self) -> None:
        """Measures the delay and sets the limit, until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            delay = min([await _delay(loop) for _ in range(_PROBES)])
            self.adjust(delay)

    def adjust(self, delay_seconds: float) -> None:
        """Sets the limit after the smallest of several delays."""
        if delay_seconds > self._target_seconds:
            limit = int(min(self.limit, max(self.in_flight, _MIN_LIMIT)) * _DECREASE)
            self.limit = min(max(limit, _MIN_LIMIT), self._max_limit)
        else:
            self.limit = min(int(self.limit * _INCREASE) + 1, self._max_limit)


async def _delay(loop: asyncio.AbstractEventLoop) -> float:
    due = loop.time() + _PROBE_SECONDS
    await asyncio.sleep(_PROBE_SECONDS)
    return loop.time() - due
