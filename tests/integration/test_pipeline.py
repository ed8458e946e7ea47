"""The shape that all jobs have: what savepoints rely on, backpressure, order, and what the REST API of Flink shows."""

import asyncio
import base64
import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

import desk.flink
from common.domain.messages import repaired
from desk.flink import JobState
from jobs import JOBS
from local import jars
from local.config import REPOSITORY
from local.flink import FLINK_CONF, FlinkCluster
from local.world import World
from tests.support.assessment import FAILED, REQUESTS, Assessment, Learner
from tests.support.gated_job import FULL, MAX_BUFFERED_REQUESTS
from tests.support.job_topics import JobTopics
from tests.support.minicluster import MiniCluster
from tests.support.stage_job import INPUT as STAGE_INPUT
from tests.support.stage_job import OUTPUT as STAGE_OUTPUT
from tests.support.strategies import T0
from tests.support.tables import Tables
from tests.support.waiting import TIMEOUT_SECONDS, wait_until, wait_until_steady

MAX_BATCH_SIZE = 4

OPERATORS = [
    ["Source: events", "events"],
    ["apply", "apply"],
    ["messages: Writer", "messages"],
    ["messages: Committer", "Sink Committer: messages"],
]
"""Name and uid. A savepoint holds the state of an operator under its uid: with another one, a job that is started from
an older savepoint reads the input topic from the group's offsets and not the savepoint's, or does not start."""


def _run(module: str, *arguments: str, world: World, log_folder: Path) -> Any:
    """What `python -m` of a module that uses PyFlink with the connector prints last, from JSON."""
    jars.FLINK_CONNECTOR.ensure(world.java, print)
    environment = {
        **os.environ,
        # A job logs in before it is laid out.
        **world.job_environment(),
        "JAVA_HOME": str(world.java.home),
        "FLINK_CONF_DIR": str(FLINK_CONF),
        "FLINK_LOG_DIR": str(log_folder),
        # How PyFlink takes a connector where no `flink run` brings it.
        "FLINK_TESTING": "1",
        "FLINK_TEST_LIBS": str(jars.FLINK_CONNECTOR_JAR),
    }
    result = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_operators_have_the_names_and_uids_that_savepoints_hold(world: World, tmp_path: Path) -> None:
    modules = list(JOBS.values())
    graphs = _run("tests.support.stream_graph", *modules, world=world, log_folder=tmp_path)
    assert graphs == dict.fromkeys(modules, OPERATORS)


def test_a_bundle_that_ends_while_its_task_is_closed_does_not_end_the_task_manager(
    world: World, tmp_path: Path
) -> None:
    closed = _run("tests.support.bundle_factory", world=world, log_folder=tmp_path)
    assert closed == {"beam": "Reference count must not be negative.", "ours": None}


def test_a_valid_event_has_its_users_key_whatever_its_unused_fields_hold(world: World, tmp_path: Path) -> None:
    unused_fields = [
        b"9" * 1_001,
        b'{"%s": 1}' % (b"n" * 50_001),
        b'"%s"' % (b"t" * 20_000_001),
        b"[" * 900 + b"]" * 900,
        b"[%s]" % b",".join([b"1"] * 100_000),
    ]
    values = [
        b'{"edata": {"userIds": ["u-1", "u-2"], "batchId": "b"}, "unused": %s}' % unused for unused in unused_fields
    ]
    for value in values:
        msgspec.json.decode(value, type=dict[str, msgspec.Raw])
    given = tmp_path / "given.json"
    encoded = [base64.b64encode(value).decode() for value in values]
    given.write_text(json.dumps({"path": ["edata", "userIds"], "values": encoded}))
    assert _run("tests.support.user_keys", str(given), world=world, log_folder=tmp_path) == ["u-1"] * len(values)


def test_events_in_flight_are_bounded_and_each_users_are_applied_in_their_order(world: World, tmp_path: Path) -> None:
    users, per_user = 20, 150
    # So large that what does not fit into the stage does not fit into Flink's own buffers either.
    padding = "x" * 8_000
    events = [
        json.dumps({"userId": f"u-{user}", "number": number, "padding": padding}).encode()
        for number in range(per_user)
        for user in range(users)
    ]
    gate = tmp_path / "gate"
    with (
        closing(JobTopics(world, (STAGE_INPUT, STAGE_OUTPUT))) as topics,
        MiniCluster(
            world,
            topics,
            tmp_path / "flink",
            "tests.support.gated_job",
            str(gate),
            AGGREGATES__CONTENT_READ_API="http://127.0.0.1:9/nobody/",
        ) as cluster,
    ):
        topics.produce(STAGE_INPUT, events)

        wait_until((tmp_path / FULL).exists, "a subtask is full")
        # Flink shows new values every second; that it calls the task backpressured may take it many.
        read = wait_until_steady(
            lambda: cluster.client.metrics(cluster.job, "numRecordsOut").get("Source: events/numRecordsOut", 0.0),
            "the source is slowed down",
        )
        assert read < len(events)
        assert topics.inbox(STAGE_OUTPUT).all() == []
        gate.touch()
        messages = topics.inbox(STAGE_OUTPUT).wait_for(len(events))
    answers: list[dict[str, Any]] = [json.loads(message.value()) for message in messages]
    assert len(answers) == len(events)

    subtasks = {answer["subtask"] for answer in answers}
    assert len(subtasks) == 2
    # One full subtask holds back the source, and with it the other subtask.
    assert max(answer["in_flight"] for answer in answers) == MAX_BUFFERED_REQUESTS

    for user in range(users):
        answers_of_user = [answer for answer in answers if answer["user"] == f"u-{user}"]
        assert len({answer["subtask"] for answer in answers_of_user}) == 1
        answers_of_user.sort(key=lambda answer: answer["applied"])
        assert [answer["number"] for answer in answers_of_user] == list(range(per_user))


