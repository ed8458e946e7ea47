"""``python -m benchmarks``: starts real servers and a real cluster, measures, prints figures and ratios of this run."""

import argparse
import asyncio
import gc
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import msgspec
import psutil
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from benchmarks import progress_report, reader_apis
from benchmarks.activity import ActivityLoad
from benchmarks.assessment import AssessmentLoad
from benchmarks.certificate import CertificateLoad
from benchmarks.load import Event, Load, PlainDriver
from benchmarks.measure import (
    Sample,
    SteadyState,
    memory_by_quarter,
    percentile,
    sample,
    steady_state,
    watch,
)
from benchmarks.rows import cassandra_config
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from local.config import environment_name, load_config
from local.world import ALL, ENVIRONMENT, World

LOADS: dict[str, Callable[[], Load]] = {
    "assessment": AssessmentLoad,
    "activity": ActivityLoad,
    "certificate": CertificateLoad,
    "certificate-50ms": partial(CertificateLoad, delay_ms=50),
    # 500 enrolments, so that each of them can have many attempts.
    "assessment-1-attempt": partial(AssessmentLoad, users=100, attempts_before=1),
    "assessment-20-attempts": partial(AssessmentLoad, users=100, attempts_before=20),
    "assessment-200-attempts": partial(AssessmentLoad, users=100, attempts_before=200),
    "assessment-large-table": partial(AssessmentLoad, other_attempts=300_000),
    # A million enrolments: most events are the first of theirs, and no row gets large.
    "assessment-many-learners": partial(AssessmentLoad, users=200_000),
    # A million events, which 2,000 users do not have.
    "activity-many-learners": partial(ActivityLoad, users=36_000),
}

READERS = {"read-apis": reader_apis, "progress-report": progress_report}
"""What reads the tables, without Flink."""
NAMES = (*LOADS, *READERS)
DEFAULT_NAMES = ("assessment", "activity", "certificate", "certificate-50ms", *READERS)

WARM_UP = 0.25
"""Part of the events that are not measured: Python imports, the JVMs compile, caches fill."""
WARM_UP_EVENTS = 10_000
"""Whose statements go to Cassandra before the job."""
BATCH_SIZE = 256
"""Statements of the plain driver go in waves of so many events; smaller waves are slower."""
IN_FLIGHT = 3
"""Waves of the plain driver at a time, so that statements need not wait while answers of an API are awaited."""
SLOWEST_EVENTS_PER_SECOND = 100
"""With fewer a benchmark gives up."""
PROBE_SECONDS = 0.25
POLL_SECONDS = 0.02
LINGER_MS = 5
"""A request of its own for each event costs Kafka more CPU than the job spends on it."""


def main() -> None:
    """Runs the chosen benchmarks one after the other, each in a world of its own."""
    options = parse_arguments(sys.argv[1:])
    config = load_config({**os.environ, environment_name("cassandra.commitlog_sync"): options.commitlog_sync})
    cores = _cores(options.cores)
    for name in options.names:
        reader = READERS.get(name)
        servers = reader.SERVERS if reader else ALL
        with (
            tempfile.TemporaryDirectory() as folder,
            _running_on(cores.all if reader else cores.of_servers),
            World(config.isolated(Path(folder)), servers) as world,
        ):
            if reader:
                print(f"{name}:", flush=True)
                reader.run(world)
            else:
                _run_job(name, world, cores, options)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of the command line. Ends the program if there is one that it does not know."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: {', '.join(DEFAULT_NAMES)})"
    )
    parser.add_argument("--events", type=int, default=50_000, help="per job (default %(default)s)")
    parser.add_argument("--parallelism", type=int, default=1)
    parser.add_argument(
        "--latency-seconds", type=float, default=30, help="at half load, 0 for none (default %(default)s)"
    )
    parser.add_argument("--no-plain-driver", action="store_true", help="only the job, no ratio")
    parser.add_argument(
        "--commitlog-sync",
        choices=["batch", "periodic"],
        default="periodic",
        help="of Cassandra: on disk before the answer, or as it is shipped (default %(default)s)",
    )
    parser.add_argument(
        "-D", dest="flink", action="append", default=[], metavar="KEY=VALUE", help="Flink configuration of the job"
    )
    parser.add_argument(
        "--cores",
        choices=["separate", "shared"],
        default="separate" if len(os.sched_getaffinity(0)) > 1 else "shared",
        help="half of the cores for the TaskManagers, then for the plain driver, and the others for all servers, as if "
        "these had machines of their own; or all for all (default %(default)s)",
    )
    parser.add_argument("--hold", action="store_true", help="keep everything running until Enter, for a profiler")
    options = parser.parse_args(arguments)
    # Not as choices: argparse would look for the default as a whole among them.
    options.names = options.names or list(DEFAULT_NAMES)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    return options


@dataclass(frozen=True, slots=True)
class Cores:
    """Numbers of the cores on which all servers run, and of those on which the job does and then the plain driver."""

    of_servers: set[int]
    of_job: set[int]

    @property
    def all(self) -> set[int]:
        """Both."""
        return self.of_servers | self.of_job


