"""The watch of a Python worker, with processes that stand for TaskManager and script; the real ones: tests/faults."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import has_ended, wait_until

REPOSITORY = Path(__file__).parents[2]
WORKER = """
import sys, time
from pathlib import Path
from common.flink import worker_watch
worker_watch.end_with_task()
Path(sys.argv[1]).touch()
time.sleep(600)
"""


@pytest.fixture
def family(tmp_path: Path) -> Iterator[list[psutil.Process]]:
    """TaskManager, script, starter and worker, each the child of the one before, once the worker is watched."""
    shell = Path("/bin/bash").resolve()
    task_manager = tmp_path / "java"
    task_manager.symlink_to(shell)
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    ready = tmp_path / "ready"
    # A shell replaces itself by its last command, hence the command behind it.
    worker = f"{sys.executable} {program} {ready}; true"
    script = f"{shell} -c '{worker}'; true"
    process = subprocess.Popen(
        [task_manager, "-c", f'{shell} -c "{script}"; true'], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}
    )
    try:
        wait_until(ready.exists, "the worker is watched")
        root = psutil.Process(process.pid)
        processes = [root, *root.children(recursive=True)]
        assert processes[0].name() == "java"
        assert len(processes) == 4
        yield processes
    finally:
        for left in (*psutil.Process(process.pid).children(recursive=True), process):
            with contextlib.suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


@pytest.mark.parametrize("ancestor", [0, 1, 2], ids=["TaskManager", "script", "starter"])
def test_the_worker_ends_with_each_of_its_ancestors(family: list[psutil.Process], ancestor: int) -> None:
    family[ancestor].send_signal(signal.SIGKILL)
    wait_until(lambda: has_ended(family[-1]), "the worker has ended", 30)


def test_a_worker_whose_ancestors_live_goes_on(family: list[psutil.Process]) -> None:
    with pytest.raises(AssertionError, match="the worker has ended"):
        wait_until(lambda: has_ended(family[-1]), "the worker has ended", 1)


def test_without_a_task_manager_nothing_is_watched(tmp_path: Path) -> None:
    program = tmp_path / "worker.py"
    program.write_text(WORKER.replace("time.sleep(600)", ""))
    subprocess.run(
        [sys.executable, program, tmp_path / "ready"], env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True
    )
    assert (tmp_path / "ready").exists()
