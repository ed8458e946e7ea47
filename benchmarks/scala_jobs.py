"""``python -m benchmarks.scala_jobs``: one of Sunbird's Scala jobs, and the job that takes its place, under one load.

The Scala job is not in this repository. Build it, and say how it starts, as in

    python -m benchmarks.scala_jobs certificate --scala-events 8000 -- \\
        java -Xmx1g $(cat add-opens.txt) -cp "$(cat cp.txt)" \\
        org.sunbird.job.collectioncert.task.CollectionCertPreProcessorTask --config.file.path "$PWD/certificate.conf"

Its main then runs it in one JVM, with Flink in it: the Flink libraries must be on the class path. Paths must be
absolute. On Java 17, Flink 1.13 needs ``--add-opens``, for java.base/java.util among others. The file may name these
environment variables, as ``${KAFKA_BROKERS}``: KAFKA_BROKERS, CASSANDRA_HOST, CASSANDRA_PORT, REDIS_HOST, REDIS_PORT,
SERVICES_URL. Topics begin with ``dev.``, and ``kafka.auto.offset.reset`` must be ``earliest``.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path

import psutil

from benchmarks.__main__ import LOADS
from benchmarks.cores import Cores, choose_cores, running_on
from benchmarks.job import JOB, SLOWEST_EVENTS_PER_SECOND, measure_job, print_steady_state, warm_up
from benchmarks.load import JOB_SEED, Load
from benchmarks.measure import SteadyState, steady_state, watch
from benchmarks.rows import cassandra_config, wait_until_compacted
from benchmarks.topic import Topic
from benchmarks.world import benchmark_world, world_config
from local.process import Launch, Server
from local.world import ALL, CASSANDRA, KAFKA, REDIS, World

_NAMES = ("assessment", "activity", "certificate")
_WARM_UP = 0.5
"""The share of the Scala job's events that is not measured: its JVM compiles for longer than ours, with C2."""


class _ScalaJob(Server):
    name = "Scala job"
    start_timeout_seconds = 60.0
    stop_timeout_seconds = 30.0

    def __init__(self, state_folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        super().__init__(state_folder)
        self._launch = Launch(list(command), environment)

    def prepare(self) -> Launch:
        return self._launch

    def is_ready(self) -> bool:
        # The jobs log nothing in common when they are ready. That one works shows in its messages.
        return self.is_running


def main() -> None:
    """Measures the Scala job, then ours on fresh servers, and prints the ratios. Exits with code 1 if a job fails."""
    options = parse_arguments(sys.argv[1:])
    cores = choose_cores(options.cores)
    with _fresh_world(options, cores, (KAFKA, CASSANDRA, REDIS)) as (world, load):
        scala = _measure(load, world, cores, options)
    with _fresh_world(options, cores, ALL) as (world, load):
        ours = measure_job(options.name, load, world, cores, options)
    scala_cpu, our_cpu = scala.cpu_ms_of(JOB), ours.cpu_ms_of(JOB)
    print(
        f"{options.name}: {ours.rate / scala.rate:.1f} times the Scala job's events/s\n"
        f"  CPU-ms per event in the job: {our_cpu:.2f} instead of {scala_cpu:.2f} (1/{scala_cpu / our_cpu:.1f})\n"
        f"  in Cassandra: {ours.cpu_ms['Cassandra']:.2f} instead of {scala.cpu_ms['Cassandra']:.2f}",
        flush=True,
    )


@contextmanager
def _fresh_world(options: argparse.Namespace, cores: Cores, servers: Iterable[str]) -> Iterator[tuple[World, Load]]:
    config = world_config(options.parallelism, options.commitlog_sync)
    with (
        tempfile.TemporaryDirectory() as folder,
        running_on(cores.of_servers),
        benchmark_world(config.isolated(Path(folder)), servers) as world,
        closing(LOADS[options.name]()) as load,
    ):
        yield world, load


def _measure(load: Load, world: World, cores: Cores, options: argparse.Namespace) -> SteadyState:
    load.prepare(world)
    warm_up(load, world, cores, options.events)
    job = _ScalaJob(world.config.state_folder / "scala-job", options.command, _addresses(world, load))
    with closing(Topic(world, load.input_topic)) as topic, closing(Topic(world, load.output_topic)) as output:

        def events_done() -> int:
            if not job.is_running:
                raise ChildProcessError("it has ended")
            return load.events_done(output.end())

        topic.produce(event.value for event in islice(load.events(JOB_SEED), options.scala_events))
        asyncio.run(wait_until_compacted(world))
        with running_on(cores.of_job):
            job.start()
        try:
            samples = watch(
                {
                    f"{JOB}: its JVM": lambda: [psutil.Process(job.pid)],
                    "Cassandra": lambda: [psutil.Process(world.cassandra.pid)],
                    "Kafka": lambda: [psutil.Process(world.kafka.pid)],
                },
                events_done,
                # The last events of its windows may have to wait for more.
                round(options.scala_events * 0.99),
                600 + options.scala_events / SLOWEST_EVENTS_PER_SECOND,
            )
        except (TimeoutError, ChildProcessError) as error:
            sys.exit("\n".join([f"the Scala job failed: {error}", *job.log_lines()[-30:]]))
        finally:
            job.stop()
    steady = steady_state(samples, round(options.scala_events * _WARM_UP))
    print_steady_state(f"{options.name}: the Scala job", steady)
    return steady


def _addresses(world: World, load: Load) -> dict[str, str]:
    cassandra = cassandra_config(world)
    return {
        "KAFKA_BROKERS": world.kafka.bootstrap_servers,
        "CASSANDRA_HOST": cassandra.contact_points[0],
        "CASSANDRA_PORT": str(cassandra.port),
        "REDIS_HOST": world.redis.host,
        "REDIS_PORT": str(world.redis.port),
        # The other jobs call no service. Nothing listens here.
        "SERVICES_URL": load.environment.get("AGGREGATES__LEARNER_BASE_URL", "http://127.0.0.1:9"),
    }


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the command line, with what :func:`measure_job` wants to know. Exits with code 2 if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scala_jobs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=_NAMES, help="the load")
    parser.add_argument("--scala-events", type=int, default=5_000, help="events of the Scala job (default %(default)s)")
    parser.add_argument("--events", type=int, default=50_000, help="events of our job (default %(default)s)")
    parser.add_argument("--cores", choices=["separate", "shared"], default="separate", help="as in `benchmarks`")
    parser.add_argument("-D", dest="flink", action="append", default=[], metavar="KEY=VALUE", help="for our job")
    parser.add_argument("command", nargs="+", help="how the Scala job starts, after --")
    parser.set_defaults(parallelism=1, commitlog_sync="periodic", no_plain_driver=True, latency_seconds=0.0, hold=False)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
