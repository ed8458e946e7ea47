"""The shipped files, the file of the user's, and the names that follow from them."""

import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

import jobs
from common.config import loader
from common.config.loader import ConfigError, load, variable
from common.config.section import Section
from common.domain import topics
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from reports.config import ReportsConfig
from tests.support.configuration import (
    JOBS,
    PROGRAMS,
    REPOSITORY,
    keys,
    load_with,
    shipped,
    write,
)
from tests.support.required_keys import REQUIRED


class TestRequiredKeys:
    def test_of_every_program(self) -> None:
        """Addresses, URLs and containers: each value that a default could only guess."""
        required = {
            program: {variable(location) for location, field in keys(program).items() if field.is_required()}
            for program in REQUIRED
        }
        assert required == {program: set(variables) for program, variables in REQUIRED.items()}

    @pytest.mark.parametrize("program", REQUIRED)
    def test_stop_the_start_and_are_named_with_their_variables(self, program: type[Section]) -> None:
        with pytest.raises(ConfigError) as caught:
            load(program, environ={})
        assert sorted(caught.value.problems) == sorted(
            f"{name.removeprefix('AGGREGATES__').lower().replace('__', '.')} is missing; set the variable {name}, "
            "or the key in --config FILE"
            for name in REQUIRED[program]
        )

    def test_servers_alone_are_not_enough_for_certificates(self) -> None:
        """The job once started all the same, and put https://certificates.example.org into certificates."""
        servers = {
            "AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": "kafka-1:9092,kafka-2:9092",
            "AGGREGATES__KAFKA__ENV": "prod",
            "AGGREGATES__CASSANDRA__CONTACT_POINTS": "[10.0.0.1, 10.0.0.2]",
            "AGGREGATES__CASSANDRA__PORT": "9042",
            "AGGREGATES__REDIS__HOST": "redis",
            "AGGREGATES__REDIS__PORT": "6379",
        }
        with pytest.raises(ConfigError) as caught:
            load(CollectionCertPreProcessorConfig, environ=servers)
        assert [problem.partition(" ")[0] for problem in caught.value.problems] == [
            "learner_base_url",
            "content_base_url",
            "cloud_storage_base_url",
            "content_cloud_storage_container",
            "cert_domain_url",
        ]

    @pytest.mark.parametrize("program", REQUIRED)
    def test_are_in_the_table_of_the_documentation(self, program: type[Section]) -> None:
        table = (REPOSITORY / "docs" / "operating.md").read_text()
        assert [name for name in REQUIRED[program] if f"`{name}`" not in table] == []

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_no_value_that_is_shipped_is_an_address(self, program: type[Section]) -> None:
        shipped_values = str({key: value for key, value in shipped(program).items() if key != "server"})
        assert not re.search(r"://|127\.0\.0\.1|localhost|example|\.local", shipped_values)


