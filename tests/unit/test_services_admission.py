"""How many requests are admitted: fewer while the event loop lags, many while they only wait."""

import asyncio
import time

import pytest

from services.admission import Admission
from services.envelope import ApiError

TARGET_MS = 10
LATE, ON_TIME = 0.05, 0.001


def test_what_is_beyond_the_limit_is_refused_at_once_and_a_slot_is_given_back() -> None:
    admission = Admission(2, TARGET_MS)

    with admission.slot():
        with pytest.raises(ZeroDivisionError), admission.slot():
            raise ZeroDivisionError
        with admission.slot():
            with pytest.raises(ApiError) as raised, admission.slot():
                raise AssertionError("a third request was admitted")
            assert raised.value.http_status == 503
            assert raised.value.headers == {"Retry-After": "1"}
        admission.check()
    assert admission.in_flight == 0


def test_the_limit_shrinks_while_the_loop_lags_and_grows_back() -> None:
    admission = Admission(256, TARGET_MS)
    first = admission.limit

    for _ in range(100):
        admission.adjust(ON_TIME)
    assert first < admission.limit == 256
    for _ in range(100):
        admission.adjust(LATE)
    assert admission.limit == 4
    for _ in range(100):
        admission.adjust(ON_TIME)
    assert admission.limit == 256


def test_the_limit_starts_to_shrink_from_what_is_in_flight() -> None:
    admission = Admission(256, TARGET_MS)
    for _ in range(100):
        admission.adjust(ON_TIME)
    admission.in_flight = 50

    admission.adjust(LATE)

    assert admission.limit == 40


def test_the_smallest_maximum_is_kept() -> None:
    admission = Admission(1, TARGET_MS)
    for delay in (ON_TIME, LATE, ON_TIME):
        admission.adjust(delay)
        assert admission.limit == 1


def test_work_in_the_loop_shrinks_the_limit_and_waiting_does_not() -> None:
    async def limit_with(work_seconds: float) -> int:
        admission = Admission(256, TARGET_MS)
        adjusted = asyncio.Event()
        adjust = admission.adjust

        def note(delay_seconds: float) -> None:
            adjust(delay_seconds)
            adjusted.set()

        admission.adjust = note  # type: ignore[method-assign]

        async def request() -> None:
            while True:
                time.sleep(work_seconds)  # noqa: ASYNC251 - it is the work that delays the others
                await asyncio.sleep(0 if work_seconds else 0.01)

        async with asyncio.timeout(30):
            tasks = [asyncio.create_task(request()) for _ in range(30)]
            watching = asyncio.create_task(admission.watch())
            await adjusted.wait()
            for task in (*tasks, watching):
                task.cancel()
        return admission.limit

    assert asyncio.run(limit_with(0.001)) < 32
    assert asyncio.run(limit_with(0)) > 32
