"""``python -m chaos``: the jobs on a real cluster, faults at random moments, and whether all is right in the end.

A world of its own is started and ended. Each seed is a course with learners of its own, a load that goes on while its
faults happen, and a comparison with the oracle once everything is worked off. Exit code 1 if anything is wrong.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import msgspec
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from rich.console import Console
from rich.table import Table

from chaos.cluster import JOBS, POLL_SECONDS, RECOVERY_TIMEOUT_SECONDS, Cluster
from chaos.faults import FAULTS
from chaos.load import ATTEMPTS, COMPLETIONS, PASS_PERCENT, Load
from chaos.observe import REQUESTS, Messages, read_rows
from chaos.oracle import Problem, compare
from chaos.sabotage import SABOTAGES, Sabotage
from local import generator
from local.config import load_config
from local.errors import LocalWorldError
from local.http_services import HttpServices
from local.tables import Tables
from local.world import TOPICS, World

ENVIRONMENT = "chaos"
INPUTS = dict(zip(JOBS, (ATTEMPTS, COMPLETIONS, REQUESTS), strict=True))
EVENTS_PER_SECOND = 60
SHOWN_PROBLEMS = 10

console = Console(width=None if sys.stdout.isatty() else 140)


@dataclass
class Toll:
    """What came of one kind of fault."""

    recovery_seconds: list[float] = field(default_factory=list)
    repeats: int = 0


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="(default %(default)s)")
    parser.add_argument("--faults-per-seed", type=int, default=3, metavar="NUMBER", help="(default %(default)s)")
    parser.add_argument(
        "--faults", nargs="+", choices=FAULTS, default=list(FAULTS), metavar="NAME", help=", ".join(FAULTS)
    )
    parser.add_argument(
        "--pause-seconds", type=float, default=20, help="of SIGSTOP and of HTTP services (default %(default)s)"
    )
    parser.add_argument("--folder", type=Path, help="for data and logs of all servers; it is kept")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="break the jobs and see the oracle notice")
    options = parser.parse_args(arguments)
    sabotage = SABOTAGES.get(options.sabotage, Sabotage([], []))
    tolls: dict[str, Toll] = defaultdict(Toll)
    problems: list[Problem] = []
    try:
        with ExitStack() as stack:
            folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            cluster = _start(stack, folder, options.pause_seconds, sabotage)
            messages = Messages(cluster.world.kafka.bootstrap_servers, ENVIRONMENT)
            stack.callback(messages.close)
            for seed in options.seeds:
                cluster.source = random.Random(seed)
                chosen = sabotage.faults or _choose(cluster.source, options.faults, options.faults_per_seed)
                found = _run_seed(cluster, messages, seed, chosen, tolls)
                problems += found
    except LocalWorldError as error:
        console.print(f"[red]{error}", soft_wrap=True)
        return 1
    _show(tolls)
    if cluster.restarts:
        console.print(f"TaskManagers that ended by themselves: {cluster.restarts}")
    if problems:
        console.print(f"[red]{len(problems)} values are wrong")
        return 1
    console.print("[green]nothing lost, nothing counted twice, every certificate with its learner")
    return 0


def _choose(source: random.Random, names: Sequence[str], number: int) -> list[str]:
    """As many as are wanted, none twice before all were there."""
    chosen: list[str] = []
    while len(chosen) < number:
        chosen += source.sample(list(names), min(len(names), number - len(chosen)))
    return chosen


def _start(stack: ExitStack, folder: Path, pause_seconds: float, sabotage: Sabotage) -> Cluster:
    world = World(load_config(os.environ).isolated(folder), report=lambda text: console.print(f"  {text}"))
    stack.enter_context(world)
    world.kafka.create_topics(f"{ENVIRONMENT}.{topic}" for topic in TOPICS)
    services = stack.enter_context(HttpServices())
    cluster = Cluster(world, services, ENVIRONMENT, random.Random(), pause_seconds, sabotage.edits)
    cluster.submit_all()
    cluster.wait_until_recovered(checkpoints=1)
    return cluster


def _run_seed(
    cluster: Cluster, messages: Messages, seed: int, chosen: Sequence[str], tolls: dict[str, Toll]
) -> list[Problem]:
    """One load with its faults; what is wrong in the end."""
    load = Load(seed)
    _prepare(cluster, load)
    with Producing(cluster.world, load) as producing:
        for name in chosen:
            # At a random moment, but with events in flight.
            time.sleep(cluster.source.uniform(1, 4))
            messages.read()
            repeats = messages.repeats(load)
            console.print(f"seed {seed}: {name}")
            started = time.monotonic()
            FAULTS[name](cluster)
            cluster.wait_until_recovered()
            toll = tolls[name]
            toll.recovery_seconds.append(time.monotonic() - started)
            messages.read()
            toll.repeats += messages.repeats(load) - repeats
    _wait_until_done(cluster)
    messages.read()
    observed = messages.of(load)
    with Tables(cluster.world.cassandra.contact_points, cluster.world.cassandra.port) as tables:
        read_rows(tables, load, observed)
    problems = compare(load, observed)
    certificates = len({sent.user_id for sent in observed.certificates})
    console.print(
        f"seed {seed}: {producing.events} events, {len(observed.numbers)} numbers, "
        f"{len(observed.audits) + len(observed.requests)} messages, {certificates} learners with a certificate, "
        + (f"[red]{len(problems)} wrong" if problems else "[green]all right"),
        highlight=False,
    )
    for problem in problems[:SHOWN_PROBLEMS]:
        console.print(f"  [red]{problem.kind}: {problem.what}", highlight=False, soft_wrap=True)
    return problems


class Producing:
    """A thread that sends the events of a load until the `with` block ends; all of them are with the broker then."""

    def __init__(self, world: World, load: Load) -> None:
        """Sends nothing yet."""
        self.events = 0
        self._load = load
        self._producer = Producer(
            {
                "bootstrap.servers": world.kafka.bootstrap_servers,
                "enable.idempotence": True,
                "message.timeout.ms": 600_000,
                "log_level": 0,
            }
        )
        self._refused: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> "Producing":
        """Starts."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends. Raises LocalWorldError if the broker has not taken everything."""
        self._end.set()
        self._thread.join()
        left = self._producer.flush(RECOVERY_TIMEOUT_SECONDS)
        if left or self._refused:
            raise LocalWorldError(f"Kafka has not taken all events: {left} left, refused: {self._refused[:3]}")

    def _run(self) -> None:
        while not self._end.wait(1 / EVENTS_PER_SECOND):
            event = self._load.next_event()
            self.events += 1
            self._producer.produce(
                f"{ENVIRONMENT}.{event.topic}", event.value, event.user_id, on_delivery=self._delivered
            )
            self._producer.poll(0)

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            self._refused.append(str(error))


