"""Separates the cores of the servers from those of the measured job, as if they ran on different machines."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Cores:
    """The numbers of the cores for the servers, and of those for the job and the plain driver."""

    of_servers: set[int]
    of_job: set[int]

    @property
    def all(self) -> set[int]:
        """All of these cores."""
        return self.of_servers | self.of_job


def choose_cores(choice: str) -> Cores:
    """Assigns our cores: ``separate`` gives half of them to the job, ``shared`` gives all of them to everything.

    Exits if there is only one core to separate.
    """
    cores = sorted(os.sched_getaffinity(0))
    if choice == "shared":
        return Cores(set(cores), set(cores))
    if len(cores) < 2:
        sys.exit("--cores separate needs at least two cores")
    half = len(cores) // 2
    return Cores(set(cores[:half]), set(cores[half:]))


@contextmanager
def running_on(cores: set[int]) -> Iterator[None]:
    """Restricts this thread to ``cores``. Threads and processes that it starts meanwhile stay there for good."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def move(pid: int, cores: set[int]) -> None:
    """Moves all threads of a process to ``cores``. New threads inherit the cores of the thread that starts them."""
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, cores)
