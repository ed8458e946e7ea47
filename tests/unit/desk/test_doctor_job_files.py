"""A preflight looks at what the jobs' configuration files name."""

from pathlib import Path

import pytest
import yaml

from common.config.loader import ConfigError, load
from desk.cli import main
from desk.config import DeskConfig
from desk.doctor.job_files import desk_values, job_of
from jobs import import_config

SCALA = Path(__file__).parent.parent.parent / "support" / "scala_configuration"


def write(folder: Path, job: str, **values: object) -> Path:
    file = folder / f"{job.replace('_', '-')}.yaml"
    file.write_text(yaml.safe_dump(values))
    return file


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> list[Path]:
    """What `python -m jobs.import_config` prints for the Scala jobs."""
    files = []
    for job in import_config.SCALA_TOPICS:
        name = job.replace("_", "-")
        assert import_config.main([str(SCALA / f"{name}.conf")]) == 0
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(capsys.readouterr().out)
    return files


def test_the_imported_files_are_all_that_a_preflight_needs(imported: list[Path]) -> None:
    maps, differences = desk_values(imported)
    config = load(DeskConfig, None, {}, maps=maps)
    assert config.kafka.bootstrap_servers == "10.1.0.4:9092,10.1.0.5:9092"
    assert config.redis.relation_database == 11
    assert config.learner_base_url == "http://learner-service:9000"
    assert config.search_api == "http://search-service:9000/v3/search"
    assert config.kafka.group_id("assessment_aggregator") == "prod-assessment-aggregator-group"
    assert config.kafka.group_id("activity_aggregate_updater") == "activity-updater"
    assert config.kafka.group_id("collection_cert_pre_processor") == "collection-cert-pre-processor-group"
    assert (
        "kafka.env is prod in assessment-aggregator.yaml and other in activity-aggregate-updater.yaml: "
        "only the first one was looked at"
    ) in differences


def test_the_first_file_and_then_the_environment_count(tmp_path: Path, imported: list[Path]) -> None:
    first = write(tmp_path, "assessment_aggregator", redis={"host": "redis-1"})
    maps, differences = desk_values([first, *imported[1:]])
    assert load(DeskConfig, None, {}, maps=maps).redis.host == "redis-1"
    assert load(DeskConfig, None, {"AGGREGATES__REDIS__HOST": "redis-2"}, maps=maps).redis.host == "redis-2"
    assert [difference.partition(" in ")[0] for difference in differences if "redis.host" in difference] == [
        "redis.host is redis-1",
        "redis.host is redis-1",
    ]


def test_the_limits_of_the_jobs_calls_are_not_taken(tmp_path: Path) -> None:
    file = write(tmp_path, "assessment_aggregator", http={"call_timeout_ms": 77_777}, batch={"max_batch_size": 7})
    assert desk_values([file]) == ([({}, str(file))], [])


def test_a_wrong_value_is_reported_with_its_file(tmp_path: Path, imported: list[Path]) -> None:
    file = write(tmp_path, "assessment_aggregator", cassandra={"port": "many"})
    maps, _ = desk_values([file, *imported[1:]])
    with pytest.raises(ConfigError, match=r"assessment-aggregator\.yaml: cassandra\.port = 'many'"):
        load(DeskConfig, None, {}, maps=maps)


def test_a_file_is_named_after_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert job_of(Path("/etc/activity-aggregate-updater.yaml")) == "activity_aggregate_updater"
    with pytest.raises(SystemExit) as ended:
        main(["preflight", "--jobs", "aggregator.yaml"])
    assert ended.value.code == 2
    assert "aggregator.yaml is not named after a job: assessment_aggregator" in capsys.readouterr().err