def _cores(choice: str) -> Cores:
    cores = sorted(os.sched_getaffinity(0))
    if choice == "shared":
        return Cores(set(cores), set(cores))
    if len(cores) < 2:
        sys.exit("--cores separate needs two cores")
    half = len(cores) // 2
    return Cores(set(cores[:half]), set(cores[half:]))


@contextmanager
def _running_on(cores: set[int]) -> Iterator[None]:
    """This thread, and all threads and processes that it starts meanwhile, for as long as they live."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _move(pid: int, cores: set[int]) -> None:
    """Moves all threads of a process; those that come later are where the thread is that starts them."""
    for thread in psutil.Process(pid).threads():
        os.sched_setaffinity(thread.id, cores)


def _run_job(name: str, world: World, cores: Cores, options: argparse.Namespace) -> None:
    print(
        f"{name}: {options.events} events, parallelism {options.parallelism}, {options.cores} cores, "
        f"commitlog_sync {options.commitlog_sync}",
        flush=True,
    )
    for manager in world.flink.task_managers:
        _move(manager.pid, cores.of_job)
    with closing(LOADS[name]()) as load:
        load.prepare(world)
        _measure(load, world, cores, options)


def _measure(load: Load, world: World, cores: Cores, options: argparse.Namespace) -> None:
    topic = f"{ENVIRONMENT}.{load.input_topic}"
    # Cassandra compiles what it runs often: cold it would be dearer to the job, which comes first, than to the driver.
    with _running_on(cores.of_job):
        asyncio.run(_plain(world, load, seed=4, events=WARM_UP_EVENTS))
    produced = _produce(world, topic, (event.value for event in islice(load.events(seed=1), options.events)))
    if produced < options.events:
        sys.exit(f"this load has only {produced} events: --events is greater")
    job = world.submit(
        load.module,
        parallelism=options.parallelism,
        environment=load.environment,
        options=dict(option.split("=", 1) for option in options.flink),
    )
    world.flink.client.wait_until_running(job)

    processes = {
        "job: Python worker": lambda: [w for manager in world.flink.task_managers for w in manager.python_workers()],
        "job: TaskManager JVM": lambda: [psutil.Process(manager.pid) for manager in world.flink.task_managers],
        "Cassandra": lambda: [psutil.Process(world.cassandra.pid)],
        "Kafka": lambda: [psutil.Process(world.kafka.pid)],
        **load.processes,
    }
    done = _progress(world, load)
    samples = watch(processes, done, options.events, 600 + options.events / SLOWEST_EVENTS_PER_SECOND)
    steady = steady_state(samples, round(options.events * WARM_UP))
    _print("steady state", steady)
    for group, memory in memory_by_quarter(samples).items():
        print(f"    {group:<22} {' '.join(f'{size / 2**20:.0f}' for size in memory)} MiB after each quarter")
    counts = world.flink.client.checkpoints(job)
    reasons = "; ".join(world.flink.client.failed_checkpoints(job))
    print(f"    checkpoints: {counts['completed']} completed, {counts['failed']} failed {reasons}", flush=True)

    if options.latency_seconds:
        rate = steady.rate / 2
        latencies = _latencies if next(load.events(seed=2)).query else _message_latencies
        seconds = asyncio.run(latencies(world, load, topic, rate, options.latency_seconds))
        print(
            f"  latency from Kafka timestamp to visible row or message, at {rate:.0f} events/s ({len(seconds)} probes)"
        )
        print(
            f"    p50 {percentile(seconds, 50) * 1000:.0f} ms   p99 {percentile(seconds, 99) * 1000:.0f} ms", flush=True
        )
    if options.hold:
        input("running; Enter ends it")
    world.flink.client.cancel(job)

    if options.no_plain_driver:
        return
    with _running_on(cores.of_job):
        plain = steady_state(asyncio.run(_plain(world, load, seed=3, events=options.events)), 0)
    _print("the same statements and HTTP requests by the plain driver and client", plain)
    print(f"  ratio of job to plain driver: {steady.rate / plain.rate:.2f}", flush=True)


def _print(what: str, steady: SteadyState) -> None:
    print(f"  {what}: {steady.rate:.0f} events/s over {steady.events} events in {steady.seconds:.1f} s")
    for group, cpu_ms in steady.cpu_ms.items():
        memory = steady.peak_memory[group] / 2**20
        print(f"    {group:<22} {cpu_ms:.2f} CPU-ms per event   peak memory {memory:.0f} MiB")
    job = sum(cpu_ms for group, cpu_ms in steady.cpu_ms.items() if group.startswith("job"))
    if job:
        print(f"    {'job in all':<22} {job:.2f} CPU-ms per event", flush=True)


def _produce(world: World, topic: str, values: Iterator[bytes]) -> int:
    """Returns how many there were, once the broker has them."""
    producer = Producer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": 20, "compression.type": "lz4"}
    )
    produced = 0
    for value in values:
        while True:
            try:
                producer.produce(topic, value)
                break
            except BufferError:
                producer.poll(0.1)
        produced += 1
    producer.flush()
    return produced


def _progress(world: World, load: Load) -> Callable[[], int]:
    """How many events are done, by the messages that they have sent."""
    consumer = Consumer({"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "benchmark"})
    topic = f"{ENVIRONMENT}.{load.output_topic}"
    partitions = [TopicPartition(topic, number) for number in consumer.list_topics(topic).topics[topic].partitions]

    def done() -> int:
        messages = sum(consumer.get_watermark_offsets(partition, cached=False)[1] for partition in partitions)
        return load.events_done(messages)

    return done


async def _latencies(world: World, load: Load, topic: str, rate: float, seconds: float) -> list[float]:
    """Produces at an even rate and watches one event every now and then until its row is there."""
    cassandra = Cassandra(cassandra_config(world), Metrics())
    await cassandra.open()
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": LINGER_MS})
    # Made before, so that the load is the job's and not the generator's.
    events = list(islice(load.events(seed=2), round(rate * (seconds + 5))))
    latencies: list[float] = []
    probes: list[asyncio.Task[None]] = []

    async def probe(event: Event) -> None:
        acknowledged = asyncio.get_running_loop().create_future()

        def on_delivery(_: object, message: Message) -> None:
            acknowledged.set_result(message.timestamp()[1] / 1000)

        producer.produce(topic, event.value, on_delivery=on_delivery)
        written_at = await acknowledged
        statement = await cassandra.prepare(event.query)
        while not (await cassandra.read(statement, [event.parameters]))[0]:  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(POLL_SECONDS)
        latencies.append(time.time() - written_at)

    started = time.perf_counter()
    next_probe = started + 5
    for number, event in enumerate(events):
        due = started + number / rate
        while (now := time.perf_counter()) < due:
            producer.poll(0)
            await asyncio.sleep(min(due - now, 0.002))
        if now >= next_probe:
            next_probe = now + PROBE_SECONDS
            probes.append(asyncio.create_task(probe(event)))
        else:
            producer.produce(topic, event.value)
    while not all(task.done() for task in probes):
        producer.poll(0)
        await asyncio.sleep(POLL_SECONDS)
    await asyncio.gather(*probes)
    producer.flush()
    await cassandra.close()
    return latencies


async def _message_latencies(world: World, load: Load, topic: str, rate: float, seconds: float) -> list[float]:
    """Produces at an even rate; the time from an event to its message, by Kafka's timestamps of both."""
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "linger.ms": LINGER_MS})
    consumer = Consumer(
        {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "latencies", "auto.offset.reset": "latest"}
    )
    output = f"{ENVIRONMENT}.{load.output_topic}"
    consumer.assign(
        [
            TopicPartition(output, number, consumer.get_watermark_offsets(TopicPartition(output, number))[1])
            for number in consumer.list_topics(output).topics[output].partitions
        ]
    )
    events = list(islice(load.events(seed=2), round(rate * (seconds + 5))))
    written_at: dict[int, int] = {}

    def on_delivery(_: object, message: Message) -> None:
        written_at[_event_time_ms(message)] = message.timestamp()[1]

    started = time.perf_counter()
    for number, event in enumerate(events):
        due = started + number / rate
        while (now := time.perf_counter()) < due:
            producer.poll(0)
            await asyncio.sleep(min(due - now, 0.002))
        producer.produce(topic, event.value, on_delivery=on_delivery)
    producer.flush()
    sent_at: dict[int, int] = {}
    while len(sent_at) < len(events):
        for message in consumer.consume(1_000, timeout=30):
            sent_at[_event_time_ms(message)] = message.timestamp()[1]
    consumer.close()
    first = min(written_at.values()) + 5_000
    return [(sent_at[key] - at) / 1000 for key, at in written_at.items() if at >= first]


def _event_time_ms(message: Message) -> int:
    return int(msgspec.json.decode(message.value())["ets"])


async def _plain(world: World, load: Load, seed: int, events: int) -> list[Sample]:
    """Sends the bare statements and HTTP requests of so many events: the samples before and after.

    All are recorded first and sent in one go: in the pauses of a recording Cassandra would flush and compact what
    was written, which it has to do while the job runs.
    """
    processes = {
        "driver process": lambda: [psutil.Process()],
        "Cassandra": lambda: [psutil.Process(world.cassandra.pid)],
    }
    driver = PlainDriver(cassandra_config(world), Metrics())
    await driver.open()
    batches = load.record(driver, seed, BATCH_SIZE)
    recorded = 0
    while recorded < events:
        await anext(batches)
        recorded += BATCH_SIZE
    # As in the jobs' workers: the collector must not walk what was recorded over and over.
    gc.freeze()
    before = sample(processes, 0)
    await driver.replay(IN_FLIGHT)
    samples = [before, sample(processes, recorded)]
    gc.unfreeze()
    await driver.close()
    return samples


if __name__ == "__main__":
    main()
