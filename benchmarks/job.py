"""Measures one job: throughput, CPU, memory and latency, and the ratio to the plain driver."""

import argparse
import asyncio
import gc
import sys
from contextlib import closing
from itertools import islice
from statistics import mean

import psutil

from benchmarks.cores import Cores, move, running_on
from benchmarks.latency import latencies_to_messages, latencies_to_rows
from benchmarks.load import JOB_SEED, LATENCY_SEED, PLAIN_SEEDS, WARM_UP_SEED, Load, PlainDriver
from benchmarks.measure import SteadyState, memory_by_quarter, percentile, sample, steady_state, watch
from benchmarks.rows import cassandra_config, wait_until_compacted
from benchmarks.topic import Topic
from common.metrics import Metrics
from local.world import World

WARM_UP = 0.25
"""The share of the events that is not measured, while Python imports, the JVMs compile and caches fill."""
WARM_UP_EVENTS = 10_000
"""The number of events whose statements warm up Cassandra before the job starts."""
JOB = "job"
"""The first word of the groups of processes that are the job."""
BATCH_SIZE = 256
"""The plain driver sends the statements of this many events in one wave. Smaller waves are slower."""
IN_FLIGHT = 3
"""The number of waves in flight, so that other waves send statements while one waits for an API."""
SLOWEST_EVENTS_PER_SECOND = 100
"""A slower benchmark is aborted."""


def measure_job(name: str, load: Load, world: World, cores: Cores, options: argparse.Namespace) -> SteadyState:
    """Runs one job under ``load``, prints its figures and returns those of the steady state.

    ``options`` are those of the command line.

    Exits if the load has fewer events than the options ask for. Raises TimeoutError if the job is too slow.
    """
    print(
        f"{name}: {options.events} events, parallelism {options.parallelism}, {options.cores} cores, "
        f"commitlog_sync {options.commitlog_sync}",
        flush=True,
    )
    for server in world.flink.servers:
        move(server.pid, cores.of_job)
    load.prepare(world)
    with closing(Topic(world, load.input_topic)) as topic, closing(Topic(world, load.output_topic)) as output:
        return _measure(load, world, cores, options, topic, output)


