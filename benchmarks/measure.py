"""Samples CPU, memory and progress of a running job, and computes figures from the samples."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

import psutil

SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement.

    ``at`` is in seconds of a monotonic clock, ``done`` is the number of events processed so far. ``cpu`` (seconds) and
    ``memory`` (resident bytes) are by group of processes.
    """

    at: float
    done: int
    cpu: Mapping[str, float]
    memory: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SteadyState:
    """The figures between two samples: CPU in ms per event, and the peak of the memory in bytes."""

    events: int
    seconds: float
    cpu_ms: Mapping[str, float]
    peak_memory: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    def cpu_ms_of(self, prefix: str) -> float:
        """The CPU-ms per event of all groups whose names begin with ``prefix``."""
        return sum(cpu_ms for group, cpu_ms in self.cpu_ms.items() if group.startswith(prefix))


Processes = Mapping[str, Callable[[], Sequence[psutil.Process]]]
"""Functions that return the processes of each group. They are called for each sample, because Python workers change."""


def sample(processes: Processes, done: int) -> Sample:
    """Measures the CPU and memory of all groups now."""
    cpu: dict[str, float] = {}
    memory: dict[str, int] = {}
    for group, find in processes.items():
        members = [member for member in find() if member.is_running()]
        cpu[group] = sum(times.user + times.system for times in (member.cpu_times() for member in members))
        memory[group] = sum(member.memory_info().rss for member in members)
    return Sample(time.perf_counter(), done, cpu, memory)


def watch(processes: Processes, done: Callable[[], int], until: int, timeout_seconds: float) -> list[Sample]:
    """Samples until ``until`` events are done. Raises TimeoutError if that takes too long."""
    samples = [sample(processes, done())]
    deadline = time.monotonic() + timeout_seconds
    while samples[-1].done < until:
        if time.monotonic() > deadline:
            raise TimeoutError(f"only {samples[-1].done} of {until} events are done after {timeout_seconds:g} s")
        time.sleep(SAMPLE_SECONDS)
        samples.append(sample(processes, done()))
    return samples


def steady_state(samples: Sequence[Sample], first: int) -> SteadyState:
    """The figures from the first sample with at least ``first`` events done to the last sample."""
    start = next(entry for entry in samples if entry.done >= first)
    end = samples[-1]
    events = end.done - start.done
    return SteadyState(
        events=events,
        seconds=end.at - start.at,
        cpu_ms={group: (end.cpu[group] - start.cpu[group]) * 1000 / events for group in end.cpu},
        peak_memory={group: max(entry.memory[group] for entry in samples) for group in end.memory},
    )


def memory_by_quarter(samples: Sequence[Sample]) -> dict[str, list[int]]:
    """The resident bytes of each group when a quarter, a half, three quarters and all of the events were done."""
    until = samples[-1].done
    ends = [next(entry for entry in samples if entry.done >= until * quarter / 4) for quarter in (1, 2, 3, 4)]
    return {group: [entry.memory[group] for entry in ends] for group in samples[-1].memory}


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` (1 to 99) of the values lie."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]