def _prepare(cluster: Cluster, load: Load) -> None:
    """What other services would have written."""
    with cluster.world.redis.client(db=10) as relations, cluster.world.redis.client(db=5) as contents:
        for key, members in generator.relation_sets(load.course).items():
            relations.sadd(key, *members)
        for content_id in load.course.contents:
            content_type = "SelfAssess" if content_id in load.course.quizzes else "Resource"
            contents.set(content_id, msgspec.json.encode({"contentType": content_type}))
    cluster.services.contents[load.course.course_id] = {"name": "A course", "contentType": "Course", "status": "Live"}
    with Tables(cluster.world.cassandra.contact_points, cluster.world.cassandra.port) as tables:
        tables.execute(
            "INSERT INTO course_batch (courseid, batchid, name, status, cert_templates) VALUES (?, ?, 'A batch', 1, ?)",
            load.course.course_id,
            load.course.batch_id,
            generator.certificate_templates(PASS_PERCENT),
        )
        for learner in load.learners:
            cluster.services.users[learner.user_id] = {"firstName": "Asha", "rootOrgId": "sunbird", "status": 1}
            tables.execute(
                "INSERT INTO user_enrolments (userid, courseid, batchid, active, status) VALUES (?, ?, ?, true, 0)",
                learner.user_id,
                load.course.course_id,
                load.course.batch_id,
            )


def _wait_until_done(cluster: Cluster) -> None:
    """Until checkpoints have completed behind all events. Raises LocalWorldError if that takes too long."""
    deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
    for name, topic in INPUTS.items():
        consumer = Consumer(
            {
                "bootstrap.servers": cluster.world.kafka.bootstrap_servers,
                "group.id": f"{ENVIRONMENT}-{name.replace('_', '-')}-group",
                "log_level": 0,
            }
        )
        try:
            while left := _lag(consumer, f"{ENVIRONMENT}.{topic}"):
                if time.monotonic() > deadline:
                    raise LocalWorldError(f"{name} has not done {left} events in {RECOVERY_TIMEOUT_SECONDS:g} s")
                time.sleep(POLL_SECONDS)
        finally:
            consumer.close()


def _lag(consumer: Consumer, topic: str) -> int:
    """Events of a topic that the group has not committed; at least 1 while the broker does not say."""
    try:
        partitions = [
            TopicPartition(topic, number) for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ]
        return sum(
            consumer.get_watermark_offsets(partition, timeout=30)[1] - max(partition.offset, 0)
            for partition in consumer.committed(partitions, timeout=30)
        )
    except KafkaException:
        return 1


def _show(tolls: dict[str, Toll]) -> None:
    table = Table("fault", "times", "recovered after, median", "longest", "repeats emitted")
    for name, toll in sorted(tolls.items()):
        seconds = toll.recovery_seconds
        table.add_row(name, str(len(seconds)), f"{median(seconds):.1f} s", f"{max(seconds):.1f} s", str(toll.repeats))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
