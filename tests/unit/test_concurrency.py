"""Things done at once: what comes back, and when."""

import asyncio
import gc
import weakref

import pytest

from common.servers.concurrency import gather_all


class Rows(str):
    """That can have a weak reference."""


async def returns(value: object, order: list[object]) -> object:
    await asyncio.sleep(0)
    order.append(value)
    return value


async def raises(error: Exception) -> object:
    raise error


async def test_results_come_in_the_order_of_what_was_asked() -> None:
    assert await gather_all(returns(number, []) for number in range(3)) == [0, 1, 2]
    assert await gather_all([]) == []


async def test_the_first_failure_is_raised_when_all_have_ended() -> None:
    ended: list[object] = []
    with pytest.raises(KeyError, match="first"):
        await gather_all((raises(KeyError("first")), returns("last", ended), raises(ValueError("second"))))
    assert ended == ["last"]


async def test_a_failure_keeps_nothing_until_the_garbage_collector_comes() -> None:
    """A worker collects rarely, and a batch may have read megabytes."""
    rows = Rows("of a megabyte")
    kept = weakref.ref(rows)

    async def fails(_: object) -> object:
        raise KeyError

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(KeyError):
            await gather_all([returns(1, []), fails(rows)])
        del rows
        # What has ended the call is still being handled when the call returns.
        await asyncio.sleep(0)
        assert kept() is None
    finally:
        gc.enable()


async def test_an_exception_that_is_returned_is_a_result() -> None:
    fault = ValueError("a fault of the data")
    assert await gather_all((returns(fault, []), returns(1, []))) == [fault, 1]


async def test_who_is_cancelled_leaves_nothing_running() -> None:
    started = asyncio.Event()
    ended: list[object] = []

    async def wait_for_ever() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    gathering = asyncio.create_task(gather_all([wait_for_ever()]))
    await started.wait()
    gathering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gathering
    assert ended == ["cancelled"]
