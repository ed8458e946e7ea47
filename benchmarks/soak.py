"""``python -m benchmarks.soak``: all jobs at full load for an hour, on three Cassandra nodes and three brokers.

Each job has a TaskManager of the shipped size. Its topic never runs dry, so that nothing but the cluster limits the
job, and holds few events, so that disks do not fill. All processes share all cores. Figures are printed by quarter of
the time: what grows shows as a rising row.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.activity import ActivityLoad
from benchmarks.assessment import AssessmentLoad
from benchmarks.certificate import CertificateLoad
from benchmarks.load import JOB_SEED, Load
from benchmarks.measure import Sample, sample
from benchmarks.topic import Topic, consumer_group
from common.domain import topics
from jobs import JOBS
from local.config import load_config
from local.flink import TaskManager, shipped_sizes
from local.world import World

NODES = 3
"""Of Cassandra and of Kafka."""
QUARTERS = 4
SAMPLE_SECONDS = 2.0
METRICS_SECONDS = 60.0
"""Flink asks for metrics every 10 s."""
EVENTS_AHEAD = 3_000
"""A topic gets more events when fewer are left, by the offsets that the job commits with each checkpoint."""
EVENTS_AT_A_TIME = 500
COMPLETIONS_PER_SECOND = 200
"""The completions of a load come to an end. There are enough for this rate, which two cores do not reach."""
COMPLETIONS_PER_LEARNER = 30
"""About as many."""
_SHOWN = 5
"""So many events of a failed topic are shown with their reason."""


class Feed:
    """Keeps the input topic of one job filled."""

    def __init__(self, world: World, name: str, load: Load) -> None:
        self._topic = Topic(world, load.input_topic, consumer_group(name))
        self._values: Iterator[bytes] = (event.value for event in load.events(JOB_SEED))
        self.close = self._topic.close

    def done(self) -> int:
        """The number of events of the topic that the job has applied."""
        return self._topic.committed()

    def fill(self) -> bool:
        """Produces some events if few are left. Returns whether it did.

        Raises RuntimeError if the load has no more events.
        """
        if self._topic.end() - self.done() > EVENTS_AHEAD:
            return False
        if not self._topic.produce(islice(self._values, EVENTS_AT_A_TIME)):
            raise RuntimeError(f"{self._topic.name}: the load has no more events, so the job has nothing to do")
        return True


@dataclass(frozen=True, slots=True)
class SoakedJob:
    """A job at work, and how far it is."""

    name: str
    job_id: str
    manager: TaskManager
    feed: Feed
    failed_at_first: int
    """The checkpoints that had failed when the first one was completed: Flink triggers some before the tasks run."""


class Progress(NamedTuple):
    """How many events each job has done at a time of ``time.monotonic``."""

    at: float
    done: Mapping[str, int]


def main(arguments: Sequence[str]) -> int:
    """Prints the figures. Returns 1 if a job was restarted or events are on a failed topic, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60, help="how long (default %(default)s)")
    parser.add_argument(
        "-D", dest="flink", action="append", default=[], metavar="KEY=VALUE", help="Flink configuration"
    )
    options = parser.parse_args(arguments)
    # Not Config.with_nodes, whose small heaps are for short runs.
    sizes = shipped_sizes() | {
        "flink.task_managers": len(JOBS),
        "flink.slots_per_task_manager": 1,
        "cassandra.nodes": NODES,
        "kafka.brokers": NODES,
    }
    config = load_config(sizes=sizes)
    completions = options.minutes * 60 * COMPLETIONS_PER_SECOND + EVENTS_AHEAD
    loads = {
        "assessment_aggregator": AssessmentLoad(users=200_000),
        "activity_aggregate_updater": ActivityLoad(round(completions / COMPLETIONS_PER_LEARNER), seeds=(JOB_SEED,)),
        "collection_cert_pre_processor": CertificateLoad(),
    }
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        world = stack.enter_context(World(config.isolated(Path(folder)), report=print))
        for load in loads.values():
            stack.enter_context(closing(load))
            load.prepare(world)
        jobs: list[SoakedJob] = []
        flink = dict(option.split("=", 1) for option in options.flink)
        for name, load in loads.items():
            jobs.append(_start(world, name, load, flink, [job.manager for job in jobs]))
            stack.callback(jobs[-1].feed.close)
        return _soak(world, jobs, options.minutes * 60)


def _start(world: World, name: str, load: Load, flink: Mapping[str, str], taken: Sequence[TaskManager]) -> SoakedJob:
    feed = Feed(world, name, load)
    feed.fill()
    job_id = world.submit(JOBS[name], parallelism=1, environment=load.environment, options=flink)
    world.flink.client.wait_until_running(job_id, checkpoints=1)
    manager = next(each for each in world.flink.task_managers if each not in taken and each.python_workers())
    return SoakedJob(name, job_id, manager, feed, world.flink.client.checkpoints(job_id)["failed"])


