"""`make demo`: the jobs on a real cluster, a believable course, and whether everything came out as it must.

Starts the local world, or uses the one of `make up`. Exit code 0 only if every row and every message is there.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from math import ceil
from typing import Any

import msgspec
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from rich.console import Console
from rich.live import Live
from rich.table import Table

from common.domain import topics
from common.domain.aggregates import ACTIVITY_TYPE, context_id, merge
from local import generator, story, supervisor
from local.config import load_config
from local.errors import LocalWorldError
from local.http_services import HttpServices, job_settings
from local.readers import HIERARCHY_KEYSPACE, HIERARCHY_TABLES, Readers, progress_report
from local.story import Learner, Story
from local.tables import Tables
from local.world import World

ATTEMPTS, COMPLETIONS = topics.ASSESS, topics.BATCH_JOB_REQUEST
REQUESTS, AUDITS = topics.ISSUE_CERTIFICATE_REQUEST, topics.TELEMETRY_RAW
CERTIFICATES = topics.GENERATE_CERTIFICATE_REQUEST
FAILED = (topics.ASSESS_FAILED, topics.ACTIVITY_AGG_FAILED, topics.ISSUE_CERTIFICATE_FAILED)

TIMEOUT_SECONDS = 90.0
"""Without anything new: a slow machine gets as long as it makes progress."""
POLL_SECONDS = 0.25

console = Console(width=None if sys.stdout.isatty() else 140)


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
    world = World(config, report=lambda text: console.print(f"  {text}", highlight=False, soft_wrap=True))
    if supervisor.State.read(config):
        console.print("Using the servers of `make up`")
    else:
        console.print("Starting Kafka, Cassandra, Redis and Flink")
        stack.enter_context(world)
    services = stack.enter_context(HttpServices())
    tables = stack.enter_context(Tables(world.cassandra.contact_points, world.cassandra.port))
    run = int(time.time())
    told = story.tell(run)
    # Topics of its own, so that no run sees what another one has left.
    environment = f"demo-{run}"
    world.kafka.create_topics(f"{environment}.{topic}" for topic in topics.ALL)
    _prepare(told, world, tables, services)
    readers = Readers(config, world, services.base_url, environment)
    stack.callback(readers.stop)
    readers.launch()
    with _jobs(world, services, environment):
        watched = Watched(world, environment)
        _produce(world, f"{environment}.{ATTEMPTS}", told.attempts)
        watched.wait_for({REQUESTS: told.attempt_requests, FAILED[0]: told.failed[FAILED[0]]}, "attempts")
        _produce(world, f"{environment}.{COMPLETIONS}", told.completions)
        watched.wait_for(
            {
                AUDITS: 2 * told.new_completions + told.completed_courses,
                REQUESTS: told.attempt_requests + told.completed_courses,
                FAILED[1]: told.failed[FAILED[1]],
                CERTIFICATES: sum(learner.gets_certificate for learner in told.learners),
            },
            "completions",
        )
        problems = _show(told, tables, watched.messages)
        problems += _show_readers(told, readers, services.base_url)
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
    world.publish_relations(course)
    with world.redis.client(db=5) as contents:
        for content_id in told.course.quizzes:
            contents.set(content_id, msgspec.json.encode({"contentType": "SelfAssess", "totalQuestions": 10}))
    services.contents[course.course_id] = {
        "name": "Flowers, Planets and \\u00bd Numbers",
        "contentType": "Course",
        "channel": "0126632859575746566",
        "status": "Live",
    }
    services.groups[course.batch_id] = [{"userId": learner.user_id} for learner in told.learners]
    _prepare_report(told, world, tables)
    tables.execute(
        "INSERT INTO course_batch (courseid, batchid, name, status, cert_templates) VALUES (?, ?, ?, ?, ?)",
        course.course_id,
        course.batch_id,
        "Demo",
        1,
        generator.certificate_templates(75),
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
            "INSERT INTO user_enrolments (userid, courseid, batchid, enrolled_date, active, status) "
            "VALUES (?, ?, ?, ?, true, 0)",
            learner.user_id,
            course.course_id,
            course.batch_id,
            datetime.now(UTC),
        )
        if learner.old_agg:
            tables.execute(
                "UPDATE user_activity_agg SET agg = ? "
                "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
                dict(learner.old_agg),
                *_row_of(told, learner),
            )


def _prepare_report(told: Story, world: World, tables: Tables) -> None:
    """What the progress report reads besides: the tree of the course and the learners' profiles."""
    for statement in HIERARCHY_TABLES:
        tables.execute(statement)
    quizzes = [{"identifier": quiz, "contentType": "SelfAssess"} for quiz in told.course.quizzes]
    tree = {"identifier": told.course.course_id, "leafNodesCount": len(told.course.contents), "children": quizzes}
    tables.execute(
        f"INSERT INTO {HIERARCHY_KEYSPACE}.content_hierarchy (identifier, hierarchy) VALUES (?, ?)",
        told.course.course_id,
        msgspec.json.encode(tree).decode(),
    )
    with world.redis.client(db=12) as profiles:
        for learner in told.learners:
            profiles.hset(f"user:{learner.user_id}", mapping={"userid": learner.user_id, "state": "Kerala"})