class TestShippedFiles:
    @pytest.mark.parametrize("job", PROGRAMS)
    def test_have_every_key_but_secrets_and_required_ones(self, job: type[Section]) -> None:
        def keys_of(values: dict[str, Any], model: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
            found = []
            for key, value in values.items():
                field = model.model_fields.get(key)
                section = loader.section_of(field) if field else None
                # `{}`: a list elsewhere has the keys, and each is null.
                below = (value or dict.fromkeys(section.model_fields)) if section else {}
                found += keys_of(below, section, (*above, key)) if section else [(*above, key)]
            return found

        allowed = {
            location for location, key in keys(job).items() if not loader.is_secret(key) and not key.is_required()
        }
        assert sorted(keys_of(shipped(job), job)) == sorted(allowed)

    @pytest.mark.parametrize("job", PROGRAMS)
    def test_name_every_required_key_in_a_comment(self, job: type[Section]) -> None:
        folder = REPOSITORY / Path(*job.__module__.split(".")[:-1])
        files = [file for file in (folder.parent / "config.yaml", folder / "config.yaml") if file.exists()]
        text = "".join(file.read_text() for file in files)
        for location, field in keys(job).items():
            assert not field.is_required() or re.search(rf"(?m)^ *# {location[-1]}: ", text), location

    @pytest.mark.parametrize("job", PROGRAMS)
    def test_say_the_defaults_of_the_code(self, job: type[Section]) -> None:
        def compare(section: Section, values: dict[str, Any]) -> None:
            for key, value in values.items():
                found = getattr(section, key)
                if isinstance(found, Section):
                    compare(found, value)
                else:
                    assert type(section).model_fields[key].get_default(call_default_factory=True) == found, key

        compare(load(job, environ=REQUIRED[job]), shipped(job))

    def test_are_found_inside_a_zip_archive(self, tmp_path: Path) -> None:
        archive = tmp_path / "jobs.zip"
        with zipfile.ZipFile(archive, "w") as packed:
            for folder in ("common", "jobs"):
                for file in (REPOSITORY / folder).rglob("*"):
                    if file.suffix in (".py", ".yaml"):
                        packed.write(file, file.relative_to(REPOSITORY))
        program = (
            "import sys; sys.path.insert(0, sys.argv[1])\n"
            "from common.config.loader import load\n"
            "from jobs.assessment_aggregator import config\n"
            "assert sys.argv[1] in config.__file__\n"
            "loaded = load(config.AssessmentAggregatorConfig)\n"
            "print(loaded.kafka.sasl_mechanism, loaded.relation_cache.max_size_in_bytes)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(archive)],
            cwd=tmp_path,
            env=REQUIRED[AssessmentAggregatorConfig],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == ("SCRAM-SHA-512 33554432\n", "")


class TestLayers:
    def test_the_users_file_overrides_single_keys(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"kafka.tls.verify": "certificate", "relation_cache.ttl_ms": 7})
        config = load(AssessmentAggregatorConfig, file, {})
        assert (config.kafka.tls.verify, config.kafka.tls.ca_file) == ("certificate", None)
        assert (config.relation_cache.ttl_ms, config.relation_cache.max_size_in_bytes) == (7, 33_554_432)

    def test_lists_and_maps_are_replaced_whole(self, tmp_path: Path) -> None:
        file = tmp_path / "reports.yaml"
        file.write_text("progress_columns: {userid: User}\n")
        assert load(ReportsConfig, file, REQUIRED[ReportsConfig]).progress_columns == {"userid": "User"}

    def test_the_files_of_the_outer_packages_come_first(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for package, text in {
            "outer": "kafka: {env: outer, bootstrap_servers: a:1}",
            "outer/inner": "kafka: {env: inner}",
        }.items():
            (tmp_path / package).mkdir()
            (tmp_path / package / "__init__.py").touch()
            (tmp_path / package / "config.yaml").write_text(text)
        (tmp_path / "outer" / "inner" / "config.py").write_text(
            "from common.config.model import KafkaConfig\nfrom common.config.section import Section\n"
            "class Config(Section):\n    kafka: KafkaConfig\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        config = load(importlib.import_module("outer.inner.config").Config, environ={})
        assert (config.kafka.env, config.kafka.bootstrap_servers) == ("inner", "a:1")

    def test_a_problem_names_the_file_that_it_is_in(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        file = write(tmp_path, {"redis.port": "x"})
        environ = {"AGGREGATES__CASSANDRA__PORT": "0"}
        with pytest.raises(ConfigError) as caught:
            load(AssessmentAggregatorConfig, file, environ)
        assert caught.value.problems == (
            "environment: AGGREGATES__CASSANDRA__PORT = '0': must be greater than or equal to 1",
            f"{file}: redis.port = 'x': must be a valid integer",
        )


class TestNames:
    def test_group_is_that_of_the_environment(self) -> None:
        groups = [load(job, environ=REQUIRED[job] | {"AGGREGATES__KAFKA__ENV": "prod"}).group_id for job in JOBS]
        assert groups == [f"prod-{name.replace('_', '-')}-group" for name in jobs.JOBS]

    def test_group_can_be_chosen(self) -> None:
        assert load_with({"AGGREGATES__KAFKA__GROUP_ID": "mine"}).group_id == "mine"

    @pytest.mark.parametrize("topic", topics.ALL)
    def test_topics_begin_with_the_environment_unless_they_have_names_of_their_own(self, topic: str) -> None:
        assert load_with({}).kafka.topic(topic) == f"dev.{topic}"
        environ = {f"AGGREGATES__KAFKA__TOPICS__{topics.key(topic).upper()}": "their-name"}
        kafka = load_with(environ).kafka
        assert [kafka.topic(other) for other in topics.ALL if kafka.topic(other) != f"dev.{other}"] == ["their-name"]
