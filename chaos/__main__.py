"""``python -m chaos``: runs the jobs on a real cluster, injects faults at random times, and checks the results.

It starts its own servers and stops them at the end. Each seed has its own course and learners. Their events arrive
while faults are injected. When all events have been processed, the oracle compares rows and messages with what was
sent. The exit code is 1 if anything is wrong.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from chaos.cluster import OPTIONS_OF_DELIVERY
from chaos.faults import FAULTS, faults_for
from chaos.oracle import Problem
from chaos.run import Toll, start_jobs
from chaos.sabotage import SABOTAGES, Sabotage
from local.config import Config, load_config
from local.errors import LocalWorldError
from local.world import World

console = Console(width=None if sys.stdout.isatty() else 140)


def main(arguments: Sequence[str]) -> int:
    """Runs the seeds and returns the exit code: 0 if nothing is wrong or every sabotage was noticed, else 1."""
    options = _parse(arguments)
    try:
        with ExitStack() as stack:
            folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            world = World(_config(folder, options.nodes), report=lambda text: _print(f"  {text}"))
            stack.enter_context(world)
            return (_sabotage if options.sabotage else _run_seeds)(world, options)
    except LocalWorldError as error:
        # A job that hangs cannot be cancelled either. What came first says more.
        for each in _with_earlier(error):
            console.print(f"[red]{each}", soft_wrap=True)
        return 1


def _with_earlier(error: BaseException) -> list[BaseException]:
    """The error and those during whose handling it was raised, the earliest first."""
    return [*(_with_earlier(error.__context__) if error.__context__ else []), error]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=(__doc__ or "").splitlines()[0])
    add: Callable[..., object] = parser.add_argument
    add("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the random numbers (default %(default)s)")
    add(
        "--nodes",
        type=int,
        choices=(1, 3),
        default=3,
        help="how many Cassandra nodes and Kafka brokers (default %(default)s; 1 for a small machine)",
    )
    add(
        "--faults-per-seed",
        type=int,
        default=3,
        metavar="NUMBER",
        help="how many faults each seed injects (default %(default)s)",
    )
    add(
        "--faults",
        nargs="+",
        choices=FAULTS,
        metavar="NAME",
        help=f"the faults to choose from (default all that the number of nodes allows): {', '.join(FAULTS)}",
    )
    add(
        "--pause-seconds",
        type=float,
        nargs="+",
        default=[20, 45],
        metavar="SECONDS",
        help="how long a fault that lasts takes: each kind has the next of these when it comes again "
        "(default %(default)s; Flink takes a process for dead after 30 s here)",
    )
    add(
        "--delivery",
        choices=OPTIONS_OF_DELIVERY,
        default="at_least_once",
        help="the jobs' kafka.delivery (default %(default)s); with exactly_once, a message that is read twice is wrong",
    )
    add("--folder", type=Path, help="keep the data and logs of all servers in this folder")
    add(
        "--sabotage",
        nargs="+",
        choices=("all", *SABOTAGES),
        metavar="NAME",
        help="break the jobs on purpose, in one way after the other, to see whether the oracle notices: "
        f"all, {', '.join(SABOTAGES)}",
    )
    return parser.parse_args(arguments)


def _config(folder: Path, nodes: int) -> Config:
    config = load_config(os.environ).isolated(folder).with_nodes(nodes)
    # A second TaskManager, so that the tasks of a paused one can go on elsewhere.
    flink = config.flink.model_copy(update={"task_managers": 2 if nodes > 1 else 1})
    return config.model_copy(update={"flink": flink})


def _run_seeds(world: World, options: argparse.Namespace) -> int:
    with ExitStack() as stack:
        run = stack.enter_context(start_jobs(world, options.pause_seconds, Sabotage(), _print, options.delivery))
        # Also shown if a later seed is interrupted.
        stack.callback(_show, run.tolls)
        for seed in options.seeds:
            run.seed(seed, options.faults or faults_for(options.nodes), options.faults_per_seed)
    faults = sum(len(toll.recovery_seconds) for toll in run.tolls.values())
    _print(f"{run.events} events, {faults} faults, {run.values} values, {run.messages_out} messages")
    if run.cluster.restarts:
        _print(f"TaskManagers that ended by themselves and were restarted: {run.cluster.restarts}")
    if run.problems:
        _print(f"[red]{len(run.problems)} wrong values")
        return 1
    _print("[green]nothing lost, nothing counted twice, every certificate went to the right learner")
    return 0


def _sabotage(world: World, options: argparse.Namespace) -> int:
    names = list(SABOTAGES) if "all" in options.sabotage else options.sabotage
    table = Table("sabotage", "events", "wrong", "for example")
    unnoticed = []
    for number, name in enumerate(names):
        sabotage = SABOTAGES[name]
        _print(f"sabotage {name}")
        pauses = sabotage.pauses or options.pause_seconds
        with start_jobs(world, pauses, sabotage, _print, options.delivery) as run:
            # Another seed for each, because they share the tables.
            run.seed(options.seeds[0] + number, sabotage.faults, len(sabotage.faults))
        noticed = sabotage.noticed_by(run.problems)
        if not noticed:
            unnoticed.append(name)
        table.add_row(name, str(run.events), _by_kind(run.problems), noticed[0].what if noticed else "not noticed")
    console.print(table)
    if unnoticed:
        _print(f"[red]the oracle has not noticed {', '.join(unnoticed)}")
        return 1
    _print("[green]the oracle has noticed every sabotage")
    return 0


def _by_kind(problems: Sequence[Problem]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in Counter(problem.kind for problem in problems).items())


def _print(line: str) -> None:
    console.print(line, highlight=False, soft_wrap=True)


def _show(tolls: Mapping[str, Toll]) -> None:
    table = Table("fault", "times", "median recovery", "longest recovery", "repeated messages")
    for name, toll in sorted(tolls.items()):
        seconds = toll.recovery_seconds
        table.add_row(name, str(len(seconds)), f"{median(seconds):.1f} s", f"{max(seconds):.1f} s", str(toll.repeats))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
