"""Doing several things at once, and leaving nothing behind when one of them fails."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def gather_all(awaitables: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results in order; where some fail, the first failure, but only when all have ended.

    ``asyncio.gather`` raises at once and leaves the others running: their effects would then meet those of the retry.
    A result may be an exception; only one that is raised is a failure.
    """
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.gather(*tasks, return_exceptions=True)
    return [task.result() for task in tasks]
