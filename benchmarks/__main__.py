"""``python -m benchmarks``: starts real servers and a real cluster, and prints the figures and ratios of this run."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from benchmarks import desk_check, json_libraries, overload, progress_report, reader_apis
from benchmarks.activity import ActivityLoad
from benchmarks.assessment import AssessmentLoad
from benchmarks.certificate import CertificateLoad
from benchmarks.cores import choose_cores, running_on
from benchmarks.job import BATCH_SIZE, IN_FLIGHT, measure_job
from benchmarks.load import Load
from benchmarks.world import benchmark_world, world_config
from local.world import ALL

LOADS: dict[str, Callable[[], Load]] = {
    "assessment": AssessmentLoad,
    "activity": ActivityLoad,
    "certificate": CertificateLoad,
    # As many connections as the plain driver has requests in flight. With the default, no more than 2,000 requests/s
    # would be possible.
    "certificate-50ms": partial(CertificateLoad, delay_ms=50, connections=BATCH_SIZE * IN_FLIGHT),
    # Only 500 enrolments, so that filling the table with many attempts per enrolment stays fast.
    "assessment-1-attempt": partial(AssessmentLoad, users=100, attempts_before=1),
    "assessment-20-attempts": partial(AssessmentLoad, users=100, attempts_before=20),
    "assessment-200-attempts": partial(AssessmentLoad, users=100, attempts_before=200),
    "assessment-large-table": partial(AssessmentLoad, other_attempts=300_000),
    # To be run with two slots and a few hundred events: whether a TaskManager of the shipped size has enough memory.
    "assessment-large-events": partial(AssessmentLoad, users=100, added_bytes=900_000),
    # A million enrolments: most events are the first of their enrolment, and no row grows large.
    "assessment-many-learners": partial(AssessmentLoad, users=200_000),
    # More than a million events. The default of 2,000 users has only some 61,000.
    "activity-many-learners": partial(ActivityLoad, users=36_000),
}

READERS = {
    "read-apis": reader_apis,
    "read-apis-overload": overload,
    "progress-report": progress_report,
    "desk-check": desk_check,
    "json": json_libraries,
}
"""The benchmarks that need no Flink: the programs that read the tables, and the libraries for JSON."""
NAMES = (*LOADS, *READERS)
DEFAULT_NAMES = ("assessment", "activity", "certificate", "certificate-50ms", *READERS)


def main() -> None:
    """Runs the chosen benchmarks one after the other. Each one starts its own servers."""
    options = parse_arguments(sys.argv[1:])
    config = world_config(options.parallelism, options.commitlog_sync)
    cores = choose_cores(options.cores)
    for name in options.names:
        reader = READERS.get(name)
        servers = reader.SERVERS if reader else ALL
        with (
            tempfile.TemporaryDirectory() as folder,
            running_on(cores.all if reader else cores.of_servers),
            benchmark_world(config.isolated(Path(folder)), servers) as world,
        ):
            if reader:
                print(f"{name}:", flush=True)
                reader.run(world)
            else:
                with closing(LOADS[name]()) as load:
                    measure_job(name, load, world, cores, options)


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the command line. Exits with code 2 and a message if an option or a name is unknown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"what to measure: {', '.join(NAMES)} (default: {', '.join(DEFAULT_NAMES)})",
    )
    parser.add_argument("--events", type=int, default=50_000, help="number of events per job (default %(default)s)")
    parser.add_argument("--parallelism", type=int, default=1, help="of each job (default %(default)s)")
    parser.add_argument(
        "--latency-seconds",
        type=float,
        default=105,
        help="how long to measure the latency at half the measured rate; 0 skips it (default %(default)s: a thousand "
        "probes)",
    )
    parser.add_argument(
        "--no-plain-driver", action="store_true", help="measure only the job, without the ratio to the plain driver"
    )
    parser.add_argument(
        "--commitlog-sync",
        choices=["batch", "periodic"],
        default="periodic",
        help="Cassandra's setting: batch writes to disk before it answers, periodic is Cassandra's own default "
        "(default here: %(default)s)",
    )
    parser.add_argument(
        "-D",
        dest="flink",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Flink configuration for the job; may be repeated",
    )
    parser.add_argument(
        "--cores",
        choices=["separate", "shared"],
        default="separate" if len(os.sched_getaffinity(0)) > 1 else "shared",
        help="separate: half of the cores run Flink and the plain driver, the other half all "
        "servers, as if these ran on other machines; shared: everything runs on all cores (default %(default)s)",
    )
    parser.add_argument(
        "--hold", action="store_true", help="keep everything running until Enter is pressed, to attach a profiler"
    )
    options = parser.parse_args(arguments)
    # Not checked with choices: argparse would compare the whole default list with each choice.
    options.names = options.names or list(DEFAULT_NAMES)
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"unknown {', '.join(sorted(unknown))}: choose from {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    main()
