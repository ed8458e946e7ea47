"""Servers that ask for passwords: the job works on them, a wrong one stops every start, none is ever written down."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AclOperation, ResourceType

from common.domain import topics
from desk.doctor import preflight_topics
from jobs import JOBS, config_class
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from local.config import REPOSITORY, load_config
from local.errors import LocalWorldError
from local.flink import FlinkCluster
from local.readers import desk_environment, report_environment, services_environment
from local.tokens import TokenIssuer
from tests.support.assessment import Assessment, Learner
from tests.support.certificates import make_certificate
from tests.support.secured_world import MARK, REDIS_PASSWORD, SecuredWorld
from tests.support.tables import Tables
from tests.support.waiting import TIMEOUT_SECONDS, wait_until

MODULE = "jobs.assessment_aggregator"
WRONG = f"wrong {MARK}"
PASSWORDS = {
    "Kafka": "AGGREGATES__KAFKA__SASL_PASSWORD",
    "Cassandra": "AGGREGATES__CASSANDRA__PASSWORD",
    "Redis": "AGGREGATES__REDIS__PASSWORD",
}

REASONS = {
    "Kafka": "invalid credentials with SASL mechanism SCRAM-SHA-512",
    "Cassandra": "Provided username aggregates and/or password are incorrect",
    "Redis": "invalid username-password pair",
}


@pytest.fixture(scope="module")
def world(running_flink_cluster: FlinkCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredWorld]:
    """Secured servers. Flink, which has no password of its own, is the session's."""
    config = load_config({}).isolated(tmp_path_factory.mktemp("secured"))
    with SecuredWorld(config, running_flink_cluster) as world:
        yield world


@dataclass
class RunningJob:
    id: str
    topics: Assessment


@pytest.fixture(scope="module")
def job(world: SecuredWorld) -> Iterator[RunningJob]:
    with closing(Assessment(world)) as assessment:
        # What docs/operating.md names.
        for name, operation in (
            (topics.ASSESS, AclOperation.READ),
            (topics.ISSUE_CERTIFICATE_REQUEST, AclOperation.WRITE),
            (topics.ASSESS_FAILED, AclOperation.WRITE),
        ):
            world.kafka.allow(ResourceType.TOPIC, assessment.topic(name), operation)
        group = f"{assessment.env}-{AssessmentAggregatorConfig.consumer_group}"
        world.kafka.allow(ResourceType.GROUP, group, AclOperation.READ)
        job = world.submit(MODULE, parallelism=1, environment={"AGGREGATES__KAFKA__ENV": assessment.env})
        yield RunningJob(job, assessment)
        world.flink.client.cancel(job)


def test_the_job_works_with_the_right_passwords_and_fails_as_long_as_one_is_changed(
    world: SecuredWorld, job: RunningJob, unique: str
) -> None:
    learner = Learner.unique(unique)
    client = world.flink.client
    client.wait_until_running(job.id)
    with world.redis.client() as admin:
        admin.config_set("requirepass", f"changed {MARK}")
        try:
            # PyFlink opens its functions with the first bundle.
            job.topics.send(learner.attempt("do_1", "a1", [(1.5, 2)]))
            wait_until(lambda: client.exceptions(job.id) != [], "the task has failed")
        finally:
            admin.config_set("requirepass", REDIS_PASSWORD)
    text = client.exceptions(job.id)[0]
    assert f"TaskFault: Redis 127.0.0.1:{world.redis.port}, database 10 refuses the connection: " in text
    assert REASONS["Redis"] in text
    assert job.topics.attempt_ids(learner, 1) == ["a1"]
    with world.cassandra.admin("sunbird_courses") as session:
        tables = Tables(session)
        (row,) = tables.attempts(learner)
        assert (row.attempt_id, row.total_score, row.total_max_score) == ("a1", 1.5, 2)
        assert tables.aggregates(learner).aggregates["score:do_1"] == 1.5


