"""`python -m local up|down|status|package|variables`: the local world in the background, and what the jobs need for it.

Exit codes: 0 success, 1 failure (the message says why), 2 wrong arguments, 3 nothing is running (`status` only),
130 interrupted.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from jobs import JOBS
from local import supervisor
from local.config import Config, load_config
from local.errors import LocalWorldError
from local.package import build_archive
from local.readers import desk_environment, report_environment, services_environment
from local.tokens import TokenIssuer
from local.world import World, addresses


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command (default: the one on the command line) and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, function, text in (
        ("up", _up, "start Kafka, Cassandra, Redis and Flink in the background"),
        ("down", _down, "stop what `up` started"),
        ("status", _status, "show what is running and where"),
        ("package", _package, "write the archive for `flink run --pyFiles` and print its path"),
    ):
        commands.add_parser(name, help=text, description=text).set_defaults(run=function)
    text = "print the variables that point a job or a reader at these servers, for the shell"
    variables = commands.add_parser("variables", help=text, description=text)
    variables.add_argument("program", choices=[*JOBS, "services", "reports", "desk"])
    variables.set_defaults(run=_variables)
    options = parser.parse_args(arguments)
    try:
        config = load_config()
        return int(_variables(config, options.program) if options.run is _variables else options.run(config))
    except LocalWorldError as error:
        print(f"local: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _up(config: Config) -> int:
    if not supervisor.ensure_running(config):
        print("already running")
    _print_addresses(config)
    return 0


def _down(config: Config) -> int:
    print("stopped" if supervisor.stop(config) else "nothing is running")
    return 0


def _status(config: Config) -> int:
    state = supervisor.State.read(config)
    if state is None:
        print("nothing is running")
        return 3
    if not state.servers:
        print("starting")
        return 1
    for server in state.servers:
        print(f"{server.name:20} {f'running, pid {server.pid}' if server.is_alive else 'ENDED'}")
    _print_addresses(config)
    return 0 if all(server.is_alive for server in state.servers) else 1


def _package(config: Config) -> int:
    print(build_archive(config.state_folder))
    return 0


def _variables(config: Config, program: str) -> int:
    world = World(supervisor.as_running(config))
    http_services = f"http://127.0.0.1:{config.http_services.port}"
    match program:
        case "services":
            found = services_environment(world, TokenIssuer(config.state_folder / "token-keys"), http_services)
        case "reports":
            found = report_environment(world, http_services)
        case "desk":
            found = desk_environment(world, http_services)
        case _:
            found = world.job_environment(JOBS[program])
    for name, value in found.items():
        print(f"export {name}={shlex.quote(value)}")
    return 0


def _print_addresses(config: Config) -> None:
    for name, address in addresses(supervisor.as_running(config)).items():
        print(f"{name:20} {address}")


if __name__ == "__main__":
    sys.exit(main())
