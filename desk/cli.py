"""The commands of the desk: ``python -m desk explain --user U --course C [--batch B]``, and the others."""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from common.config.loader import ConfigError, load, print_config
from common.config.section import PREFIX
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import StatementError
from desk import remedies
from desk.config import DeskConfig, settings_of, wording_of
from desk.doctor import commands as doctor
from desk.doctor.job_files import desk_values
from desk.doctor.preflight_reads import variables_of_the_desk
from desk.explanation import explain
from desk.explanation.steps import Explanation
from desk.output import show
from desk.reader import DeskError, open_reader
from desk.remedies import Remedy
from desk.sender import send
from desk.sentences import LANGUAGES

# What is wrong with a server, the data or the question, and not with this program: told in a line, without a stack.
_EXPECTED = (DeskError, WorldFault, TaskFault, StatementError, *doctor.EXPECTED)


def main(arguments: Sequence[str]) -> int:
    """The exit code: 0, or 1 if there is no answer; 2 for wrong arguments or configuration."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "preflight":
            maps, _ = desk_values(options.jobs)
            config = load(DeskConfig, options.config, variables_of_the_desk(os.environ), maps=maps)
        else:
            config = load(DeskConfig, options.config)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    if options.print_config:
        sys.stdout.write(print_config(config))
        return 0
    if options.command is None:
        parser.error("a command is needed")
    try:
        return int(options.run(config, options))
    except _EXPECTED as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _explain(config: DeskConfig, options: argparse.Namespace) -> int:
    wording = wording_of(config, options.language)

    async def read() -> Explanation:
        async with open_reader(config) as reader:
            key = await reader.enrolment_key(options.user, options.course, options.batch)
            return explain(await reader.learner(key), settings_of(config), wording)

    explanation = asyncio.run(read())
    if options.json:
        document = {"steps": [step.as_json() for step in explanation.steps], "timeZone": wording.zone_name}
        sys.stdout.write(f"{msgspec.json.format(msgspec.json.encode(document)).decode()}\n")
    else:
        show(explanation, Console(), wording.zone_name, with_evidence=not options.brief)
    return 0


def _send(config: DeskConfig, options: argparse.Namespace) -> int:
    """Sends the event of a remedy to one learner, after a yes on a terminal."""
    key, remedy = EnrolmentKey(options.user, options.course, options.batch), Remedy(options.remedy)
    if remedy is Remedy.RECOMPUTE and not options.content:
        raise DeskError("--content is needed: a recompute request names a content of the course")
    message = remedies.event(remedy, key, options.content, time.time_ns() // 1_000_000, config.kafka)
    print(f"{message.topic}: {message.value.decode()}")
    if not options.yes:
        if not sys.stdin.isatty():
            print("nothing was sent: say --yes", file=sys.stderr)
            return 1
        if input("Send it? [y/N] ").strip().lower() not in ("y", "yes"):
            return 1
    send(config.kafka, [message])
    print("sent")
    return 0


def _serve(config: DeskConfig, _: argparse.Namespace) -> int:
    from desk.server.run import serve  # noqa: PLC0415 - the other commands do without a web server

    serve(config)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m desk",
        description="The support desk: why a learner has no certificate, what else is wrong, and how to put it right.",
        epilog=f"Every key can be overridden by a variable, such as {PREFIX}CASSANDRA__PORT for cassandra.port.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file whose keys override desk/config.yaml")
    parser.add_argument(
        "--print-config", action="store_true", help="print what would be used, without secrets, and end"
    )
    commands = parser.add_subparsers(dest="command")
    text = "say step by step why a learner has a certificate or none"
    command = commands.add_parser("explain", help=text, description=f"{text[0].upper()}{text[1:]}.")
    _add_learner(command, batch_is_needed=False)
    command.add_argument("--json", action="store_true", help="print JSON")
    command.add_argument("--brief", action="store_true", help="without the evidence")
    command.add_argument("--language", choices=LANGUAGES, help="instead of the configured language")
    command.set_defaults(run=_explain)
    text = "send an event that puts one learner right"
    command = commands.add_parser("send", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("remedy", choices=[remedy.value for remedy in Remedy])
    _add_learner(command, batch_is_needed=True)
    command.add_argument("--content", metavar="ID", default="", help="a content of the course, for recompute")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(run=_send)
    doctor.add_commands(commands)
    text = "serve the pages"
    commands.add_parser("serve", help=text, description=f"{text[0].upper()}{text[1:]}.").set_defaults(run=_serve)
    return parser


def _add_learner(command: argparse.ArgumentParser, *, batch_is_needed: bool) -> None:
    command.add_argument("--user", metavar="ID", required=True)
    command.add_argument("--course", metavar="ID", required=True)
    command.add_argument(
        "--batch",
        metavar="ID",
        required=batch_is_needed,
        help=None if batch_is_needed else "may be left out if the learner has one batch of the course",
    )
