"""Concurrency that leaves nothing running when one of several tasks fails."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def gather_all(awaitables: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results in order. If some fail, raises the first failure once all have ended.

    ``asyncio.gather`` raises at once and leaves the others running, so that their effects could interleave with those
    of a retry. A result may be an exception object; only a raised one is a failure.
    """
    tasks = deque(map(asyncio.ensure_future, awaitables))
    try:
        await asyncio.gather(*tasks, return_exceptions=True)
        results = []
        while tasks:
            results.append(tasks.popleft().result())
        return results
    finally:
        # A failure refers to this frame. If the frame refers to its task, what the task has used stays until the
        # garbage collector comes, which is rare in a worker.
        del tasks, awaitables