def _measure(
    load: Load, world: World, cores: Cores, options: argparse.Namespace, topic: Topic, output: Topic
) -> SteadyState:
    def run_plain_driver(seed: int) -> SteadyState:
        with running_on(cores.of_job):
            return asyncio.run(_run_plain_driver(world, load, seed, options.events))

    warm_up(load, world, cores, options.events)
    before, after = PLAIN_SEEDS
    plain = [] if options.no_plain_driver else [run_plain_driver(before)]
    produced = topic.produce(event.value for event in islice(load.events(JOB_SEED), options.events))
    if produced < options.events:
        sys.exit(f"--events is {options.events}, but this load has only {produced} events")
    asyncio.run(wait_until_compacted(world))
    job_id = world.submit(
        load.module,
        parallelism=options.parallelism,
        environment=load.environment,
        options=dict(option.split("=", 1) for option in options.flink),
    )
    world.flink.client.wait_until_running(job_id)

    processes = {
        f"{JOB}: Python worker": lambda: [
            worker for manager in world.flink.task_managers for worker in manager.python_workers()
        ],
        f"{JOB}: TaskManager JVM": lambda: [psutil.Process(manager.pid) for manager in world.flink.task_managers],
        "Cassandra": lambda: [psutil.Process(world.cassandra.pid)],
        "Kafka": lambda: [psutil.Process(world.kafka.pid)],
        **load.processes,
    }
    samples = watch(
        processes,
        lambda: load.events_done(output.end()),
        options.events,
        600 + options.events / SLOWEST_EVENTS_PER_SECOND,
    )
    require_no_restart(world, job_id)
    steady = steady_state(samples, round(options.events * WARM_UP))
    print_steady_state("steady state", steady)
    for group, memory in memory_by_quarter(samples).items():
        print(
            f"    {group:<22} {' '.join(f'{size / 2**20:.0f}' for size in memory)} MiB after each quarter of the events"
        )
    counts = world.flink.client.checkpoints(job_id)
    reasons = "; ".join(world.flink.client.failed_checkpoints(job_id))
    print(f"    checkpoints: {counts['completed']} completed, {counts['failed']} failed {reasons}", flush=True)

    if plain:
        # At once, while the job is idle: the machine's speed may change within minutes.
        plain.append(run_plain_driver(after))
        for when, figures in zip(("before", "after"), plain, strict=True):
            print_steady_state(f"plain driver and HTTP client {when} the job, the same statements", figures)
        print(
            f"  ratio of the job to the plain driver: {steady.rate / mean(each.rate for each in plain):.2f}", flush=True
        )

    if options.latency_seconds:
        # Compacting the backlog would keep Cassandra's core busy during the whole measurement, at half load.
        asyncio.run(wait_until_compacted(world))
        rate = steady.rate / 2
        writes_rows = next(load.events(LATENCY_SEED)).entry is not None
        measure_latencies = latencies_to_rows if writes_rows else latencies_to_messages
        latencies = asyncio.run(measure_latencies(world, load, topic.name, rate, options.latency_seconds))
        print(
            f"  latency from the event's Kafka timestamp to its {'entry in aggregates' if writes_rows else 'message'}, "
            f"at {rate:.0f} events/s ({len(latencies)} probes)"
        )
        print(
            f"    p50 {percentile(latencies, 50) * 1000:.0f} ms   p99 {percentile(latencies, 99) * 1000:.0f} ms",
            flush=True,
        )
    require_no_restart(world, job_id)
    if options.hold:
        input("The job is still running. Press Enter to stop it.")
    world.flink.client.cancel(job_id)
    return steady


def require_no_restart(world: World, job_id: str) -> None:
    """Ends the program if the job has been restarted: its figures would say nothing."""
    if exceptions := world.flink.client.exceptions(job_id):
        sys.exit(f"the job was restarted ({len(exceptions)} times):\n{exceptions[0]}")


def warm_up(load: Load, world: World, cores: Cores, events: int) -> None:
    """Has Cassandra's JVM compile its hot code: else it would be slower for what is measured first."""
    with running_on(cores.of_job):
        asyncio.run(_run_plain_driver(world, load, WARM_UP_SEED, min(WARM_UP_EVENTS, events)))


def print_steady_state(what: str, steady: SteadyState) -> None:
    """Prints rate, CPU time and memory."""
    print(f"  {what}: {steady.rate:.0f} events/s over {steady.events} events in {steady.seconds:.1f} s")
    for group, cpu_ms in steady.cpu_ms.items():
        memory = steady.peak_memory[group] / 2**20
        print(f"    {group:<22} {cpu_ms:.2f} CPU-ms per event   peak memory {memory:.0f} MiB")
    job_cpu_ms = steady.cpu_ms_of(JOB)
    if job_cpu_ms:
        print(f"    {JOB + ', total':<22} {job_cpu_ms:.2f} CPU-ms per event", flush=True)


async def _run_plain_driver(world: World, load: Load, seed: int, events: int) -> SteadyState:
    """Sends only the statements and HTTP requests of ``events`` events. Measures from the first quarter, like the job.

    All of them are recorded before the first is sent. Recording in between would give Cassandra pauses to flush and
    compact, which it does not have while the job runs.
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
    # As in the jobs' workers: the garbage collector must not traverse the recorded statements again and again.
    gc.freeze()
    samples = [sample(processes, 0)]

    def progress(share: float) -> None:
        if len(samples) == 1 and share >= WARM_UP:
            samples.append(sample(processes, round(recorded * share)))

    await wait_until_compacted(world)
    await driver.replay(IN_FLIGHT, progress)
    samples.append(sample(processes, recorded))
    gc.unfreeze()
    await driver.close()
    return steady_state(samples, first=samples[1].done)
