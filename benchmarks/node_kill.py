"""``python -m benchmarks.node_kill``: what the assessment aggregator gets done while a Cassandra node is lost.

On three nodes, at a steady rate. Each node in turn is killed, or with ``--pause`` stopped as if it hung, and comes
back. The certificate requests that the job sends, one for each attempt, show its progress by their times.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice, pairwise
from pathlib import Path

import psutil

from benchmarks.assessment import AssessmentLoad
from benchmarks.load import JOB_SEED
from benchmarks.topic import Topic
from local.config import load_config
from local.world import ALL, World

SECONDS = 15
"""At the steady rate, before a node is lost and after."""
SHOWN_SECONDS = 5
"""Before and after, whose messages are shown second by second."""
TICK_SECONDS = 0.02


def main(arguments: Sequence[str]) -> int:
    """Prints the figures. Returns 1 if an event has no message, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_kill", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=60, help="events per second (default %(default)s)")
    parser.add_argument("--pause", action="store_true", help="stop a node with SIGSTOP instead of killing it")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = load_config(sizes={"cassandra.nodes": 3}).isolated(Path(folder))
        world = stack.enter_context(World(config, ALL, report=print))
        load = stack.enter_context(closing(AssessmentLoad()))
        load.prepare(world)
        topic = stack.enter_context(closing(Topic(world, load.input_topic)))
        values = (event.value for event in load.events(JOB_SEED))
        job_id = world.submit(load.module, parallelism=1, environment=load.environment)
        sent = _send(topic, values, options.rate, SECONDS)
        world.flink.client.wait_until_running(job_id, checkpoints=2)
        lost_ms: list[int] = []
        for node in world.cassandra_nodes:
            sent += _send(topic, values, options.rate, SECONDS)
            lost_ms.append(time.time_ns() // 1_000_000)
            if options.pause:
                psutil.Process(node.pid).suspend()
            else:
                node.kill()
            sent += _send(topic, values, options.rate, SECONDS)
            if options.pause:
                psutil.Process(node.pid).resume()
            else:
                node.start()
            world.wait_until_nodes_see_each_other()
        world.flink.client.wait_until_running(job_id, checkpoints=2)
        with closing(Topic(world, load.output_topic)) as output:
            times_ms = output.times_ms()
        world.flink.client.cancel(job_id)
    for number, at_ms in enumerate(lost_ms, start=1):
        _report(f"node {number} is {'paused' if options.pause else 'killed'}", times_ms, at_ms)
    print(f"{sent} events, {len(times_ms)} messages")
    return int(len(times_ms) < sent)


def _send(topic: Topic, values: Iterator[bytes], rate: int, seconds: float) -> int:
    """Produces ``rate`` events per second, and returns how many there were."""
    started, sent = time.monotonic(), 0
    while (elapsed := time.monotonic() - started) < seconds:
        sent += topic.produce(islice(values, round(elapsed * rate) - sent))
        time.sleep(TICK_SECONDS)
    return sent


def _report(what: str, times_ms: Sequence[int], at_ms: int) -> None:
    seconds = Counter((time_ms - at_ms) // 1_000 for time_ms in times_ms)
    rows = [[seconds[second] for second in range(*span)] for span in ((-SHOWN_SECONDS, 0), (0, SHOWN_SECONDS))]
    before, after = (" ".join(f"{count:3}" for count in row) for row in rows)
    gaps = [(start, end - start) for start, end in pairwise(times_ms)]
    longest_before = max(gap for start, gap in gaps if -SECONDS * 1_000 <= start - at_ms < -1_000)
    longest_after = max(gap for start, gap in gaps if -1_000 <= start - at_ms < (SECONDS - 1) * 1_000)
    print(f"{what}: messages per second before {before}, after {after}; ", end="")
    print(f"longest time without one {longest_before} ms before, {longest_after} ms after")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
