"""Ends the writes of a task that has stood still: SIGSTOP, a paused container, a machine that swaps or sleeps.

If a worker or its TaskManager stands still for longer than ``max_pause_ms``, the task may get a successor elsewhere:
see :func:`common.flink.start_check.check_pause`. When the worker goes on, it does not know that, until Flink ends it.
It must write nothing any more:

* What it has decided from rows that it read before is stale: the successor has applied the same events and later ones.
* To read again does not help. It still has events, and would apply them at the same time as its successor: each could
  read a row, and then cover what the other has written meanwhile.

So each request to Cassandra takes its timestamp first, and is then refused if there was a pause. A request whose pause
comes later has the timestamp of before the pause, and everything that the successor writes wins against it.

A thread ticks, and a gap between two ticks is a pause. A slow batch is none: the thread ticks on while the event loop
computes or waits for a server. While the TaskManager is stopped, the thread does not tick.

After a shorter pause the task may have a successor as well, if it has failed for another reason meanwhile. Then Flink
has ended a process between the TaskManager and the worker, or the TaskManager itself has ended. So a request is also
refused once one of them is gone.
"""

import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from common.domain.faults import TaskFault
from common.flink.worker_watch import ancestors_up_to_java, end_of_task
from common.servers.cassandra import next_timestamp_us

_TICK_SECONDS = 0.2
_STOPPED = frozenset("Tt")
"""The states of a process that SIGSTOP or a debugger has stopped, see proc(5)."""


# Unlike time.monotonic it goes on while the machine is suspended, which is a pause as any other. Only Linux has it.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def _clock() -> float:
    return time.clock_gettime(_CLOCK)


class Pauses:
    """The pauses of a process that were longer than a limit. One thread ticks, others ask."""

    def __init__(
        self,
        limit_seconds: float,
        clock: Callable[[], float] = _clock,
        is_running: Callable[[], bool] = lambda: True,
    ) -> None:
        """``clock`` is monotonic, in seconds; ``is_running`` says whether the TaskManager is."""
        self._limit = limit_seconds
        self._clock = clock
        self._is_running = is_running
        self._last_tick = clock()
        self._seconds = 0.0
        self._ended_at = float("-inf")

    def now(self) -> float:
        """The time of the clock, for :meth:`since`."""
        return self._clock()

    def tick(self) -> None:
        """To be called several times within the limit."""
        if not self._is_running():
            return
        now = self._clock()
        if now - self._last_tick > self._limit:
            self._seconds, self._ended_at = now - self._last_tick, now
        # Last: who sees this tick must also see the pause that it ended.
        self._last_tick = now

    def since(self, moment: float) -> float | None:
        """How long the last pause took, in seconds, that has ended since ``moment`` or goes on; None without one."""
        last_tick = self._last_tick
        current = self._clock() - last_tick
        if current > self._limit:
            return current
        return self._seconds if self._ended_at > moment else None


def task_clock(limit_seconds: float) -> Callable[[], int]:
    """The timestamps (us since 1970) of a task's requests to Cassandra. To be created when the task opens.

    It raises TaskFault once the worker or its TaskManager has stood still for longer than the limit since then, or one
    of the processes that have started the worker is gone. For one thread at a time.
    """
    has_task_ended = end_of_task()
    pauses = watch(limit_seconds)
    opened_at = pauses.now()

    def next_timestamp_of_the_task_us() -> int:
        timestamp_us = next_timestamp_us()
        seconds = pauses.since(opened_at)
        if seconds is not None:
            raise TaskFault(
                f"this worker or its TaskManager stood still for {seconds:.0f} s, longer than retry.max_pause_ms: "
                "the task may have a successor, and must not write any more"
            )
        if has_task_ended():
            raise TaskFault("the task of this worker has ended: it may have a successor, and must not write any more")
        return timestamp_us

    return next_timestamp_of_the_task_us


@functools.cache
def watch(limit_seconds: float) -> Pauses:
    """The pauses of this process. A thread ticks from the first call on."""
    task_manager = next(reversed(ancestors_up_to_java(os.getppid())), None) if sys.platform == "linux" else None
    pauses = Pauses(limit_seconds, is_running=lambda: task_manager is None or _runs(task_manager))

    def tick_for_ever() -> None:
        while True:
            time.sleep(min(_TICK_SECONDS, limit_seconds / 10))
            pauses.tick()

    threading.Thread(target=tick_for_ever, name="watch of pauses", daemon=True).start()
    return pauses


def _runs(pid: int) -> bool:
    """Whether the process is there and not stopped."""
    try:
        # "<pid> (<name>) <state> ...". The name may contain blanks and parentheses.
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in _STOPPED
