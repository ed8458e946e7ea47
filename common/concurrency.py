"""Doing several things at once, and leaving nothing behind when one of them fails."""

import asyncio
from collections.abc import Awaitable, Iterable
from typing import TypeVar

Result = TypeVar("Result")


async def gather_all(awaitables: Iterable[Awaitable[Result]]) -> list[Result]:
    """The results in order; where some fail, the first failure, but only when all have ended.

    ``asyncio.gather`` raises at once and leaves the others running: their effects would then meet those of the retry.
    """
    results = await asyncio.gather(*awaitables, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
