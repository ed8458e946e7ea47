"""The Python worker with shorter waits than those that PyFlink and Beam put into every bundle."""

import asyncio
import inspect
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from apache_beam.runners.worker import data_plane, statesampler
from apache_beam.utils.counters import CounterFactory
from pyflink.fn_execution.beam.beam_coder_impl_fast import FlinkLengthPrefixCoderBeamWrapper
from pyflink.fn_execution.coder_impl_fast import BinaryCoderImpl, ValueCoderImpl
from pyflink.fn_execution.datastream.process.async_function.operation import AsyncFunctionRunner

from common.flink.patches import bundle_waits
from tests.support.waiting import wait_until

RECORDS = 1_000


@pytest.fixture(autouse=True)
def with_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyFlink and Beam are, whatever was opened in this process before; in the end as it was."""
    for owner, name in (
        (AsyncFunctionRunner, "run_async"),
        (statesampler.StateSampler, "start"),
        (statesampler.StateSampler, "stop"),
    ):
        monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))


@pytest.fixture
def runner() -> Iterator[AsyncFunctionRunner]:
    bundle_waits.shorten()
    runner = AsyncFunctionRunner()
    runner.start()
    runner.wait_ready()
    yield runner
    runner.stop()


class Results:
    """What becomes of the records: PyFlink's handler of one record's result, for all of them."""

    def __init__(self) -> None:
        self.results: list[Any] = []
        self.errors: list[Exception] = []

    def complete(self, result: Any) -> None:
        self.results.append(result)

    def complete_exceptionally(self, error: Exception) -> None:
        self.errors.append(error)


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail(number: int) -> int:
    raise ValueError(number)


class TestHandingOver:
    def test_records_are_taken_in_their_order(self, runner: AsyncFunctionRunner) -> None:
        results = Results()
        for number in range(RECORDS):
            runner.run_async(double, number, results)
        wait_until(lambda: len(results.results) == RECORDS, "all records to be done")
        assert results.results == [2 * number for number in range(RECORDS)]

    def test_a_busy_loop_is_woken_up_once_for_all_records_that_come(
        self, runner: AsyncFunctionRunner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        busy = threading.Event()
        runner._loop.call_soon_threadsafe(busy.wait)
        wake_ups: list[tuple[Any, ...]] = []
        wake_up = runner._loop.call_soon_threadsafe

        def record_and_wake_up(*call: Any) -> None:
            wake_ups.append(call)
            wake_up(*call)

        monkeypatch.setattr(runner._loop, "call_soon_threadsafe", record_and_wake_up)
        results = Results()
        for number in range(RECORDS):
            runner.run_async(double, number, results)
        assert len(wake_ups) == 1
        busy.set()
        wait_until(lambda: len(results.results) == RECORDS, "all records to be done")

    def test_a_record_that_fails_is_told_and_the_others_go_on(self, runner: AsyncFunctionRunner) -> None:
        results = Results()
        runner.run_async(double, 1, results)
        runner.run_async(fail, 2, results)
        runner.run_async(double, 3, results)
        wait_until(lambda: len(results.results) == 2, "the others to be done")
        assert results.results == [2, 6]
        assert [(type(error), error.args) for error in results.errors] == [(ValueError, (2,))]

    def test_a_function_that_limits_its_records_is_asked_before_it_gets_one(self, runner: AsyncFunctionRunner) -> None:
        class Limiting:
            def __init__(self) -> None:
                self.asked: list[tuple[int, int]] = []

            def wait_for_room(self, number: int) -> None:
                self.asked.append((number, threading.get_ident()))

            async def double(self, number: int) -> int:
                assert number in [asked for asked, _ in self.asked]
                return 2 * number

        limiting, results = Limiting(), Results()
        for number in range(RECORDS):
            runner.run_async(limiting.double, number, results)
        wait_until(lambda: len(results.results) == RECORDS, "all records to be done")
        assert limiting.asked == [(number, threading.get_ident()) for number in range(RECORDS)]

    def test_each_runner_has_records_of_its_own(self, runner: AsyncFunctionRunner) -> None:
        results = Results()
        runner.run_async(double, 1, results)
        wait_until(lambda: results.results == [2], "the first runner")
        other = AsyncFunctionRunner()
        other.start()
        other.wait_ready()
        other.run_async(double, 2, results)
        wait_until(lambda: results.results == [2, 4], "the other runner")
        other.stop()


def sampler() -> statesampler.StateSampler:
    return statesampler.StateSampler("bundle", CounterFactory())


class TestStateSampler:
    def test_a_bundle_starts_no_thread(self) -> None:
        bundle_waits.shorten()
        threads = threading.active_count()
        bundle_sampler = sampler()
        for _ in range(3):
            bundle_sampler.start()
            assert threading.active_count() == threads
            assert statesampler.get_current_tracker() is bundle_sampler
            bundle_sampler.stop_if_still_running()
            assert statesampler.get_current_tracker() is None
            bundle_sampler.reset()

    def test_the_bundle_that_has_a_thread_already_ends_it(self) -> None:
        threads = threading.active_count()
        bundle_sampler = sampler()
        bundle_sampler.start()
        assert threading.active_count() == threads + 1
        bundle_waits.shorten()
        bundle_sampler.stop_if_still_running()
        assert threading.active_count() == threads
        assert statesampler.get_current_tracker() is None


def test_messages_leave_more_than_once_a_second() -> None:
    coder = FlinkLengthPrefixCoderBeamWrapper(ValueCoderImpl(BinaryCoderImpl()))
    portions: list[bytes] = []
    stream = data_plane.SizeBasedBufferingClosableOutputStream(flush_callback=portions.append)
    bundle_waits.shorten()
    started = time.monotonic()
    emitted = 0

    def emit() -> int:
        nonlocal emitted
        emitted += 1
        coder.encode_to_stream(b"message", stream, True)
        coder._output_stream.maybe_flush()
        return len(portions)

    try:
        # The first second is still PyFlink's.
        wait_until(lambda: emit() == 11, "messages have left eleven times")
        assert time.monotonic() - started < 8
        coder._output_stream.flush()
        assert b"".join(portions).count(b"message") == emitted
    finally:
        coder._output_stream.close()


def test_a_second_call_changes_nothing() -> None:
    bundle_waits.shorten()
    before = AsyncFunctionRunner.run_async, statesampler.StateSampler.start, statesampler.StateSampler.stop
    bundle_waits.shorten()
    after = AsyncFunctionRunner.run_async, statesampler.StateSampler.start, statesampler.StateSampler.stop
    assert after == before
