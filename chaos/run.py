"""Runs seeds. Each one produces the events of its own course, injects faults meanwhile, and checks the results."""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import msgspec
from cassandra.concurrent import execute_concurrent_with_args
from confluent_kafka import Consumer, KafkaException, Producer

from chaos.cluster import EXACTLY_ONCE, POLL_SECONDS, RECOVERY_TIMEOUT_SECONDS, Cluster
from chaos.faults import FAULTS, Chosen, choose
from chaos.history import COURSE_NAME, USER
from chaos.load import PASS_PERCENT, Load
from chaos.node_faults import Impossible
from chaos.observe import CONCURRENCY, Messages, open_tables, read_rows
from chaos.oracle import Kind, Problem, compare
from chaos.sabotage import Sabotage
from common.config.model import KafkaConfig
from common.domain import redis_databases, topics
from common.servers.kafka import partitions_of, read_to_end, reading_consumer
from jobs import JOBS, config_class
from local import generator
from local.errors import LocalWorldError
from local.http_services import HttpServices
from local.world import World

ENVIRONMENT = "chaos"
INPUTS = {name: config_class(name).inputs() for name in JOBS}
EVENTS_PER_SECOND = 60
QUIET_EVERY_SECONDS, QUIET_SECONDS = 10, 3
QUIET_EVENTS_PER_SECOND = 1.5
"""In quiet phases events arrive one at a time, so that each forms its own bundle."""
SHOWN_PROBLEMS = 10


@dataclass
class Toll:
    """The consequences of one kind of fault: recovery times, and the number of repeated messages."""

    recovery_seconds: list[float] = field(default_factory=list)
    repeats: int = 0