def _row_of(told: Story, learner: Learner) -> tuple[str, str, str, str]:
    return ACTIVITY_TYPE, told.course.course_id, learner.user_id, context_id(told.course.batch_id)


@contextmanager
def _jobs(world: World, services: HttpServices, environment: str) -> Iterator[None]:
    """The jobs on the cluster, submitted at the same time with `flink run`, cancelled in the end."""
    settings = job_settings(services.base_url)
    console.print(f"Submitting {', '.join(settings)} with flink run")
    with ThreadPoolExecutor() as executor:
        submissions = [
            executor.submit(
                world.submit,
                f"jobs.{name}",
                environment={**urls, "AGGREGATES__KAFKA__ENV": environment},
                parallelism=1,
            )
            for name, urls in settings.items()
        ]
    jobs = [submission.result() for submission in submissions]
    try:
        for job in jobs:
            world.flink.client.wait_until_running(job, timeout_seconds=TIMEOUT_SECONDS)
        yield
    finally:
        for job in jobs:
            world.flink.client.cancel(job)


def _produce(world: World, topic: str, values: Iterable[bytes]) -> None:
    """Produces in order; all on one partition, because the order of a learner's events is a part of the story."""
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers, "log_level": 0})
    for value in values:
        producer.produce(topic, value, partition=0)
    if left := producer.flush(30):
        raise LocalWorldError(f"Kafka has not taken {left} events of {topic} within 30 s")


