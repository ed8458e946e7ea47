"""The limit for bytes inside a stage, with the thread that takes and the one that gives back."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.flink.byte_budget import ByteBudget
from tests.support.waiting import wait_until


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def is_waiting(budget: ByteBudget, taking: "Future[None]") -> bool:
    with budget._changed:
        return budget._is_awaited and not taking.done()


def test_what_fits_does_not_wait() -> None:
    budget = ByteBudget(10)
    budget.take(4)
    budget.take(6)


def test_what_does_not_fit_waits_until_enough_is_given_back(thread: ThreadPoolExecutor) -> None:
    budget = ByteBudget(10)
    budget.take(5)
    budget.take(5)
    taking = thread.submit(budget.take, 6)
    wait_until(lambda: is_waiting(budget, taking), "it waits", 30)
    budget.give_back(5)
    wait_until(lambda: is_waiting(budget, taking), "it waits, because 5 and 6 are more than 10", 30)
    budget.give_back(5)
    taking.result(timeout=30)


def test_what_is_larger_than_the_limit_passes_alone(thread: ThreadPoolExecutor) -> None:
    budget = ByteBudget(10)
    budget.take(1_000)
    taking = thread.submit(budget.take, 1)
    wait_until(lambda: is_waiting(budget, taking), "it waits", 30)
    budget.give_back(1_000)
    taking.result(timeout=30)


@given(st.lists(st.integers(0, 15), max_size=50))
def test_the_limit_holds_and_everything_passes(sizes: list[int]) -> None:
    budget = ByteBudget(10)
    taken = threading.Semaphore(0)
    most = 0

    def give_back() -> None:
        nonlocal most
        for size in sizes:
            assert taken.acquire(timeout=30)
            with budget._changed:
                most = max(most, budget._in_use)
            budget.give_back(size)

    with ThreadPoolExecutor(1) as executor:
        giving = executor.submit(give_back)
        for size in sizes:
            budget.take(size)
            taken.release()
        giving.result(timeout=30)
    assert most <= max(10, *sizes, 0)
