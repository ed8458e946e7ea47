"""A server process and what it starts end together, also when it was killed and started again."""

import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local.process import Launch, Server, start_ended
from tests.support.waiting import has_ended, wait_until

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


def restart(server: Server) -> None:
    server.restart()


def crash(server: Server) -> None:
    """It ends by itself, and is started again as Kubernetes would."""
    process = psutil.Process(server.pid)
    process.kill()
    wait_until(lambda: not server.is_running, "it has ended", 30)
    assert start_ended([server]) == [server]


@pytest.mark.parametrize("ends", [[], [restart], [crash]])
def test_nothing_is_left_behind(tmp_path: Path, ends: list[Callable[[Server], None]]) -> None:
    server = Parent(tmp_path / "server")
    server.start()
    try:
        for end in ends:
            end(server)
        children = [psutil.Process(pid) for pid in server.children()]
        assert len(children) == len(ends) + 1
    finally:
        server.stop()
    wait_until(lambda: all(map(has_ended, children)), "the children have ended", 30)
