"""The watch of pauses: its rule with a clock of the test, its thread with processes that are really stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from common.domain.faults import TaskFault
from common.flink import pauses
from common.flink.pauses import Pauses
from tests.support.waiting import wait_until

REPOSITORY = Path(__file__).parents[2]
LIMIT = 20.0


class Process:
    """The clock, and whether the TaskManager runs."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.has_task_manager = True
        self.pauses = Pauses(LIMIT, lambda: self.time, lambda: self.has_task_manager)

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.time += 1
            self.pauses.tick()


def test_while_the_thread_ticks_there_is_no_pause_however_long_that_takes() -> None:
    process = Process()
    read_at = process.pauses.now()
    process.run(600)
    assert process.pauses.since(read_at) is None


def test_a_process_that_goes_on_sees_the_pause_before_and_after_the_next_tick() -> None:
    process = Process()
    read_at = process.pauses.now()
    process.time += 60
    assert process.pauses.since(read_at) == 60
    process.pauses.tick()
    process.run(3)
    assert process.pauses.since(read_at) == 60


def test_a_pause_before_the_read_does_not_matter() -> None:
    process = Process()
    process.time += 60
    process.pauses.tick()
    assert process.pauses.since(process.pauses.now()) is None


def test_rows_that_were_read_during_a_pause_are_stale_too() -> None:
    """Between two ticks the process may have stood still at any moment."""
    process = Process()
    process.time += 30
    read_at = process.pauses.now()
    process.time += 30
    process.pauses.tick()
    assert process.pauses.since(read_at) == 60


def test_a_short_pause_does_not_matter() -> None:
    process = Process()
    read_at = process.pauses.now()
    process.time += LIMIT
    process.pauses.tick()
    assert process.pauses.since(read_at) is None


def test_while_the_task_manager_is_stopped_nothing_may_be_written() -> None:
    process = Process()
    process.has_task_manager = False
    process.run(60)
    assert process.pauses.since(process.pauses.now()) == 60
    process.has_task_manager = True
    process.run(1)
    assert process.pauses.since(process.pauses.now()) is None


def test_the_clock_goes_on_while_the_machine_is_suspended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "clock_gettime", lambda clock: 7.0 if clock == time.CLOCK_BOOTTIME else 0.0)
    assert Pauses(LIMIT).now() == 7.0


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Process:
    process = Process()
    monkeypatch.setattr(pauses, "watch", lambda _: process.pauses)
    return process


def test_a_task_has_timestamps_until_it_has_stood_still_and_none_after(process: Process) -> None:
    clock = pauses.task_clock(LIMIT)
    process.run(600)
    assert clock() < clock()
    process.time += 60
    for _ in range(3):
        with pytest.raises(TaskFault, match=r"stood still for 6. s, longer than retry\.max_pause_ms"):
            clock()
        process.run(600)


def test_a_task_that_opens_after_a_pause_is_another_one(process: Process) -> None:
    process.time += 60
    process.pauses.tick()
    assert pauses.task_clock(LIMIT)() > 0


def test_a_timestamp_that_may_be_of_after_the_pause_is_not_given(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = pauses.task_clock(LIMIT)

    def take_and_stand_still() -> int:
        process.time += 60
        return 1

    monkeypatch.setattr(pauses, "next_timestamp_us", take_and_stand_still)
    with pytest.raises(TaskFault):
        clock()


WORKER = """
import sys, time
from common.flink import pauses
watch = pauses.watch(0.5)
read_at = watch.now()
print("ready", flush=True)
while True:
    sys.stdin.readline()
    print(watch.since(read_at), flush=True)
"""


class Family:
    """A process that stands for the TaskManager, and its worker."""

    def __init__(self, folder: Path) -> None:
        task_manager = folder / "java"
        task_manager.symlink_to(Path("/bin/bash").resolve())
        (folder / "worker.py").write_text(WORKER)
        # A shell replaces itself by its last command, hence the command behind it.
        self.task_manager = subprocess.Popen(
            [task_manager, "-c", f"{sys.executable} {folder / 'worker.py'}; true"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"
        (self.worker,) = psutil.Process(self.task_manager.pid).children(recursive=True)

    def _read(self) -> str:
        assert self.task_manager.stdout is not None
        return self.task_manager.stdout.readline().strip()

    def pause(self) -> float | None:
        assert self.task_manager.stdin is not None
        self.task_manager.stdin.write("?\n")
        self.task_manager.stdin.flush()
        answer = self._read()
        return None if answer == "None" else float(answer)

    def end(self) -> None:
        self.worker.kill()
        self.task_manager.kill()
        self.task_manager.communicate()


def test_a_worker_and_a_task_manager_that_are_really_stopped(tmp_path: Path) -> None:
    family = Family(tmp_path)
    try:
        assert family.pause() is None

        os.kill(family.task_manager.pid, signal.SIGSTOP)
        wait_until(lambda: family.pause() is not None, "the worker notices its TaskManager", 30)
        os.kill(family.task_manager.pid, signal.SIGCONT)
        before = family.pause()
        assert before is not None

        family.worker.send_signal(signal.SIGSTOP)
        wait_until(lambda: family.worker.status() == psutil.STATUS_STOPPED, "the worker is stopped")
        stopped = time.monotonic()
        wait_until(lambda: time.monotonic() - stopped > before + 1, "it stands still for longer than before")
        family.worker.send_signal(signal.SIGCONT)
        after = family.pause()
        assert after is not None
        assert after > before
    finally:
        family.end()


def test_a_task_manager_that_is_gone_does_not_run() -> None:
    """The thread of the watch asks once more before the worker ends."""
    task_manager = subprocess.Popen(["true"])
    task_manager.wait()
    assert not pauses._runs(task_manager.pid)
