"""Secrets come from variables and files of their own, and are never shown."""

import pickle
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import yaml

from common.config import loader
from common.config.loader import load, print_config, variable
from common.config.section import Section
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from tests.support.configuration import (
    PROGRAMS,
    SECRET,
    SECRETS,
    keys,
    load_with,
    name_of,
    problems,
    write,
)


class TestSecrets:
    @pytest.fixture
    def config(self) -> AssessmentAggregatorConfig:
        environ = {variable(location): SECRET for location in SECRETS}
        return load_with({**environ, "AGGREGATES__CASSANDRA__USERNAME": "jobs"})

    def test_are_these(self) -> None:
        assert [name_of(location) for location in SECRETS] == [
            "kafka.sasl_password",
            "kafka.tls.key_password",
            "cassandra.password",
            "cassandra.tls.key_password",
            "redis.password",
        ]

    @pytest.mark.parametrize("job", PROGRAMS)
    def test_have_a_key_for_a_file(self, job: type[Section]) -> None:
        secrets = [location for location, key in keys(job).items() if loader.is_secret(key)]
        assert {(*location[:-1], f"{location[-1]}_file") for location in secrets} <= keys(job).keys()

    def test_have_variables_whose_values_flink_hides_in_its_log(self) -> None:
        """`flink run` logs the environment of the program that submits a job, but for what looks like a secret."""
        assert all("password" in variable(location).lower() for location in SECRETS)

    def test_are_not_shown(self, config: AssessmentAggregatorConfig) -> None:
        printed = print_config(config)
        assert printed.count("'**********'") == 5
        assert all(SECRET not in text for text in (printed, repr(config), str(config), f"{config.redis}"))

    @pytest.mark.parametrize("pickler", [pickle, cloudpickle])
    def test_are_shipped_to_the_workers(self, config: AssessmentAggregatorConfig, pickler: Any) -> None:
        arrived = pickle.loads(pickler.dumps(config))
        assert arrived == config
        assert arrived.redis.password.get_secret_value() == SECRET

    @pytest.mark.parametrize("location", SECRETS, ids=name_of)
    def test_are_refused_in_the_file(self, tmp_path: Path, location: tuple[str, ...]) -> None:
        name = name_of(location)
        assert problems(write(tmp_path, {name: SECRET})) == [
            f"{name} = **********: secrets are not allowed in the file; set the variable {variable(location)}, "
            f"or name a file that holds the secret with {name}_file"
        ]

    @pytest.mark.parametrize("value", [SECRET, 4711, [SECRET], {"a": SECRET}, ""])
    def test_are_refused_in_the_file_whatever_they_look_like(self, tmp_path: Path, value: Any) -> None:
        (problem,) = problems(write(tmp_path, {"redis.password": value}))
        assert problem.startswith("redis.password = **********: secrets are not allowed in the file")

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_come_from_a_file_without_its_last_newline(self, tmp_path: Path, end: str) -> None:
        (tmp_path / "secret").write_bytes(f" {SECRET} {end}".encode())
        file = write(tmp_path, {"redis.password_file": str(tmp_path / "secret")})
        config = load(AssessmentAggregatorConfig, file, {})
        assert config.redis.password is not None
        assert config.redis.password.get_secret_value() == f" {SECRET} "

    def test_say_what_is_wrong_with_their_file(self, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("\n")
        (tmp_path / "binary").write_bytes(b"\xff")
        for name, said in [
            ("none", "cannot be read: No such file or directory"),
            ("empty", "the file is empty"),
            ("binary", "cannot be read: it is not UTF-8"),
            (".", "cannot be read: Is a directory"),
        ]:
            path = tmp_path / name
            assert problems(environ={"AGGREGATES__REDIS__PASSWORD_FILE": str(path)}) == [
                f"environment: AGGREGATES__REDIS__PASSWORD_FILE = '{path}': {said}"
            ]
        assert problems(write(tmp_path, {"redis.password_file": "/none"})) == [
            "redis.password_file = '/none': cannot be read: No such file or directory"
        ]

    def test_come_from_one_place(self, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text(SECRET)
        file = write(tmp_path, {"redis.password_file": str(tmp_path / "secret")})
        (problem,) = problems(file, {"AGGREGATES__REDIS__PASSWORD": SECRET})
        assert problem.endswith("only one of this and the variable AGGREGATES__REDIS__PASSWORD may be set")

    @pytest.mark.parametrize(
        "name", ["sasl.jaas.config", "ssl.key.password", "security.protocol", "bootstrap.servers", "group.id"]
    )
    def test_do_not_enter_through_the_properties(self, name: str) -> None:
        text = yaml.safe_dump({name: f"password={SECRET}"})
        for key in ("CONSUMER", "PRODUCER"):
            (problem,) = problems(environ={f"AGGREGATES__KAFKA__{key}_PROPERTIES": text})
            assert problem == (
                f"environment: AGGREGATES__KAFKA__{key}_PROPERTIES = '{name}': must not be set here: "
                "it has a key of its own in the section kafka"
            )

    @pytest.mark.parametrize("text", [f"{{sasl.jaas.config: '{SECRET}'", f"[{SECRET}]", SECRET])
    def test_are_not_shown_where_properties_are_no_map(self, text: str) -> None:
        (problem,) = problems(environ={"AGGREGATES__KAFKA__CONSUMER_PROPERTIES": text})
        assert problem == "environment: AGGREGATES__KAFKA__CONSUMER_PROPERTIES = **********: must be a map"

    def test_are_not_shown_where_a_url_holds_one(self) -> None:
        (problem,) = problems(environ={"AGGREGATES__CONTENT_READ_API": f"http://jobs:{SECRET}@content/"})
        name = "AGGREGATES__CONTENT_READ_API"
        assert problem == f"environment: {name} = **********: must be a URL without a user and a password"

    def test_are_not_shown_where_the_file_is_no_yaml(self, tmp_path: Path) -> None:
        assert SECRET not in "".join(problems(write(tmp_path, f"redis:\n  password: '{SECRET}\n")))
