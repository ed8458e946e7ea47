"""``python -m benchmarks.node_kill``: what the assessment aggregator gets done while a Cassandra node is lost.

On three nodes, at a steady rate. Each node in turn is killed, or with ``--pause`` stopped as if it hung, and comes
back. The certificate requests that the job sends, one for each attempt, show its progress by their times. At the end
all rows with lists are read: a write that a lost node has carried out and another node repeats could double a list.
"""

import argparse
import asyncio
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import islice, pairwise
from pathlib import Path

import msgspec
import psutil

from benchmarks.assessment import AssessmentLoad
from benchmarks.load import JOB_SEED
from benchmarks.rows import open_cassandra
from benchmarks.topic import Topic, consumer_group
from local.config import load_config
from local.flink_client import FlinkClient
from local.servers import Cassandra
from local.world import ALL, World

SHOWN_SECONDS = 5
"""Before and after, whose messages are shown second by second."""
TICK_SECONDS = 0.02
_LISTS = (
    ("assessment_aggregator", "question", "user_id, course_id"),
    ("user_activity_agg", "agg_details", "activity_type, activity_id, user_id"),
)
"""Table, column and partition key. The elements of one list differ."""
_RANGES, _PAGE_SIZE = 8, 500


def main(arguments: Sequence[str]) -> int:
    """Prints the figures. Returns 1 if an event has no message or an element of a list is there twice, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.node_kill", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rate", type=int, default=60, help="events per second (default %(default)s)")
    parser.add_argument("--pause", action="store_true", help="stop a node with SIGSTOP instead of killing it")
    parser.add_argument("--rounds", type=int, default=1, help="how often each node is lost (default %(default)s)")
    parser.add_argument(
        "--seconds",
        type=int,
        choices=range(SHOWN_SECONDS, 1_000),
        default=15,
        metavar="SECONDS",
        help=f"how long each node stays away, and the time before that: at least {SHOWN_SECONDS} (default %(default)s)",
    )
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        config = load_config(sizes={"cassandra.nodes": 3}).isolated(Path(folder))
        world = stack.enter_context(World(config, ALL, report=print))
        load = stack.enter_context(closing(AssessmentLoad()))
        load.prepare(world)
        topic = stack.enter_context(closing(Topic(world, load.input_topic, consumer_group("assessment_aggregator"))))
        values = (event.value for event in load.events(JOB_SEED))
        job_id = world.submit(load.module, parallelism=1, environment=load.environment)
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(_send, topic, values, options.rate, stop)
            try:
                world.flink.client.wait_until_running(job_id, checkpoints=2)
                lost_ms = [
                    _lose(world, node, options.seconds, pause=options.pause)
                    for node in world.cassandra_nodes * options.rounds
                ]
            finally:
                stop.set()
            sent = sending.result()
        _wait_until_applied(world.flink.client, job_id, topic, sent)
        with closing(Topic(world, load.output_topic)) as output:
            times_ms = output.times_ms()
        world.flink.client.cancel(job_id)
        doubled = asyncio.run(_report_lists(world))
    for number, at_ms in enumerate(lost_ms):
        node_number = number % len(world.cassandra_nodes) + 1
        _report(f"node {node_number} is {'paused' if options.pause else 'killed'}", times_ms, at_ms, options.seconds)
    print(f"{sent} events, {len(times_ms)} messages")
    return int(len(times_ms) < sent or doubled > 0)


def _send(topic: Topic, values: Iterator[bytes], rate: int, stop: threading.Event) -> int:
    """Produces ``rate`` events per second until ``stop`` is set, and returns how many there were."""
    started, sent = time.monotonic(), 0
    while not stop.wait(TICK_SECONDS):
        due = round((time.monotonic() - started) * rate)
        sent += topic.produce(islice(values, due - sent))
    return sent


def _lose(world: World, node: Cassandra, seconds: float, *, pause: bool) -> int:
    """Takes the node away after ``seconds``, for as long. Returns the time when it went, in ms."""
    time.sleep(seconds)
    at_ms = time.time_ns() // 1_000_000
    if pause:
        process = psutil.Process(node.pid)
        process.suspend()
        try:
            time.sleep(seconds)
        finally:
            process.resume()
    else:
        node.kill()
        time.sleep(seconds)
        node.start()
    world.wait_until_nodes_see_each_other()
    return at_ms


def _wait_until_applied(client: FlinkClient, job_id: str, topic: Topic, events: int) -> None:
    """Raises LocalWorldError if the job fails or completes no checkpoint any more."""
    while topic.committed() < events:
        client.wait_until_running(job_id, checkpoints=1)


async def _report_lists(world: World) -> int:
    """Reads all lists that the job has written, and returns how many of them have an element twice."""
    all_doubled = 0
    async with open_cassandra(world) as cassandra:
        for table, column, key in _LISTS:
            select = await cassandra.prepare(
                f"SELECT toJson({column}) FROM sunbird_courses.{table} WHERE token({key}) > ? AND token({key}) <= ?"
            )
            rows = elements = doubled = 0
            async for page in cassandra.scan(select, (), _RANGES, _PAGE_SIZE):
                for (text,) in page:
                    found = [bytes(element) for element in msgspec.json.decode(text, type=list[msgspec.Raw])]
                    rows += 1
                    elements += len(found)
                    doubled += len(set(found)) < len(found)
            print(f"{table}: {rows} rows, {elements} elements of {column}, doubled in {doubled} rows")
            all_doubled += doubled
    return all_doubled


def _report(what: str, times_ms: Sequence[int], at_ms: int, seconds: float) -> None:
    counts = Counter((time_ms - at_ms) // 1_000 for time_ms in times_ms)
    rows = [[counts[second] for second in range(*span)] for span in ((-SHOWN_SECONDS, 0), (0, SHOWN_SECONDS))]
    before, after = (" ".join(f"{count:3}" for count in row) for row in rows)
    gaps = [(start, end - start) for start, end in pairwise(times_ms)]
    longest_before = max(gap for start, gap in gaps if -seconds * 1_000 <= start - at_ms < -1_000)
    longest_after = max(gap for start, gap in gaps if -1_000 <= start - at_ms < (seconds - 1) * 1_000)
    print(f"{what}: messages per second before {before}, after {after}; ", end="")
    print(f"longest time without one {longest_before} ms before, {longest_after} ms after")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
