"""``python -m deploy.prometheus.check [--alarms] [--picture FILE]``: do rules and dashboard find data?

Starts Kafka, Cassandra, Redis, Flink and a Prometheus, runs the jobs under the demo's load, with two short faults
in it, and then runs every expression over that time. Exit code 1 if one has no series. It takes some minutes, and is
meant for the evening before a release, not for `make test`.

With ``--alarms`` two faults then last until their alarms fire: Cassandra is paused, and events come that are not JSON.
With ``--picture`` the dashboard is drawn at the end.
"""

import argparse
import math
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from confluent_kafka import Producer
from rich.console import Console

from common.domain import topics
from deploy.prometheus import picture
from deploy.prometheus.expressions import panels, rules, selectors
from deploy.prometheus.server import SCRAPE_SECONDS, Client, Prometheus
from local.config import load_config
from local.demo_data import prepare
from local.errors import LocalWorldError
from local.http_services import CONTENT, SEARCH, USER, HttpServices, Switch, job_settings
from local.story import build_story
from local.tables import Tables
from local.world import ENVIRONMENT, World

STORIES = 4
"""Each has about 500 attempts and 200 completions, of learners of its own."""
PAUSE_SECONDS = 20
"""How long Cassandra is paused: longer than `cassandra.request_timeout_ms`, so that batches are applied again."""
ALARM_SECONDS = 900

_NOT_ON_PURPOSE = 'reason="internal_error"'
"""Only a defect would give this series, so the selector is checked without it."""

console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 if every expression has had a series, and every provoked alarm has fired."""
    parser = argparse.ArgumentParser(prog="python -m deploy.prometheus.check")
    parser.add_argument("--alarms", action="store_true", help="also wait until two alarms fire")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the dashboard as an SVG")
    options = parser.parse_args(arguments)
    try:
        with ExitStack() as stack:
            return _run(stack, options.picture, with_alarms=options.alarms)
    except LocalWorldError as error:
        console.print(f"[red]{error}")
        return 1


def _run(stack: ExitStack, picture_file: Path | None, *, with_alarms: bool) -> int:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prometheus-check-")))
    world = stack.enter_context(World(load_config({}).isolated(folder), report=console.print))
    services = stack.enter_context(HttpServices())
    tables = stack.enter_context(Tables(world.cassandra.contact_points, world.cassandra.port))
    targets = [process.metrics_url for process in (world.flink.job_manager, *world.flink.task_managers)]
    if None in targets:
        raise LocalWorldError("a Flink process has started no Prometheus reporter: see its log")
    prometheus = Prometheus(folder / "prometheus", [target for target in targets if target])
    stack.callback(prometheus.stop)
    prometheus.start()
    started = time.time()
    _submit_jobs(world, services)
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "log_level": 0})
    _load(world, services, tables, producer)
    ended = time.time()
    problems = _problems(prometheus.client, started, ended)
    if with_alarms:
        problems += _alarms(world, prometheus.client, producer)
    if picture_file is not None:
        ended = time.time()
        picture_file.write_text(picture.draw(picture.read(prometheus.client, started, ended), started, ended))
    for problem in problems:
        console.print(f"[red]{problem}")
    return 1 if problems else 0


def _submit_jobs(world: World, services: HttpServices) -> None:
    """One after another, because three clients at a time take minutes to start on two cores."""
    for name, urls in job_settings(services.base_url).items():
        job = world.submit(f"jobs.{name}", environment=urls, parallelism=1)
        world.flink.client.wait_until_running(job, timeout_seconds=300, checkpoints=1)


def _load(world: World, services: HttpServices, tables: Tables, producer: Producer) -> None:
    """Returns when all of it has been processed and Prometheus has scraped it."""
    for number in range(STORIES):
        story = build_story(int(time.time()) + number)
        prepare(story, world, tables, services)
        for route in (CONTENT, SEARCH, USER):
            services.switch(route, Switch(status=503, times=2))
        _send(producer, topics.ASSESS, story.attempts)
        _send(producer, topics.BATCH_JOB_REQUEST, story.completions)
        if number == 1:
            with _paused_cassandra(world):
                _send(producer, topics.ASSESS, story.attempts[:50])
                time.sleep(PAUSE_SECONDS)
        console.print(f"load {number + 1} of {STORIES} is sent")
        time.sleep(30)


@contextmanager
def _paused_cassandra(world: World) -> Iterator[None]:
    os.kill(world.cassandra.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(world.cassandra.pid, signal.SIGCONT)


def _send(producer: Producer, topic: str, values: Sequence[bytes]) -> None:
    for value in values:
        producer.produce(f"{ENVIRONMENT}.{topic}", value)
    if left := producer.flush(30):
        raise LocalWorldError(f"{left} events for {topic} were not delivered to Kafka within 30 s")


def _problems(prometheus: Client, started: float, ended: float) -> list[str]:
    """Runs the expressions of the dashboard, and the selectors of the rules, whose conditions normally find nothing."""
    checks = [(f"panel {title!r}", expression) for title, found in panels().items() for expression in found]
    checks += [
        (f"rule {name}", selector.replace(f"{{{_NOT_ON_PURPOSE}}}", ""))
        for name, expression in rules().items()
        for selector in sorted(selectors(expression))
    ]
    problems = [f"rule {problem}" for problem in prometheus.broken_rules()]
    for name, expression in checks:
        found = prometheus.query_range(expression, started, ended, SCRAPE_SECONDS)
        # A quotient of two rates is NaN while nothing happens, and a panel shows nothing then.
        series = [one for one in found if any(math.isfinite(float(value)) for _, value in one["values"])]
        console.print(f"{len(series):4} series  {name}")
        if not series:
            problems.append(f"{name} has found no series: {expression}")
    return problems


def _alarms(world: World, prometheus: Client, producer: Producer) -> list[str]:
    with _paused_cassandra(world):
        _send(producer, topics.ASSESS, build_story(int(time.time())).attempts[:10])
        problems = _wait_for("LearnerAggregatesBatchRetriedForMinutes", prometheus)

    def fail() -> None:
        _send(producer, topics.BATCH_JOB_REQUEST, [b"{"] * 20)

    return problems + _wait_for("LearnerAggregatesEventsFail", prometheus, fail)


def _wait_for(alarm: str, prometheus: Client, provoke: Callable[[], None] = lambda: None) -> list[str]:
    started = time.monotonic()
    while alarm not in (firing := prometheus.firing()):
        if time.monotonic() - started > ALARM_SECONDS:
            return [f"{alarm} has not fired within {ALARM_SECONDS} s"]
        provoke()
        time.sleep(5)
    console.print(f"{alarm} fired after {time.monotonic() - started:.0f} s: {firing[alarm][0]}")
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