@dataclass
class Run:
    """The cluster with the jobs, and the results of the seeds so far."""

    cluster: Cluster
    messages: Messages
    report: Callable[[str], None]
    """Prints a line of text, which may contain rich's markup."""
    pauses: Sequence[float]
    """How long faults last (s), see :func:`choose`."""
    tolls: dict[str, Toll] = field(default_factory=lambda: defaultdict(Toll))
    """Tolls by the name of the fault."""
    problems: list[Problem] = field(default_factory=list)
    events: int = 0
    """How many were sent."""
    values: int = 0
    messages_out: int = 0
    """How many values of rows and how many messages of the jobs were compared."""

    def seed(self, seed: int, faults: Sequence[str], number: int) -> None:
        """Runs one load and injects ``number`` of the faults (see :func:`choose`). Raises LocalWorldError."""
        self.cluster.source = random.Random(seed)
        load = Load(seed)
        began_ms = time.time_ns() // 1_000_000
        _prepare(self.cluster, load)
        with Producing(self.cluster.world, load) as producing:
            self._wait_until_applied(load)
            for fault in choose(faults, self.pauses, seed, number):
                self._inject(seed, fault, load)
        _wait_until_done(self.cluster)
        self.messages.read()
        observed = self.messages.sent.of(load)
        observed.written = range(began_ms, time.time_ns() // 1_000_000 + 1)
        with open_tables(self.cluster.world) as session:
            read_rows(session, load, observed)
        if any(sent.appended_ms is None for sent in observed.requests):
            self.report(
                f"seed {seed}: [yellow]it is not known when requests were appended: most certificates are not compared"
            )
        problems = compare(load, observed)
        if self.cluster.delivery == EXACTLY_ONCE and (repeats := self.messages.sent.repeats(load)):
            problems.append(Problem(Kind.TWICE, f"{repeats} messages are repeats"))
        self.problems += problems
        messages_out = len(observed.audits) + len(observed.requests)
        self.events += producing.events
        self.values += len(observed.values)
        self.messages_out += messages_out
        certificates = len({sent.user_id for sent in observed.certificates})
        self.report(
            f"seed {seed}: {producing.events} events, {len(observed.values)} values, {messages_out} messages, "
            f"{certificates} learners with a certificate: "
            + (f"[red]{len(problems)} wrong" if problems else "[green]all correct")
        )
        for problem in problems[:SHOWN_PROBLEMS]:
            self.report(f"  [red]{problem.kind}: {problem.what}")

    def _wait_until_applied(self, load: Load) -> None:
        """Waits for the first messages about a load: a worker starts with its first event, and on a busy machine that
        takes longer than it takes to inject a fault, which would then interrupt nothing. Raises LocalWorldError."""
        deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
        # Of the activity aggregate updater and of the assessment aggregator. The third job's come only with them.
        while not ((sent := self.messages.sent.of(load)).audits and sent.requests):
            if time.monotonic() > deadline:
                raise LocalWorldError(
                    f"{len(sent.audits)} AUDIT events and {len(sent.requests)} certificate requests about the first "
                    f"events after {RECOVERY_TIMEOUT_SECONDS:g} s: at least one of each is expected"
                )
            time.sleep(POLL_SECONDS)
            self.messages.read()

    def _inject(self, seed: int, fault: Chosen, load: Load) -> None:
        name, self.cluster.pause_seconds = fault
        # At a random time, but with events in flight.
        time.sleep(self.cluster.source.uniform(1, 4))
        self.messages.read()
        repeats = self.messages.sent.repeats(load)
        self.report(f"seed {seed}: {name} ({fault.pause_seconds:g} s if it is one that lasts)")
        started = time.monotonic()
        try:
            FAULTS[name].inject(self.cluster)
        except Impossible as reason:
            self.report(f"seed {seed}: [yellow]{name} is left out: {reason}")
            return
        self.cluster.wait_until_recovered()
        toll = self.tolls[name]
        toll.recovery_seconds.append(time.monotonic() - started)
        self.messages.read()
        toll.repeats += self.messages.sent.repeats(load) - repeats


@contextmanager
def start_jobs(
    world: World,
    pauses: Sequence[float],
    sabotage: Sabotage,
    report: Callable[[str], None],
    delivery: str = "at_least_once",
) -> Iterator[Run]:
    """Submits the jobs with their own topics and HTTP services, and cancels them at the end of the `with` block.

    `pauses` are the lengths (s) of faults that last. `world` must be running, and is left running. `report`
    prints a line of text. `delivery` is the jobs' ``kafka.delivery``. Raises LocalWorldError.
    """
    # The records then have the time at which the broker appended them: the oracle needs it of the certificate requests.
    settings = {"message.timestamp.type": "LogAppendTime"}
    world.kafka.create_topics([f"{ENVIRONMENT}.{topics.ISSUE_CERTIFICATE_REQUEST}"], settings=settings)
    world.kafka.create_topics(f"{ENVIRONMENT}.{topic}" for topic in topics.ALL)
    with (
        HttpServices() as services,
        closing(Messages(world.kafka.bootstrap_servers, ENVIRONMENT)) as messages,
    ):
        cluster = Cluster(world, services, ENVIRONMENT, random.Random(), sabotage.edits, sabotage.options, delivery)
        cluster.submit_all()
        try:
            cluster.wait_until_recovered(checkpoints=1)
            yield Run(cluster, messages, report, pauses)
        finally:
            cluster.cancel_all()


class Producing:
    """Produces the events of a load in a thread until the end of the `with` block. By then all are acknowledged."""

    def __init__(self, world: World, load: Load) -> None:
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
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the thread. Raises LocalWorldError if the broker has not acknowledged every event."""
        self._end.set()
        self._thread.join()
        left = self._producer.flush(RECOVERY_TIMEOUT_SECONDS)
        if left or self._refused:
            raise LocalWorldError(f"{left} events are still undelivered, and Kafka refused: {self._refused[:3]}")

    def _run(self) -> None:
        while not self._end.wait(1 / _events_per_second(time.monotonic())):
            event = self._load.next_event()
            self.events += 1
            self._producer.produce(f"{ENVIRONMENT}.{event.topic}", event.value, event.key, on_delivery=self._delivered)
            self._producer.poll(0)

    def _delivered(self, error: object, _: object) -> None:
        if error is not None:
            self._refused.append(str(error))


def _events_per_second(seconds: float) -> float:
    is_quiet = seconds % QUIET_EVERY_SECONDS < QUIET_SECONDS
    return QUIET_EVENTS_PER_SECOND if is_quiet else EVENTS_PER_SECOND


def _prepare(cluster: Cluster, load: Load) -> None:
    """Fills the caches, tables and HTTP services with what other Sunbird services would have written."""
    cluster.world.publish_relations(load.course)
    with cluster.world.redis.client(db=redis_databases.CONTENTS) as contents:
        for content_id in load.course.contents:
            content_type = "SelfAssess" if content_id in load.course.quizzes else "Resource"
            contents.set(content_id, msgspec.json.encode({"contentType": content_type}))
    cluster.services.contents[load.course.course_id] = {"name": COURSE_NAME, "contentType": "Course", "status": "Live"}
    cluster.services.users.update((learner.user_id, USER) for learner in load.learners)
    course_id, batch_id = load.course.course_id, load.course.batch_id
    with open_tables(cluster.world) as session:
        insert_batch = session.prepare(
            "INSERT INTO course_batch (courseid, batchid, name, status, cert_templates) VALUES (?, ?, 'A batch', 1, ?)"
        )
        session.execute(insert_batch, (course_id, batch_id, generator.certificate_templates(PASS_PERCENT)))
        insert_enrolment = session.prepare(
            "INSERT INTO user_enrolments (userid, courseid, batchid, active, status) VALUES (?, ?, ?, true, 0)"
        )
        enrolments = [(learner.user_id, course_id, batch_id) for learner in load.learners]
        execute_concurrent_with_args(session, insert_enrolment, enrolments, concurrency=CONCURRENCY)


def _wait_until_done(cluster: Cluster) -> None:
    """Waits until completed checkpoints cover all events. Raises LocalWorldError if the time runs out."""
    deadline = time.monotonic() + RECOVERY_TIMEOUT_SECONDS
    kafka = KafkaConfig(bootstrap_servers=cluster.world.kafka.bootstrap_servers, env=ENVIRONMENT)
    for name, topics_of_job in INPUTS.items():
        with closing(reading_consumer(kafka, f"{ENVIRONMENT}-{config_class(name).consumer_group}")) as consumer:
            while any(_has_backlog(consumer, f"{ENVIRONMENT}.{topic}") for topic in topics_of_job):
                if time.monotonic() > deadline:
                    raise LocalWorldError(f"{name} still has a backlog after {RECOVERY_TIMEOUT_SECONDS:g} s")
                time.sleep(POLL_SECONDS)
        if cluster.delivery == EXACTLY_ONCE:
            # The offsets of a checkpoint may be committed before the messages that were sent until then.
            cluster.wait_until_recovered()


def _has_backlog(consumer: Consumer, topic: str) -> bool:
    """Whether there is a message that the consumer group has not committed yet, or the broker does not answer."""
    try:
        committed = consumer.committed(partitions_of(consumer, topic, 30), timeout=30)
        # Messages, not offsets: the mark at the end of a transaction has one, too.
        start = {partition.partition: partition.offset for partition in committed}
        return next(read_to_end(consumer, topic, start), None) is not None
    except KafkaException:
        return True
