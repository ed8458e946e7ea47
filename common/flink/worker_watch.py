"""Ends a Python worker whose TaskManager, or whose task, is gone.

**The TaskManager.** A TaskManager that is killed cannot end its workers. They notice that their connections are gone
and try to exit. But Beam's log handler waits for a thread that in turn waits for the log handler (seen in every second
worker), and Python waits for the threads of every executor.

**The task.** When a task fails, Beam ends the shell script that it started for the worker, but not the Python processes
below it.

In both cases the worker's other threads go on: they write what their batch has decided, while their successor already
works on the same users. ``tests/faults/test_worker_watch.py`` has workers that stay without the watch and end with it.

A worker that was stopped meanwhile (SIGSTOP) may write before the thread of the watch gets its turn. So
:mod:`common.flink.pauses` asks :func:`end_of_task` before each request to Cassandra, too.
"""

import functools
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)


@functools.cache
def end_with_task() -> None:
    """Kills this process as soon as one of the processes that started it has ended. To be called when the worker runs.

    These are all ancestors up to the TaskManager, the nearest ``java`` process. If there is none, for instance because
    the functions run in the client, nothing is watched. A second call changes nothing. Linux only.
    """
    descriptors = _ancestors()
    if not descriptors:
        logger.info("no TaskManager above this process: nothing to watch")
        return
    threading.Thread(target=_watch, args=(descriptors,), name="watch of the task", daemon=True).start()


def end_of_task() -> Callable[[], bool]:
    """A function that says whether one of the processes that :func:`end_with_task` watches has ended.

    It says no for ever where nothing is watched. Each thread needs one of its own.
    """
    poll = select.poll()
    for descriptor in _ancestors():
        poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


@functools.cache
def _ancestors() -> Sequence[int]:
    """A descriptor of each process to watch, which is readable once the process has ended. They stay open."""
    if sys.platform != "linux":
        return ()
    return [os.pidfd_open(pid) for pid in ancestors_up_to_java(os.getppid())]


def ancestors_up_to_java(pid: int) -> list[int]:
    """``pid`` and its ancestors, up to the nearest ``java`` process; empty if there is no such process."""
    ancestors = []
    # In a container the TaskManager may be process 1, whose parent is 0.
    while pid > 0:
        ancestors.append(pid)
        # "<pid> (<name>) <state> <parent pid> ...". The name may contain blanks and parentheses.
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
        if name == "java":
            return ancestors
        pid = int(rest.split()[1])
    return []


def _watch(descriptors: Sequence[int]) -> None:
    select.select(descriptors, [], [])
    # Not sys.exit: no thread of this process may do anything any more.
    os._exit(1)