class Watched:
    """The topics that the jobs write, from now on."""

    def __init__(self, world: World, environment: str) -> None:
        """Notes where the topics of ``environment`` end."""
        self._environment = environment
        self._consumer = Consumer(
            {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": "demo", "log_level": 0}
        )
        self.messages: dict[str, list[Message]] = {topic: [] for topic in (REQUESTS, AUDITS, CERTIFICATES, *FAILED)}
        partitions = []
        for topic in self.messages:
            name = f"{self._environment}.{topic}"
            for number in self._consumer.list_topics(name, timeout=30).topics[name].partitions:
                _, end = self._consumer.get_watermark_offsets(TopicPartition(name, number), timeout=30)
                partitions.append(TopicPartition(name, number, end))
        self._consumer.assign(partitions)

    def wait_for(self, expected: Mapping[str, int], what: str) -> None:
        """Shows progress until each topic has at least so many messages.

        Raises LocalWorldError if nothing new comes for a long time.
        """
        started = last_news = time.monotonic()
        with Live(console=console, refresh_per_second=4) as live:
            while True:
                news = self._consumer.consume(1_000, timeout=POLL_SECONDS)
                for message in news:
                    self.messages[message.topic().removeprefix(f"{self._environment}.")].append(message)
                now = time.monotonic()
                live.update(self._progress(expected, what, now - started))
                if all(self._count(topic) >= count for topic, count in expected.items()):
                    break
                if news:
                    last_news = now
                elif now - last_news > TIMEOUT_SECONDS:
                    raise LocalWorldError(f"nothing new for {TIMEOUT_SECONDS:g} s: the jobs' logs are in .local/flink")
        if not console.is_terminal:
            console.line()  # rich leaves it out there

    def _progress(self, expected: Mapping[str, int], what: str, seconds: float) -> Table:
        table = Table("topic", "messages", "of", title=f"{what}, {seconds:.1f} s", title_justify="left")
        for topic, count in expected.items():
            table.add_row(f"{self._environment}.{topic}", str(self._count(topic)), str(count))
        return table

    def _count(self, topic: str) -> int:
        # A learner whose request waits while the next one is sent is decided about twice.
        return len(_certified(self.messages)) if topic == CERTIFICATES else len(self.messages[topic])


def _show(told: Story, tables: Tables, messages: Mapping[str, list[Message]]) -> list[str]:
    """Prints what is there now, and returns what is not as the story says."""
    certified = _certified(messages)
    problems: list[str] = []
    table = Table("learner", "agg (old)", "aggregates (new)", "merged", "completed", "certificate", title="Learners")
    for index, learner in enumerate(told.learners):
        row = _read(tables, told, learner)
        problems += _problems(told, learner, row, learner.user_id in certified)
        if index < told.named:
            merged = merge(row["agg"], row["aggregates"])
            table.add_row(
                f"{learner.name}\n[dim]{learner.about}",
                _scores(told, row["agg"]),
                _scores(told, row["aggregates"]),
                _scores(told, merged),
                f"{merged.get('completedCount', 0):g} of {len(told.course.contents)}",
                "[green]yes" if learner.user_id in certified else "no",
            )
    console.print(table)
    problems += _show_failed(told, messages)
    console.print(
        f"and {len(told.learners) - told.named} others; certificate requests {len(messages[REQUESTS])}, "
        f"AUDIT events {len(messages[AUDITS])}, learners with a certificate {len(certified)}"
    )
    return problems


def _show_readers(told: Story, readers: Readers, http_services_url: str) -> list[str]:
    """The best score of the first quiz through each API and in the report, of a new row and of an old one."""
    course, quiz = told.course, told.course.quizzes[0]
    report = progress_report(readers.world, http_services_url, course.batch_id)
    readers.wait_until_ready()
    problems: list[str] = []
    table = Table("learner", "content state", "assess read", "group aggregates", "progress report", title="Readers")
    for learner in told.learners[: told.named]:
        best = told.best_score(learner, quiz)
        seen = readers.best_scores(learner.user_id, course.course_id, course.batch_id, quiz, course.batch_id)
        cell = report.get(learner.user_id, {}).get(f"{quiz} - Score", "")
        table.add_row(f"{learner.name}\n[dim]{learner.about}", *(_text(score) for score in seen.values()), cell)
        # A content without completion has no state.
        expected = dict.fromkeys(seen, best) | ({} if quiz in learner.completed else {"content state": None})
        problems += [
            f"{learner.user_id}: {name} has {score}, not {expected[name]}"
            for name, score in seen.items()
            if score != expected[name]
        ]
        # Of 10: the report has percents, rounded up.
        if cell != f"{ceil(best * 10)}%":
            problems.append(f"{learner.user_id}: the progress report has {cell!r}, not {ceil(best * 10)}%")
    console.print(table)
    return problems


def _text(score: float | None) -> str:
    return "[dim]none" if score is None else f"{score:g}"


def _certified(messages: Mapping[str, list[Message]]) -> set[str]:
    """The learners for whom a certificate is to be generated."""
    return {msgspec.json.decode(message.value())["edata"]["userId"] for message in messages[CERTIFICATES]}


def _read(tables: Tables, told: Story, learner: Learner) -> dict[str, Any]:
    rows = tables.execute(
        "SELECT agg, aggregates, agg_details FROM user_activity_agg "
        "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
        *_row_of(told, learner),
    )
    enrolments = tables.execute(
        "SELECT status, progress FROM user_enrolments WHERE userid = ? AND courseid = ? AND batchid = ?",
        learner.user_id,
        told.course.course_id,
        told.course.batch_id,
    )
    empty = {"agg": None, "aggregates": None, "agg_details": None}
    return (rows[0] if rows else empty) | (enrolments[0] if enrolments else {})


def _problems(told: Story, learner: Learner, row: Mapping[str, Any], certified: bool) -> Iterator[str]:
    expected = {
        "agg": dict(learner.old_agg) or None,
        "aggregates": learner.expected_aggregates(told.course) or None,
        "progress": len(learner.completed) or None,
        "status": None if not learner.completed else 2 if learner.completed == set(told.course.contents) else 1,
    }
    for column, value in expected.items():
        if value is not None and (row[column] or None) != value:
            yield f"{learner.user_id}: {column} is {row[column]}, not {value}"
    details = sum(len(attempts) for attempts in learner.attempts.values())
    if len(row["agg_details"] or ()) != details:
        yield f"{learner.user_id}: agg_details has {len(row['agg_details'] or ())} attempts, not {details}"
    if certified != learner.gets_certificate:
        yield f"{learner.user_id}: certificate {certified}, not {learner.gets_certificate}"


def _scores(told: Story, aggregates: Mapping[str, float] | None) -> str:
    """`7.5/10` per quiz; maxima that the old job did not write are left out."""
    lines = []
    for number, quiz in enumerate(told.course.quizzes, 1):
        if aggregates and f"score:{quiz}" in aggregates:
            maximum = aggregates.get(f"max_score:{quiz}")
            lines.append(f"quiz {number}: {aggregates[f'score:{quiz}']:g}{f'/{maximum:g}' if maximum else ''}")
    return "\n".join(lines) or "[dim]none"


def _show_failed(told: Story, messages: Mapping[str, list[Message]]) -> list[str]:
    problems = []
    table = Table("topic", "Kafka key", "reason", title="Failed topics")
    for topic in FAILED:
        for message in messages[topic]:
            event = msgspec.json.decode(message.value())
            key = message.key().decode() if message.key() else ""
            table.add_row(topic, key, event["metadata"]["validation_error"])
        expected = told.failed.get(topic, 0)
        if len(messages[topic]) != expected:
            problems.append(f"{topic}: {len(messages[topic])} messages, not {expected}")
    console.print(table)
    return problems


if __name__ == "__main__":
    sys.exit(main())
