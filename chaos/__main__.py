"""``python -m chaos``: runs the jobs on a real cluster, injects faults at random times, and checks the results.

It starts its own servers and stops them at the end. Each seed has its own course and learners. Their events arrive
while faults are injected. When all events have been processed, the oracle compares rows and messages with what was
sent. The exit code is 1 if anything is wrong.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from chaos.faults import FAULTS
from chaos.run import Toll, start_jobs
from chaos.sabotage import SABOTAGES, Sabotage
from local.config import load_config
from local.errors import LocalWorldError
from local.world import World

console = Console(width=None if sys.stdout.isatty() else 140)


def main(arguments: Sequence[str]) -> int:
    """Runs the seeds and returns the exit code: 0 if nothing is wrong, else 1."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of the random numbers (default %(default)s)"
    )
    parser.add_argument(
        "--faults-per-seed",
        type=int,
        default=3,
        metavar="NUMBER",
        help="how many faults each seed injects (default %(default)s)",
    )
    parser.add_argument(
        "--faults",
        nargs="+",
        choices=FAULTS,
        default=list(FAULTS),
        metavar="NAME",
        help=f"the faults to choose from (default all): {', '.join(FAULTS)}",
    )
    parser.add_argument(
        "--pause-seconds",
        type=float,
        default=20,
        help="how long a SIGSTOP or a fault of the HTTP services lasts (default %(default)s)",
    )
    parser.add_argument("--folder", type=Path, help="keep the data and logs of all servers in this folder")
    parser.add_argument(
        "--sabotage", choices=SABOTAGES, help="break the jobs on purpose, to see whether the oracle notices"
    )
    options = parser.parse_args(arguments)
    sabotage = SABOTAGES.get(options.sabotage, Sabotage())
    try:
        with ExitStack() as stack:
            folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            world = World(load_config(os.environ).isolated(folder), report=lambda text: _print(f"  {text}"))
            stack.enter_context(world)
            run = stack.enter_context(start_jobs(world, options.pause_seconds, sabotage, _print))
            # Also shown if a later seed is interrupted.
            stack.callback(_show, run.tolls)
            for seed in options.seeds:
                if sabotage.faults:
                    run.seed(seed, sabotage.faults, len(sabotage.faults))
                else:
                    run.seed(seed, options.faults, options.faults_per_seed)
    except LocalWorldError as error:
        console.print(f"[red]{error}", soft_wrap=True)
        return 1
    if run.cluster.restarts:
        _print(f"TaskManagers that ended by themselves and were restarted: {run.cluster.restarts}")
    if run.problems:
        _print(f"[red]{len(run.problems)} wrong values")
        return 1
    _print("[green]nothing lost, nothing counted twice, every certificate went to the right learner")
    return 0


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
