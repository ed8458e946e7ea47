"""Takes two waits out of the Python worker, which PyFlink 2.3 and Beam put into every bundle.

**For each record.** ``AsyncFunctionRunner.run_async`` wakes the event loop up for each record, with a system call for
which its thread gives the interpreter lock away. While the loop is busy it gets the lock back after 5 ms
(``sys.getswitchinterval``), so that records trickle in. Here a loop that has been woken up and has not come to it yet
is left alone, and takes all records that have come by then.

**At the end of each bundle.** Beam's ``StateSampler`` starts a thread for each bundle, which sleeps ever longer, up to
200 ms at a time, and the bundle does not end before the thread has woken up: after a tenth of its time more, on the
average. The samples go into metrics of Beam that Flink does not read. Here no such thread is started.
"""

import threading
from collections import deque
from functools import wraps
from typing import Any


def remove() -> None:
    """Patches this process's ``AsyncFunctionRunner`` and ``StateSampler``; a second call changes nothing.

    ``common.flink.patches.async_guard`` has to be installed, which refuses other versions of PyFlink.
    """
    # Only a Python worker needs these, and there they are loaded already.
    from apache_beam.runners.worker.statesampler import StateSampler  # noqa: PLC0415
    from pyflink.fn_execution.datastream.process.async_function.operation import AsyncFunctionRunner  # noqa: PLC0415

    if AsyncFunctionRunner.run_async is not _run_async:
        AsyncFunctionRunner.run_async = wraps(AsyncFunctionRunner.run_async)(_run_async)
        _without_thread(StateSampler)


def _run_async(runner: Any, async_function: Any, record: Any, result_handler: Any) -> None:
    """Called by the bundle's thread alone."""
    try:
        handed_over = runner.handed_over
    except AttributeError:
        handed_over = runner.handed_over = _HandedOver(runner)
    handed_over.put(async_function, record, result_handler)


class _HandedOver:
    """Records on their way from the bundle's thread to the event loop."""

    def __init__(self, runner: Any) -> None:
        self._runner = runner
        self._records: deque[tuple[Any, Any, Any]] = deque()
        self._is_awake = False
        self._tasks: set[Any] = set()

    def put(self, *record: Any) -> None:
        self._records.append(record)
        # In this order, and in the other one in _take: a record is never put behind the loop's last look.
        if not self._is_awake:
            self._is_awake = True
            self._runner._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._is_awake = False
        while self._records:
            task = self._runner._loop.create_task(self._runner.exception_handler_wrapper(*self._records.popleft()))
            # The loop itself only knows its tasks weakly.
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


def _without_thread(sampler_class: Any) -> None:
    from apache_beam.runners.worker.statesampler import set_current_tracker  # noqa: PLC0415

    stop_thread = sampler_class.stop

    @wraps(sampler_class.start)
    def start(sampler: Any) -> None:
        sampler.has_no_thread = True
        sampler.tracked_thread = threading.current_thread()
        set_current_tracker(sampler)
        sampler.started = True

    @wraps(stop_thread)
    def stop(sampler: Any) -> None:
        # The first bundle, in which this is called, has started one.
        if not hasattr(sampler, "has_no_thread"):
            stop_thread(sampler)
            return
        set_current_tracker(None)
        sampler.finished = True

    sampler_class.start, sampler_class.stop = start, stop
