"""Long work in a thread that ends soon when the run is told to end."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

Check = Callable[[], None]
"""Called again and again by work in a thread. Raises when nobody waits for the work any more."""


class Abandoned(Exception):
    """Nobody waits for this work any more."""


async def in_thread(work: Callable[[Check], Result]) -> Result:
    """What ``work`` returns or raises. ``work`` gets a :data:`Check` that it calls at least every few milliseconds.

    A thread cannot be cancelled from outside, and the process would wait for it at its end. So a cancelled caller lets
    ``check`` raise, and goes on when the thread has ended: then nothing writes to its files any more.
    """
    abandoned = threading.Event()

    def check() -> None:
        if abandoned.is_set():
            raise Abandoned

    thread = asyncio.ensure_future(asyncio.to_thread(work, check))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        abandoned.set()
        await asyncio.wait([thread])
        if not thread.cancelled():
            thread.exception()  # seen: asyncio would log it otherwise
        raise