def test_messages_leave_while_an_event_of_their_bundle_is_in_flight(world: World, tmp_path: Path) -> None:
    def event_of(user: int) -> bytes:
        return b'{"userId": "%d"}' % user

    gate = tmp_path / "gate"
    with (
        closing(JobTopics(world, (STAGE_INPUT, STAGE_OUTPUT))) as topics,
        MiniCluster(
            world,
            topics,
            tmp_path / "flink",
            "tests.support.held_job",
            str(gate),
            AGGREGATES__CONTENT_READ_API="http://127.0.0.1:9/nobody/",
        ),
    ):
        output = topics.inbox(STAGE_OUTPUT)
        topics.produce(STAGE_INPUT, [event_of(0)])
        sent = 0

        def first_answers() -> list[Any]:
            nonlocal sent
            sent += 1
            # Without a further event the bundle would end, and wait for the one that is held.
            topics.produce(STAGE_INPUT, [event_of(sent)])
            return output.all()

        wait_until(lambda: first_answers() != [], "a message")
        assert b"0" not in [message.value() for message in output.all()]
        gate.touch()
        messages = output.wait_for(sent + 1)
    assert sorted(int(message.value()) for message in messages) == list(range(sent + 1))


def test_the_job_on_a_real_cluster_and_its_metrics(
    world: World, flink_cluster: FlinkCluster, tables: Tables, unique: str
) -> None:
    learners = [Learner.unique(f"{unique}-{number}") for number in range(10)]
    with world.redis.client(db=10) as relations:
        relations.sadd(f"{learners[0].course_id}:{learners[0].course_id}:leafnodes", "do_1")
    with closing(Assessment(world)) as topics:
        environment = {"AGGREGATES__KAFKA__ENV": topics.env, "AGGREGATES__BATCH__MAX_BATCH_SIZE": str(MAX_BATCH_SIZE)}
        job = world.submit("jobs.assessment_aggregator", environment=environment)
        client = flink_cluster.client
        client.wait_until_running(job)
        topics.send(
            *(learner.attempt("do_1", "a1", [(1.5, 2)], T0 + 1) for learner in learners),
            *(learner.attempt("do_1", "a1", [(9.5, 10)], T0) for learner in learners),
            learners[0].attempt("do_2", "a1", [(1, 2)]),
            b"{",
            {"userId": learners[1].user_id},
            None,
        )
        failed = topics.inbox(FAILED).wait_for(3)
        requests = topics.inbox(REQUESTS).wait_for(10)
        assert (len(failed), len(requests)) == (3, 10)
        assert {repaired(message.value()) for message in failed} >= {b"{"}
        for learner in learners:
            assert tables.aggregates(learner).aggregates["score:do_1"] == 1.5

        # In names of metrics Flink writes dots as underscores.
        failed_topic, request_topic = (topics.topic(name).replace(".", "_") for name in (FAILED, REQUESTS))
        expected = {
            "events_in": 23,
            "reason.content_not_in_course.failed": 1,
            "reason.not_json.failed": 1,
            "reason.missing_field.failed": 1,
            "effect.written.events_applied": 10,
            "reason.stale.skipped": 10,
            f"topic.{failed_topic}.messages_out": 3,
            f"topic.{request_topic}.messages_out": 10,
            "rows_written": 20,
            "cache.leaf_nodes.cache_misses": 10,
        }

        def shown(name: str) -> dict[str, float]:
            """The metrics of a name, without the names of vertex and operator."""
            return {full.partition("/apply.")[2]: value for full, value in client.metrics(job, name).items()}

        def all_shown() -> dict[str, float]:
            return {full: value for name in expected for full, value in shown(name.rpartition(".")[2]).items()}

        wait_until(lambda: all_shown() == expected, f"metrics are {expected}")
        batches = shown("batch_size_count")["batch_size_count"]
        assert shown("batch_size_sum") == {"batch_size_sum": 21}
        assert 21 / MAX_BATCH_SIZE <= batches <= 21
        assert shown("batch_latency_ms_count") == {"batch_latency_ms_count": batches}
        assert shown("batch_latency_ms_sum")["batch_latency_ms_sum"] > 0

        client.wait_until_running(job, checkpoints=1)
        state = asyncio.run(_as_the_desk_shows_it("assessment-aggregator", flink_cluster.web_url))
        assert (state.state, state.restarts, state.lag) == ("RUNNING", 0, 0)
        # Flink counts those that it has tried before all tasks were running.
        assert state.failed_checkpoints is not None
        assert state.batch_size == 21 / batches
        assert state.batch_latency_ms is not None
        assert state.batch_latency_ms > 0
        assert state.events_per_second is not None
        assert state.checkpoint_age_ms is not None
        assert state.uptime_ms is not None
        assert 0 <= state.checkpoint_age_ms < state.uptime_ms
        client.cancel(job)


async def _as_the_desk_shows_it(name: str, flink_url: str) -> JobState:
    client = desk.flink.FlinkClient(flink_url)
    try:
        (state,) = [state for state in await client.jobs() if state.name == name]
        return state
    finally:
        await client.close()
