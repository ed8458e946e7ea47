"""Configurations of the Scala jobs become those of the jobs here, and nothing of them gets lost without a reason."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.config.loader import load
from common.domain import topics
from jobs import config_class, import_config
from jobs.import_config import SCALA_TOPICS, ImportFailed, main, read_hocon

SCALA = Path(__file__).parent.parent / "support" / "scala_configuration"
"""The keys of the Scala jobs as Sunbird ships them, with the values of a made-up installation."""


def file_of(job: str) -> Path:
    return SCALA / f"{job.replace('_', '-')}.conf"


def imported(job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """The configuration that the job reads from what the command prints."""
    assert main([str(file_of(job))]) == 0
    file = tmp_path / "config.yaml"
    file.write_text(capsys.readouterr().out)
    return load(config_class(job), file, {})


def test_the_assessment_aggregators_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = imported("assessment_aggregator", tmp_path, capsys)
    assert config.kafka.bootstrap_servers == "10.1.0.4:9092,10.1.0.5:9092"
    assert config.kafka.topic(topics.ASSESS) == "prod.telemetry.assess"
    assert config.kafka.topic(topics.ASSESS_FAILED) == "prod.telemetry.assess.failed"
    assert config.group_id == "prod-assessment-aggregator-group"
    assert config.cassandra.contact_points == ("10.1.0.8", "10.1.0.9")
    assert (config.cassandra.port, config.cassandra.keyspace) == (9043, "prod_courses")
    assert (config.redis.host, config.redis.port) == ("10.1.0.7", 6380)
    assert (config.redis.relation_database, config.redis.content_database) == (11, 6)
    assert config.content_read_api == "https://sunbird.example.org/api/content/v1/read/"
    assert config.skip_missing_records is True


def test_the_activity_aggregate_updaters_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = imported("activity_aggregate_updater", tmp_path, capsys)
    # The topics have another environment than job.env, and one of them has a third one.
    assert config.kafka.topic(topics.BATCH_JOB_REQUEST) == "other.coursebatch.job.request"
    assert config.kafka.topic(topics.ISSUE_CERTIFICATE_REQUEST) == "other.issue.certificate.request"
    assert config.kafka.topic(topics.TELEMETRY_RAW) == "prod.telemetry.raw"
    assert config.group_id == "activity-updater"
    assert config.search_api == "http://search-service:9000/v3/search"
    assert config.search_cache.ttl_ms == 7_200_000
    assert config.module_aggs is False
    assert config.deduplication_seconds == 86_400


def test_the_certificate_pre_processors_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = imported("collection_cert_pre_processor", tmp_path, capsys)
    assert config.group_id == "collection-cert-pre-processor-group"
    assert config.learner_base_url == "http://learner-service:9000"
    assert config.content_base_url == "http://content-service:9000"
    assert config.supported_content_types == ("SelfAssess", "Exam")
    assert config.enable_suppress_exception is False
    assert config.cert_domain_url == "https://sunbird.example.org"
    assert config.cloud_storage_cname_url is None
    assert config.content_cloud_storage_container == "content"


@pytest.mark.parametrize("job", SCALA_TOPICS)
def test_every_key_is_taken_over_or_listed_with_a_reason(job: str) -> None:
    values = read_hocon(file_of(job))
    result = import_config.import_config(job, values)
    assert result.problems == []
    assert set(result.ignored) <= set(values)
    assert not [path for path, reason in result.ignored.items() if reason.startswith("unknown")]
    # Each key that is not listed changes the result when it is left out, or the environment gives the same name.
    for path in set(values) - set(result.ignored):
        without = import_config.import_config(job, {key: value for key, value in values.items() if key != path})
        named_by_env = values[path] in [f"{result.values['kafka.env']}{rest}" for rest in _names(job)]
        assert without.values != result.values or named_by_env or path == "job.env", path


def _names(job: str) -> list[str]:
    return [*(f".{topic}" for topic in topics.ALL), f"-{config_class(job).consumer_group}"]


def test_an_unknown_key_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    changed = with_line("assessment_aggregator", "brand.new.key = 1", tmp_path)
    assert main([str(changed)]) == 0
    assert "not taken over: brand.new.key: unknown" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("job", "line", "problem"),
    [
        ("assessment_aggregator", 'lms-cassandra.table = "attempts"', "only 'assessment_aggregator' is possible"),
        ("assessment_aggregator", 'lms-cassandra.port = "many"', "lms-cassandra.port is 'many', not a number"),
        ("assessment_aggregator", "redis.database.relationCache.id = -1", "redis.relation_database"),
        ("activity_aggregate_updater", "activity.input.dedup.enabled = false", "only True is possible"),
        ("collection_cert_pre_processor", "redis-meta.host = 10.1.0.99", "the jobs use one Redis server"),
        ("collection_cert_pre_processor", 'user_read_api = "/v5/user"', "only '/private/user/v1/read' is possible"),
    ],
)
def test_what_cannot_be_taken_over_is_a_problem(
    job: str, line: str, problem: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(with_line(job, line, tmp_path))]) == 1
    problems = [text for text in capsys.readouterr().err.splitlines() if text.startswith("problem: ")]
    assert any(problem in text for text in problems), problems


def test_a_missing_address_is_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "collection-cert-pre-processor.conf").write_text('kafka.broker-servers = "kafka:9092"')
    assert main([str(tmp_path / "collection-cert-pre-processor.conf")]) == 1
    error = capsys.readouterr().err
    assert all(key in error for key in ("kafka.env", "cassandra.contact_points", "redis.host", "cert_domain_url"))


def with_line(job: str, line: str, folder: Path) -> Path:
    """A copy of the job's file with one more line at its end, which wins over earlier ones."""
    shutil.copy(SCALA / "base-config.conf", folder)
    file = folder / file_of(job).name
    file.write_text(f"{file_of(job).read_text()}\n{line}\n")
    return file


def test_a_placeholder_is_named_with_its_line(tmp_path: Path) -> None:
    changed = with_line("assessment_aggregator", "a.id = {{ index | 10 }}", tmp_path)
    number = len(changed.read_text().splitlines())
    with pytest.raises(ImportFailed, match=rf":{number}: a.id = .* is a placeholder"):
        read_hocon(changed)


def test_a_missing_include_is_named(tmp_path: Path) -> None:
    shutil.copy(file_of("assessment_aggregator"), tmp_path)
    with pytest.raises(ImportFailed, match=r"includes base-config\.conf: copy it"):
        read_hocon(tmp_path / "assessment-aggregator.conf")


@pytest.mark.parametrize("text", ["a {", "a = ${not.there}", "= 1"])
def test_invalid_hocon_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "bad.conf").write_text(text)
    with pytest.raises(ImportFailed, match="is not valid HOCON"):
        read_hocon(tmp_path / "bad.conf")


def test_a_renamed_file_needs_the_jobs_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(SCALA / "base-config.conf", tmp_path)
    renamed = shutil.copy(file_of("assessment_aggregator"), tmp_path / "job.conf")
    with pytest.raises(SystemExit) as ended:
        main([str(renamed)])
    assert ended.value.code == 2
    assert "say which one with --job" in capsys.readouterr().err
    assert main([str(renamed), "--job", "assessment_aggregator"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["kafka"]["env"] == "prod"


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "assessment-aggregator.conf")])
    assert ended.value.code == 2
    assert "cannot be read" in capsys.readouterr().err
