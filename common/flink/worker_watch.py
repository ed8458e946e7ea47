"""Ends a Python worker whose TaskManager is gone.

A TaskManager that is killed cannot end its workers. They notice that their connections are gone and try to exit. But
Beam's log handler waits for a thread that in turn waits for the log handler (seen in every second worker), and Python
waits for the threads of every executor. Meanwhile the worker's other threads go on: they write what their batch has
decided, while their successor already works on the same users. `tests/faults/test_worker_watch.py` has workers that
stay without the watch and end with it.
"""

import functools
import logging
import os
import select
import sys
import threading
from pathlib import Path

logger = logging.getLogger(__name__)


@functools.cache
def end_with_task_manager() -> None:
    """Kills this process as soon as the TaskManager that started it has ended. To be called when the worker runs.

    The TaskManager is the nearest ancestor that is a `java` process. If there is none, for instance because the
    functions run in the client, nothing is watched. A second call changes nothing. Linux only.
    """
    if sys.platform != "linux":
        return
    task_manager = _nearest_java(os.getppid())
    if task_manager is None:
        logger.info("no TaskManager above this process: nothing to watch")
        return
    descriptor = os.pidfd_open(task_manager)
    threading.Thread(target=_watch, args=(descriptor,), name="watch of the TaskManager", daemon=True).start()


def _nearest_java(pid: int) -> int | None:
    while pid > 1:
        # "<pid> (<name>) <state> <parent pid> ...". The name may contain blanks and parentheses.
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").partition("(")[2].rpartition(")")
        if name == "java":
            return pid
        pid = int(rest.split()[1])
    return None


def _watch(descriptor: int) -> None:
    # Readable once the process has ended. Not sys.exit: no thread of this process may do anything any more.
    select.select([descriptor], [], [])
    os._exit(1)