def _soak(world: World, jobs: Sequence[SoakedJob], seconds: float) -> int:
    processes: dict[str, Callable[[], Sequence[psutil.Process]]] = {}
    for job in jobs:
        processes[f"{job.name}, worker"] = job.manager.python_workers
        processes[f"{job.name}, TaskManager"] = partial(_process, job.manager.pid)
    for server in (*world.cassandra_nodes, *world.kafka_brokers):
        processes[server.name] = partial(_process, server.pid)

    stop = threading.Event()
    feeds = [threading.Thread(target=_keep_filled, args=(job.feed, stop), name=job.name) for job in jobs]
    for feed in feeds:
        feed.start()
    quarters: list[list[Sample]] = []
    marks = [_progress(jobs)]
    try:
        for number in range(QUARTERS):
            end = marks[0].at + seconds * (number + 1) / QUARTERS
            samples = [sample(processes, 0)]
            while time.monotonic() < end:
                time.sleep(SAMPLE_SECONDS)
                samples.append(sample(processes, 0))
                if not all(feed.is_alive() for feed in feeds):
                    raise RuntimeError("a feed has ended: see its exception above")
            quarters.append(samples)
            marks.append(_progress(jobs))
            shown = ", ".join(f"{name} {rate:.0f}" for name, (rate,) in rates(marks[-2:]).items())
            print(f"after {(number + 1) * seconds / QUARTERS / 60:g} minutes, events/s: {shown}", flush=True)
    finally:
        stop.set()
        for feed in feeds:
            feed.join()
    return _report(world, jobs, marks, quarters)


def _process(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid)]


def _keep_filled(feed: Feed, stop: threading.Event) -> None:
    while not stop.wait(0 if feed.fill() else 0.2):
        pass


def _progress(jobs: Sequence[SoakedJob]) -> Progress:
    return Progress(time.monotonic(), {job.name: job.feed.done() for job in jobs})


def rates(marks: Sequence[Progress]) -> dict[str, list[float]]:
    """The events per second between one mark and the next, by job."""
    return {
        name: [(after.done[name] - before.done[name]) / (after.at - before.at) for before, after in pairwise(marks)]
        for name in marks[0].done
    }


def _report(
    world: World,
    jobs: Sequence[SoakedJob],
    marks: Sequence[Progress],
    quarters: Sequence[Sequence[Sample]],
) -> int:
    print("by quarter of the time:")
    for name, of_job in rates(marks).items():
        print(f"  {name:<46} {_row(of_job)} events/s   {marks[-1].done[name] - marks[0].done[name]} in all")
    for group in quarters[0][0].memory:
        peaks = [max(each.memory[group] for each in samples) / 2**20 for samples in quarters]
        cpu = [(samples[-1].cpu[group] - samples[0].cpu[group]) / _seconds(samples) for samples in quarters]
        print(f"  {group:<46} {_row(peaks)} MiB at most   {' '.join(f'{share:.2f}' for share in cpu)} cores")
    is_well = True
    for job in jobs:
        counts = world.flink.client.checkpoints(job.job_id)
        exceptions = world.flink.client.exceptions(job.job_id)
        is_well = is_well and not exceptions
        repeats = _requests_repeated(world, job, marks[-1].done[job.name])
        print(
            f"  {job.name}: {counts['completed']} checkpoints, {job.failed_at_first} failed before the first and "
            f"{counts['failed'] - job.failed_at_first} later, {len(exceptions)} restarts, "
            f"{repeats:.0f} requests to Cassandra repeated"
        )
        for exception in exceptions:
            print(exception.splitlines()[0])
    for name in topics.INPUT_OF:
        with closing(Topic(world, name)) as topic:
            print(f"  {topic.end()} events on {name}")
            for value in topic.first(_SHOWN):
                is_well = False
                print(f"    {json.loads(value)['metadata']['validation_error']}")
    return 0 if is_well else 1


def _requests_repeated(world: World, job: SoakedJob, done: int) -> float:
    """Flink asks the TaskManagers for metrics when somebody asks it, and answers with what it had before.

    So it is asked until it knows of all events that the job has applied. A job that was restarted counts from 0.
    """
    metrics = world.flink.client.metrics
    deadline = time.monotonic() + METRICS_SECONDS
    while sum(metrics(job.job_id, "events_in").values()) < done and time.monotonic() < deadline:
        time.sleep(SAMPLE_SECONDS)
    return sum(metrics(job.job_id, "requests_repeated").values())


def _seconds(samples: Sequence[Sample]) -> float:
    return samples[-1].at - samples[0].at


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:6.0f}" for value in values)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
