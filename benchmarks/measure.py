"""CPU, memory and progress of a running job, sampled; and what follows from the samples. No job is named here."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles

import psutil

SAMPLE_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds since some start, events done, CPU seconds and resident bytes by group of processes."""

    at: float
    done: int
    cpu: Mapping[str, float]
    memory: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SteadyState:
    """What happened between two samples; CPU in ms per event, memory in bytes at its peak."""

    events: int
    seconds: float
    cpu_ms: Mapping[str, float]
    peak_memory: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Events per second."""
        return self.events / self.seconds


Processes = Mapping[str, Callable[[], Sequence[psutil.Process]]]
"""The processes of each group, looked up anew for each sample: Python workers come and go."""


def sample(processes: Processes, done: int) -> Sample:
    """One look at everything."""
    cpu: dict[str, float] = {}
    memory: dict[str, int] = {}
    for group, find in processes.items():
        members = [member for member in find() if member.is_running()]
        cpu[group] = sum(times.user + times.system for times in (member.cpu_times() for member in members))
        memory[group] = sum(member.memory_info().rss for member in members)
    return Sample(time.perf_counter(), done, cpu, memory)


def watch(processes: Processes, done: Callable[[], int], until: int, timeout_seconds: float) -> list[Sample]:
    """Samples until so many events are done. Raises TimeoutError where that takes too long."""
    samples = [sample(processes, done())]
    deadline = time.monotonic() + timeout_seconds
    while samples[-1].done < until:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{samples[-1].done} of {until} events are done after {timeout_seconds:g} s")
        time.sleep(SAMPLE_SECONDS)
        samples.append(sample(processes, done()))
    return samples


def steady_state(samples: Sequence[Sample], first: int) -> SteadyState:
    """From the first sample with at least ``first`` events done to the last one."""
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
    """Resident bytes of each group of processes when a quarter, a half, three quarters and all events were done."""
    until = samples[-1].done
    ends = [next(entry for entry in samples if entry.done >= until * quarter / 4) for quarter in (1, 2, 3, 4)]
    return {group: [entry.memory[group] for entry in ends] for group in samples[-1].memory}


def percentile(values: Sequence[float], percent: int) -> float:
    """The value below which ``percent`` (1 to 99) of the values lie."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]