class TestAWrongPassword:
    @pytest.mark.parametrize(
        ("module", "server"),
        [
            (MODULE, "Kafka"),
            (MODULE, "Cassandra"),
            (MODULE, "Redis"),
            ("jobs.activity_aggregate_updater", "Redis"),
            ("jobs.collection_cert_pre_processor", "Redis"),
        ],
    )
    def test_stops_the_start_of_a_job(self, world: SecuredWorld, module: str, server: str) -> None:
        assert_told(run(module, **world.job_environment(module) | {PASSWORDS[server]: WRONG}), server)

    def test_stops_flink_run(self, world: SecuredWorld, job: RunningJob) -> None:
        jobs = world.flink.client.jobs()
        with pytest.raises(LocalWorldError) as caught:
            world.submit(MODULE, environment={PASSWORDS["Redis"]: WRONG})
        assert "\nAssessmentAggregator cannot start: Redis " in str(caught.value)
        assert MARK not in str(caught.value)
        assert world.flink.client.jobs() == jobs

    @pytest.mark.parametrize("server", PASSWORDS)
    def test_stops_the_start_of_the_services(self, world: SecuredWorld, tmp_path: Path, server: str) -> None:
        keys = services_environment(world, TokenIssuer(tmp_path), "http://127.0.0.1:9")
        assert_told(run("services", **keys | {PASSWORDS[server]: WRONG}), server)

    @pytest.mark.parametrize("server", ["Cassandra", "Redis"])
    def test_stops_a_report(self, world: SecuredWorld, tmp_path: Path, server: str) -> None:
        arguments = ("reports", "progress", "--batch", "b-1", "--out", str(tmp_path))
        assert_told(
            run(*arguments, **report_environment(world, "http://127.0.0.1:9") | {PASSWORDS[server]: WRONG}), server
        )

    def test_stops_a_replay(self, world: SecuredWorld) -> None:
        arguments = ("jobs.replay", "--job", "assessment_aggregator")
        assert_told(run(*arguments, **world.job_environment(MODULE) | {PASSWORDS["Kafka"]: WRONG}), "Kafka")

    def test_stops_the_change_of_the_schema(self, world: SecuredWorld) -> None:
        arguments = ("schema", "apply", "--contact-points", "127.0.0.1", "--port", str(world.cassandra.port))
        assert_told(run(*arguments, **world.job_environment() | {PASSWORDS["Cassandra"]: WRONG}), "Cassandra")


def test_a_preflight_names_the_permissions_that_are_missing(world: SecuredWorld) -> None:
    read, write, describe = AclOperation.READ, AclOperation.WRITE, AclOperation.DESCRIBE
    allowed = {name: [read, write] if name in preflight_topics.INPUTS else [write] for name in topics.ALL} | {
        topics.ASSESS: [describe],
        topics.ENROLMENT_SYNC_REQUEST: [read],
        topics.TELEMETRY_RAW: [describe],
        topics.ISSUE_CERTIFICATE_REQUEST: [read],
    }
    world.kafka.create_topics([f"some.{name}" for name in topics.ALL])
    for name, operations in allowed.items():
        for operation in (*operations, AclOperation.DESCRIBE_CONFIGS):
            world.kafka.allow(ResourceType.TOPIC, f"some.{name}", operation)
    for job_name in JOBS:
        world.kafka.allow(ResourceType.GROUP, f"some-{config_class(job_name).consumer_group}", read)
    environment = desk_environment(world, "http://127.0.0.1:9", environment="some")
    lines = run("desk", "preflight", **environment).stdout.splitlines()
    assert [line for line in lines if "may not" in line] == [
        f"FAIL  Kafka: topic some.{topics.ASSESS}: this user may not read it",
        only_the_desk_reads(topics.ASSESS_FAILED),
        f"WARN  Kafka: topic some.{topics.ENROLMENT_SYNC_REQUEST}: this user may not write it. The jobs need not, but "
        "repairs and replays must",
        only_the_desk_reads(topics.ACTIVITY_AGG_FAILED),
        f"FAIL  Kafka: topic some.{topics.TELEMETRY_RAW}: this user may not write it",
        f"FAIL  Kafka: topic some.{topics.ISSUE_CERTIFICATE_REQUEST}: this user may not write it",
        only_the_desk_reads(topics.ISSUE_CERTIFICATE_FAILED),
        only_the_desk_reads(topics.GENERATE_CERTIFICATE_REQUEST),
    ]
    assert any(line.startswith(f"OK    Kafka: topic some.{topics.BATCH_JOB_REQUEST}, ") for line in lines)


def only_the_desk_reads(topic: str) -> str:
    return f"WARN  Kafka: topic some.{topic}: this user may not read it. The jobs need not, but explain and check must"


