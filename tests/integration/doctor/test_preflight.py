"""A preflight on real servers, which have tables and topics, and on which no job has ever run."""

from contextlib import closing
from pathlib import Path

import yaml
from confluent_kafka import Consumer, Producer, TopicPartition

from common.config.section import PREFIX
from desk.doctor import preflight_topics
from jobs import JOBS
from local.http_services import CONTENT, SEARCH, USER, Switch, job_settings
from local.world import World
from tests.integration.doctor.conftest import Ward
from tests.support.desk_world import run_desk


async def test_each_area_is_looked_at_and_a_failure_is_exit_code_1(ward: Ward, world: World) -> None:
    variables = {
        **dict(variable for job in JOBS for variable in world.job_environment(JOBS[job]).items()),
        **ward.environment,
        "AGGREGATES__FLINK_URL": "http://127.0.0.1:9",
        "AGGREGATES__KAFKA__GROUP_IDS__COLLECTION_CERT_PRE_PROCESSOR": f"{ward.prefix}-configured",
        "AGGREGATES__KAFKA__DELIVERY": "exactly_once",
        "AGGREGATES__KAFKA__TRANSACTION_TIMEOUT_MS": "900001",
    }
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers})
    for topic in preflight_topics.INPUTS:
        producer.produce(f"{ward.prefix}.{topic}", b"{}")
    assert producer.flush(60) == 0
    ended = run_desk(variables, "preflight")
    assert ended.returncode == 1, ended.stderr
    lines = ended.stdout.splitlines()
    areas: dict[str, list[str]] = {}
    for line in lines:
        areas.setdefault(line[6:].partition(":")[0], []).append(line)
    assert list(areas) == ["Configuration", "Kafka", "Cassandra", "Clocks", "Redis", "APIs", "Flink"]
    assert all(
        line.startswith("OK ") for area in ("Configuration", "Cassandra", "Clocks", "APIs") for line in areas[area]
    ), lines
    assert f"OK    Kafka: topic {ward.prefix}.telemetry.assess, 2 partitions" in areas["Kafka"]
    without_offsets = {line.partition(": ")[2].split()[1]: line for line in areas["Kafka"] if "has no offsets" in line}
    assert len(without_offsets) == len(JOBS)
    certificates = without_offsets.pop(f"{ward.prefix}-configured")
    assert certificates.startswith("FAIL")
    assert "certificates would be issued again" in certificates
    assert all(line.startswith("WARN") for line in without_offsets.values())
    longest = "would not start: kafka.transaction_timeout_ms (900001) must not be more than transaction.max.timeout.ms"
    assert sum(longest in line and line.startswith("FAIL") for line in areas["Kafka"]) == len(JOBS)
    (flink,) = areas["Flink"]
    assert flink.startswith("FAIL  Flink: http://127.0.0.1:9")


async def test_old_requests_that_the_certificate_job_would_read_again_are_named(ward: Ward, world: World) -> None:
    topic, group = f"{ward.prefix}.issue.certificate.request", f"{ward.prefix}-group"
    producer = Producer({"bootstrap.servers": world.kafka.bootstrap_servers})
    producer.produce(topic, b"{}", partition=1)
    assert producer.flush(60) == 0
    environment = {**ward.environment, "AGGREGATES__KAFKA__GROUP_IDS__COLLECTION_CERT_PRE_PROCESSOR": group}
    settings = {"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": group}
    for offsets, what in (
        ({0: 0}, f"has no offsets of {topic}[1]: there the job would start at the earliest event"),
        ({0: 0, 1: 2}, f"has offsets behind the end of {topic}[1]"),
        ({0: 0, 1: 1}, "lag 0"),
    ):
        with closing(Consumer(settings)) as consumer:
            wanted = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
            consumer.commit(offsets=wanted, asynchronous=False)
        lines = run_desk(environment, "preflight").stdout.splitlines()
        (line,) = [line for line in lines if f"group {group}" in line]
        assert line.startswith("OK" if what == "lag 0" else "FAIL")
        assert what in line


async def test_topics_that_are_missing_are_named(ward: Ward) -> None:
    ended = run_desk({**ward.environment, "AGGREGATES__KAFKA__ENV": f"{ward.prefix}-none"}, "preflight")
    assert ended.returncode == 1
    assert f"FAIL  Kafka: the topic {ward.prefix}-none.batch.enrolment.sync.request does not exist" in ended.stdout


async def test_topics_that_are_missing_are_not_taken_for_empty_and_not_created(
    ward: Ward, world: World, tmp_path: Path
) -> None:
    findings = str(tmp_path / "findings.jsonl")
    environment = {**ward.environment, "AGGREGATES__KAFKA__ENV": f"{ward.prefix}-none"}
    for command in (("check", "--all", "--checks", "certificates", "--findings", findings), ("preflight",)):
        ended = run_desk(environment, *command)
        assert ended.returncode == 1
        assert f"topic {ward.prefix}-none.generate.certificate.request does not exist" in ended.stdout + ended.stderr
    assert not [name for name in world.kafka.admin().list_topics(timeout=30).topics if f"{ward.prefix}-none" in name]


async def test_the_configuration_files_of_the_jobs_are_enough(ward: Ward, world: World, tmp_path: Path) -> None:
    files = []
    for job, urls in job_settings(ward.services.base_url).items():
        values = {
            "kafka": {
                "bootstrap_servers": world.kafka.bootstrap_servers,
                "env": ward.prefix,
                "group_id": f"{job}-of-us",
            },
            "cassandra": {"contact_points": list(world.cassandra.contact_points), "port": world.cassandra.port},
            "redis": {"host": world.redis.host, "port": world.redis.port},
            **{name.removeprefix(PREFIX).lower(): url for name, url in urls.items()},
        }
        files.append(tmp_path / f"{job.replace('_', '-')}.yaml")
        files[-1].write_text(yaml.safe_dump(values))
    ended = run_desk({}, "preflight", "--jobs", *map(str, files))
    lines = ended.stdout.splitlines()
    for job in JOBS:
        assert f"OK    Configuration: {job} has all keys that it needs" in lines, ended.stderr
        # Nothing is on the topics, so nothing would be read again.
        assert f"OK    Kafka: group {job}-of-us, lag 0" in lines, lines
    assert f"OK    Kafka: topic {ward.prefix}.telemetry.assess, 2 partitions" in lines
    assert not [line for line in lines if line.startswith("FAIL")]


async def test_apis_that_refuse_are_named(ward: Ward) -> None:
    for route in (USER, CONTENT, SEARCH):
        ward.services.switch(route, Switch(status=403))
    try:
        ended = run_desk(ward.environment, "preflight")
    finally:
        for route in (USER, CONTENT, SEARCH):
            ward.services.switch(route, Switch())
    assert ended.returncode == 1
    for name in ("user read", "content read", "search"):
        assert f"FAIL  APIs: the {name} API answered 403" in ended.stdout
