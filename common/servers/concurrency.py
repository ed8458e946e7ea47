"""Concurrency that leaves nothing running when one of several tasks fails."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def gather_all(awaitables: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results in order. If some fail, raises the first failure once all have ended.

    ``asyncio.gather`` raises at once and leaves the others running, so that their effects could interleave with those
    of a retry. A result may be an exception object; only a raised one is a failure.
    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]