def test_topics_and_groups_that_this_user_may_not_see_are_not_taken_for_empty(
    world: SecuredWorld, tmp_path: Path
) -> None:
    world.kafka.create_topics([f"hidden.{name}" for name in topics.ALL])
    environment = desk_environment(world, "http://127.0.0.1:9", environment="hidden")
    findings = str(tmp_path / "findings.jsonl")
    ended = run("desk", "check", "--all", "--checks", "certificates", "--findings", findings, **environment)
    assert ended.returncode == 1
    generator = f"may not describe the topic hidden.{topics.GENERATE_CERTIFICATE_REQUEST}"
    assert generator in ended.stderr
    lines = run("desk", "preflight", **environment).stdout.splitlines()
    for name in topics.ALL:
        what = f"this user may not describe the topic hidden.{name}, so nobody knows what it holds"
        assert f"FAIL  Kafka: {what}" in lines
    for job_name in JOBS:
        group = f"hidden-{config_class(job_name).consumer_group}"
        assert f"FAIL  Kafka: group {group}: this user may not see it, so its offsets were not looked at" in lines, (
            lines
        )


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """`python -m`, from the outside."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=REPOSITORY,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def assert_told(ended: "subprocess.CompletedProcess[str]", server: str) -> None:
    """In one line, which has the server and its reason in it and no password."""
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert server in line
    assert REASONS[server] in line
    assert MARK not in line


def test_a_certificate_of_an_unknown_authority_is_refused(world: SecuredWorld, tmp_path: Path) -> None:
    """A warning that a server may be down would be wrong: it will be the same for ever."""
    _, certificate = make_certificate()
    (tmp_path / "other.pem").write_bytes(certificate)
    other = {"AGGREGATES__KAFKA__TLS__CA_FILE": str(tmp_path / "other.pem")}
    ended = run(MODULE, **world.job_environment(MODULE) | other)
    assert ended.returncode == 1
    assert "cannot start: Kafka 127.0.0.1:" in ended.stderr
    assert "certificate verify failed" in ended.stderr


class TestNoPasswordIs:
    def test_in_any_log(self, world: SecuredWorld, job: RunningJob) -> None:
        """Of the servers, of Flink's processes, and of the program that submitted the job."""
        world.flink.client.wait_until_running(job.id)
        folders = (world.config.state_folder, world.flink_folder)
        logs = {file: file.read_text(errors="replace") for folder in folders for file in folder.rglob("*.log")}
        assert [file for file, text in logs.items() if MARK in text] == []
        # Where they would be.
        for folder, hidden in (
            ("client", "AGGREGATES__KAFKA__SASL_PASSWORD=******"),
            ("job-manager", "sasl.jaas.config = [hidden]"),
            ("task-manager-0", "sasl.jaas.config = [hidden]"),
        ):
            assert any(hidden in text for file, text in logs.items() if file.parent == world.flink_folder / folder), (
                folder
            )

    def test_in_what_flinks_api_shows(self, world: SecuredWorld, job: RunningJob) -> None:
        client = world.flink.client
        client.wait_until_running(job.id)
        paths = ["/config", "/jobmanager/config", "/jobmanager/environment", f"/jobs/{job.id}"]
        paths += [f"/jobs/{job.id}/{part}" for part in ("config", "plan", "exceptions", "accumulators", "checkpoints")]
        paths += [f"/jobs/{job.id}/checkpoints/config", f"/jobs/{job.id}/jobmanager/environment"]
        paths += [f"/jobs/{job.id}/vertices/{vertex.id}" for vertex in client.vertices(job.id)]
        paths += [f"/taskmanagers/{task_manager}" for task_manager in client.task_managers() or ()]
        answers = {path: json.dumps(client.get(path), ensure_ascii=False) for path in paths}
        assert [path for path, answer in answers.items() if MARK in answer] == []
        assert "user-config" in answers[f"/jobs/{job.id}/config"]

    @pytest.mark.parametrize(
        "module",
        [MODULE, "jobs.activity_aggregate_updater", "jobs.collection_cert_pre_processor", "services"],
    )
    def test_in_the_configuration_that_is_printed(self, world: SecuredWorld, tmp_path: Path, module: str) -> None:
        services_variables = services_environment(world, TokenIssuer(tmp_path), "http://127.0.0.1:9")
        environment = services_variables if module == "services" else world.job_environment(module)
        ended = run(module, "--print-config", **environment)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert ended.stdout.count("**********") == len(PASSWORDS)
        assert MARK not in ended.stdout
