"""A server process and what it starts end together, also when it was killed and started again."""

import sys
from pathlib import Path

import psutil
import pytest

from local.process import Launch, Server
from tests.support.waiting import wait_until

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open("children", "a") as file:
    print(child.pid, file=file, flush=True)
time.sleep(600)
"""


class Parent(Server):
    name = "a server with a child process"
    start_timeout_seconds = 60
    stop_timeout_seconds = 10

    def prepare(self) -> Launch:
        self._starts = len(self.children()) + 1
        return Launch([sys.executable, "-c", PARENT])

    def is_ready(self) -> bool:
        return len(self.children()) == self._starts

    def children(self) -> list[int]:
        file = self.state_folder / "children"
        return [int(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.mark.parametrize("restarts", [0, 1])
def test_nothing_is_left_behind(tmp_path: Path, restarts: int) -> None:
    server = Parent(tmp_path / "server")
    server.start()
    try:
        for _ in range(restarts):
            server.restart()
        children = [psutil.Process(pid) for pid in server.children()]
        assert len(children) == restarts + 1
    finally:
        server.stop()
    wait_until(lambda: not any(map(_is_running, children)), "the children have ended", 30)


def _is_running(process: psutil.Process) -> bool:
    """A process that has ended is a zombie until the machine's first process has noticed."""
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
