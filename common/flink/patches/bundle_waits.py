"""Shortens three waits that PyFlink 2.3 and Beam put into every bundle of a Python worker.

**Per record.** ``AsyncFunctionRunner.run_async`` wakes the event loop for each record. The system call releases the
interpreter lock, and while the loop is busy the thread gets the lock back only after 5 ms (``sys.getswitchinterval``),
so that records trickle in. Here the loop is woken once, and then takes all records that have arrived by the time it
runs.

The same place limits bytes: PyFlink limits only the number of records in flight, and a thousand events of a megabyte
are gigabytes once they are decoded. A function with a method ``wait_for_room`` is asked, in the thread of the bundle,
before it gets a record.

**Per bundle.** Beam's ``StateSampler`` starts a thread for each bundle. The thread sleeps for up to 200 ms at a time,
and the bundle does not end before it wakes up: on average this adds a tenth to the bundle's time. Its samples go into
metrics of Beam that Flink does not read. Here no such thread is started.

**Per message.** Messages leave the worker when they are 10 MB, when the bundle ends, or with the first record that is
done after a second has passed. Here that is every 50 ms, so that bundles may be long.
"""

import threading
from collections import deque
from collections.abc import Callable
from functools import wraps
from typing import Any

_MESSAGES_WAIT_SECONDS = 0.05


def shorten() -> None:
    """Patches ``AsyncFunctionRunner`` and ``StateSampler`` in this process, and the streams of messages that it has.

    A second call changes nothing.

    ``async_guard`` must be installed: it refuses other versions of PyFlink.
    """
    # Only a Python worker needs these modules, and has loaded them already.
    from apache_beam.runners.worker.statesampler import StateSampler  # noqa: PLC0415
    from pyflink.fn_execution.datastream.process.async_function.operation import AsyncFunctionRunner  # noqa: PLC0415
    from pyflink.fn_execution.utils.operation_utils import PeriodicThread  # noqa: PLC0415

    # The only threads of this class tell an output stream, each second, that its writer shall flush.
    for thread in threading.enumerate():
        if isinstance(thread, PeriodicThread):
            thread._interval = _MESSAGES_WAIT_SECONDS
    if AsyncFunctionRunner.run_async is not _run_async:
        AsyncFunctionRunner.run_async = wraps(AsyncFunctionRunner.run_async)(_run_async)
        _without_thread(StateSampler)


def _run_async(runner: Any, async_function: Any, record: Any, result_handler: Any) -> None:
    """Called only by the bundle's thread."""
    try:
        handed_over = runner.handed_over
    except AttributeError:
        function = getattr(async_function, "__self__", None)
        handed_over = runner.handed_over = _HandedOver(runner, getattr(function, "wait_for_room", None))
    handed_over.put(async_function, record, result_handler)


class _HandedOver:
    """Records on their way from the bundle's thread to the event loop."""

    def __init__(self, runner: Any, wait_for_room: Callable[[Any], None] | None) -> None:
        self._runner = runner
        self._wait_for_room = wait_for_room
        self._records: deque[tuple[Any, Any, Any]] = deque()
        self._is_awake = False
        self._tasks: set[Any] = set()

    def put(self, async_function: Any, record: Any, result_handler: Any) -> None:
        if self._wait_for_room is not None:
            self._wait_for_room(record)
        self._records.append((async_function, record, result_handler))
        # The order is reversed in _take, so that no record is added after the loop has looked for the last time.
        if not self._is_awake:
            self._is_awake = True
            self._runner._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._is_awake = False
        while self._records:
            task = self._runner._loop.create_task(self._runner.exception_handler_wrapper(*self._records.popleft()))
            # The loop holds only weak references to its tasks.
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
        # The first bundle, which called this function, has started a thread.
        if not hasattr(sampler, "has_no_thread"):
            stop_thread(sampler)
            return
        set_current_tracker(None)
        sampler.finished = True

    sampler_class.start, sampler_class.stop = start, stop
