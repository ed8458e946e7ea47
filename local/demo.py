"""`make demo`: runs the jobs on a real cluster with the events of a small course, and checks the results.

Starts the local world, or uses the one that `make up` has started. The exit code is 0 only if every row and every
message is as expected. `make desk` is the same with `--desk`: afterwards the support desk is served until Ctrl-C.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

from confluent_kafka import Producer
from rich.console import Console

from common.domain import topics
from jobs import JOBS
from local import supervisor
from local.config import load_config
from local.demo_data import prepare
from local.demo_desk import DeskServer
from local.demo_explanations import show_explanations
from local.demo_output import AUDITS, CERTIFICATES, REQUESTS, TIMEOUT_SECONDS, OutputTopics
from local.demo_results import show_learners, show_readers
from local.errors import LocalWorldError
from local.flink import submit_all
from local.http_services import HttpServices, job_settings
from local.readers import Readers, desk_environment
from local.story import Story, build_story
from local.tables import Tables
from local.world import World

ATTEMPTS, COMPLETIONS = topics.ASSESS, topics.BATCH_JOB_REQUEST

console = Console(width=None if sys.stdout.isatty() else 140)


def main(arguments: Sequence[str]) -> int:
    """Runs the demo. Returns the exit code: 0 if all results are as expected, else 1."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--desk", action="store_true", help="serve the support desk until Ctrl-C")
    options = parser.parse_args(arguments)
    try:
        with ExitStack() as stack:
            return _run(stack, serves_desk=options.desk)
    except LocalWorldError as error:
        console.print(f"[red]{error}")
        return 1


def _run(stack: ExitStack, *, serves_desk: bool) -> int:
    config = supervisor.as_running(load_config())
    world = World(config, report=lambda text: console.print(f"  {text}", highlight=False, soft_wrap=True))
    if supervisor.State.read(config):
        console.print("Using the servers that `make up` has started")
    else:
        console.print("Starting Kafka, Cassandra, Redis and Flink")
        stack.enter_context(world)
    services = stack.enter_context(HttpServices())
    tables = stack.enter_context(Tables(world.cassandra.contact_points, world.cassandra.port))
    run = int(time.time())
    story = build_story(run)
    # Each run has its own topics, so that it does not read the messages of an earlier run.
    environment = f"demo-{run}"
    world.kafka.create_topics(f"{environment}.{topic}" for topic in topics.ALL)
    prepare(story, world, tables, services)
    readers = Readers(config, world, services.base_url, environment)
    stack.callback(readers.stop)
    readers.launch()
    with _jobs(world, services, environment):
        output = OutputTopics(world, environment, console)
        _produce_attempts_and_completions(world, environment, story, output)
        problems = show_learners(story, tables, output.messages, console)
        problems += show_readers(story, readers, services.base_url, console)
        variables = desk_environment(world, services.base_url, environment)
        problems += show_explanations(story, variables, console)
        desk = DeskServer(config, variables)
        stack.callback(desk.stop)
        desk.start()
        picture = config.state_folder / "course.svg"
        desk.save_picture(story, picture)
        console.print(f"\nThe figures of the course: {picture}", highlight=False, soft_wrap=True)
        console.print(f"\nFlink's web UI: {world.flink.web_url}", highlight=False)
        if problems:
            console.print("[red]These results are wrong:")
            for problem in problems:
                console.print(f"  {problem}", highlight=False)
        else:
            console.print("[green]All results are as expected.")
        if serves_desk or sys.stdin.isatty():
            console.print(f"\nThe support desk: {desk.course_page(story)}", highlight=False, soft_wrap=True)
            console.print(f"Log in with the token {desk.token}", highlight=False)
        if serves_desk:
            console.print("Press Ctrl-C to stop.")
            with suppress(KeyboardInterrupt):
                signal.pause()
        elif sys.stdin.isatty():
            console.input("The jobs are still running. Press Enter to stop them.")
    return 1 if problems else 0


@contextmanager
def _jobs(world: World, services: HttpServices, environment: str) -> Iterator[None]:
    """Submits all jobs at the same time with `flink run`, and cancels them at the end of the `with` block."""
    settings = job_settings(services.base_url)
    console.print(f"Submitting {', '.join(settings)} with flink run")
    submissions = {
        name: partial(
            world.submit,
            JOBS[name],
            environment={**urls, "AGGREGATES__KAFKA__ENV": environment},
            parallelism=1,
        )
        for name, urls in settings.items()
    }
    client = world.flink.client
    jobs = submit_all(submissions, client.cancel_all).values()
    try:
        for job in jobs:
            client.wait_until_running(job, timeout_seconds=TIMEOUT_SECONDS)
        yield
    finally:
        client.cancel_all(jobs)


def _produce_attempts_and_completions(world: World, environment: str, story: Story, output: OutputTopics) -> None:
    """Produces the attempts and waits for their messages, then does the same with the completions."""
    _produce(world, f"{environment}.{ATTEMPTS}", story.attempts)
    output.wait_for(
        {REQUESTS: story.attempt_requests, topics.ASSESS_FAILED: story.failed[topics.ASSESS_FAILED]}, "attempts"
    )
    _produce(world, f"{environment}.{COMPLETIONS}", story.completions)
    output.wait_for(
        {
            AUDITS: 2 * story.new_completions + story.completed_courses,
            REQUESTS: story.attempt_requests + story.completed_courses,
            topics.ACTIVITY_AGG_FAILED: story.failed[topics.ACTIVITY_AGG_FAILED],
            CERTIFICATES: sum(learner.gets_certificate for learner in story.learners),
        },
        "completions",
    )


def _produce(world: World, topic: str, values: Iterable[bytes]) -> None:
    """Produces to one partition, because the story depends on the order of a learner's events."""
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "log_level": 0})
    for value in values:
        producer.produce(topic, value, partition=0)
    if left := producer.flush(30):
        raise LocalWorldError(f"{left} events for {topic} were not delivered to Kafka within 30 s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
