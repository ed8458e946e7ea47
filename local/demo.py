"""`make demo`: the jobs on a real cluster, a believable course, and whether everything came out as it must.

Starts the local world, or uses the one of `make up`. Exit code 0 only if every row and every message is there.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from rich.console import Console
from rich.live import Live
from rich.table import Table

from common.aggregates import ACTIVITY_TYPE, context_id, merge
from local import generator, story, supervisor
from local.config import load_config
from local.errors import LocalWorldError
from local.http_services import HttpServices
from local.story import Learner, Story
from local.tables import Tables
from local.world import ENVIRONMENT, World

JOBS = ("assessment_aggregator", "activity_aggregate_updater", "collection_cert_pre_processor")
ATTEMPTS, COMPLETIONS = "telemetry.assess", "coursebatch.job.request"
REQUESTS, AUDITS, CERTIFICATES = "issue.certificate.request", "telemetry.raw", "generate.certificate.request"
FAILED = ("telemetry.assess.failed", "activity.agg.failed", "issue.certificate.failed")

TIMEOUT_SECONDS = 90.0
"""Without anything new: a slow machine gets as long as it makes progress."""
POLL_SECONDS = 0.25

console = Console()


def main() -> int:
    """Runs the demo; 0 if all is as expected, 1 if not."""
    try:
        with ExitStack() as stack:
            return _run(stack)
    except LocalWorldError as error:
        console.print(f"[red]{error}")
        return 1


def _run(stack: ExitStack) -> int:
    config = load_config()
    world = World(config, report=lambda text: console.print(f"  {text}", highlight=False))
    if supervisor.State.read(config):
        console.print("Using the servers of `make up`")
    else:
        console.print("Starting Kafka, Cassandra, Redis and Flink")
        stack.enter_context(world)
    services = stack.enter_context(HttpServices())
    tables = stack.enter_context(Tables(world.cassandra.contact_points, world.cassandra.port))
    told = story.tell(int(time.time()))
    _prepare(told, world, tables, services)
    with _jobs(world, services):
        watched = Watched(world)
        _produce(world, ATTEMPTS, told.attempts)
        watched.wait_for({REQUESTS: told.attempt_requests, FAILED[0]: told.failed[FAILED[0]]}, "attempts")
        _produce(world, COMPLETIONS, told.completions)
        watched.wait_for(
            {
                AUDITS: 2 * told.new_completions + told.completed_courses,
                REQUESTS: told.attempt_requests + told.completed_courses,
                FAILED[1]: told.failed[FAILED[1]],
                CERTIFICATES: sum(learner.gets_certificate for learner in told.learners),
            },
            "completions",
        )
        problems = _show(told, tables, watched.messages())
        console.print(f"\nFlink's web UI: {world.flink.web_url}", highlight=False)
        if problems:
            console.print("[red]Not as expected:")
            for problem in problems:
                console.print(f"  {problem}", highlight=False)
        else:
            console.print("[green]Everything expected is there.")
        if sys.stdin.isatty():
            console.input("Look around; Enter ends the jobs.")
    return 1 if problems else 0


def _prepare(told: Story, world: World, tables: Tables, services: HttpServices) -> None:
    """What other services would have written: the course in the caches, batch, enrolments, rows of the old job."""
    course = told.course
    with world.redis.client(db=10) as relations, world.redis.client(db=5) as contents:
        for key, members in generator.relation_sets(course).items():
            relations.sadd(key, *members)
        for content_id in told.quizzes:
            contents.set(content_id, msgspec.json.encode({"contentType": "SelfAssess", "totalQuestions": 10}))
    services.contents[course.course_id] = {"name": "Flowers, Planets and \\u00bd Numbers", "contentType": "Course"}
    tables.execute(
        "INSERT INTO course_batch (courseid, batchid, name, status, cert_templates) VALUES (?, ?, ?, ?, ?)",
        course.course_id,
        course.batch_id,
        "Demo",
        1,
        told.cert_templates(),
    )
    for learner in told.learners:
        first_name, _, last_name = learner.name.partition(" ")
        services.users[learner.user_id] = {
            "firstName": first_name,
            "lastName": last_name,
            "rootOrgId": "0126632859575746566",
            "status": 1,
        }
        tables.execute(
            "INSERT INTO user_enrolments (userid, courseid, batchid, active, status) VALUES (?, ?, ?, true, 0)",
            learner.user_id,
            course.course_id,
            course.batch_id,
        )
        if learner.old_agg:
            tables.execute(
                "UPDATE user_activity_agg SET agg = ? "
                "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
                dict(learner.old_agg),
                *_row_of(told, learner),
            )


def _row_of(told: Story, learner: Learner) -> tuple[str, str, str, str]:
    return ACTIVITY_TYPE, told.course.course_id, learner.user_id, context_id(told.course.batch_id)


@contextmanager
def _jobs(world: World, services: HttpServices) -> Iterator[None]:
    """The jobs on the cluster, submitted at the same time with `flink run`, cancelled in the end."""
    console.print(f"Submitting {', '.join(JOBS)} with flink run")
    os.environ |= world.job_environment()
    for name in ("CONTENT_READ_API", "SEARCH_API", "LEARNER_BASE_URL", "CONTENT_BASE_URL"):
        os.environ[f"AGGREGATES__{name}"] = ""
    with ThreadPoolExecutor() as executor:
        submitted = [
            executor.submit(world.submit, f"jobs.{name}", environment=_urls(name, services.base_url), parallelism=1)
            for name in JOBS
        ]
        jobs = [future.result() for future in submitted]
    for job in jobs:
        world.flink.client.wait_until_running(job, timeout_seconds=TIMEOUT_SECONDS)
    try:
        yield
    finally:
        for job in jobs:
            world.flink.client.cancel(job)
