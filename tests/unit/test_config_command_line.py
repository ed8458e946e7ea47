"""What --config and --print-config do."""

from pathlib import Path

import pytest

from common.config.loader import ConfigError, load, parse_arguments
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from tests.support.configuration import (
    JOBS,
    load_with,
    write,
)
from tests.support.required_keys import REQUIRED


class TestCommandLine:
    def test_gives_the_configuration(self, tmp_path: Path) -> None:
        file = write(tmp_path, {"kafka.env": "file"})
        config = parse_arguments(AssessmentAggregatorConfig, ["--config", str(file)], {})
        assert config == load(AssessmentAggregatorConfig, file, {})
        assert parse_arguments(AssessmentAggregatorConfig, [], REQUIRED[JOBS[0]]) == load_with({})

    def test_prints_what_another_start_can_use(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse_arguments(
                AssessmentAggregatorConfig, ["--print-config"], REQUIRED[JOBS[0]] | {"AGGREGATES__KAFKA__ENV": "prod"}
            )
        assert ended.value.code in (None, 0)
        printed = capsys.readouterr().out
        assert load(AssessmentAggregatorConfig, write(tmp_path, printed), {}).kafka.env == "prod"

    def test_prints_what_another_start_can_use_beside_its_secrets(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        password = {"AGGREGATES__CASSANDRA__USERNAME": "a", "AGGREGATES__CASSANDRA__PASSWORD": "b"}
        with pytest.raises(SystemExit):
            parse_arguments(AssessmentAggregatorConfig, ["--print-config"], REQUIRED[JOBS[0]] | password)
        file = write(tmp_path, capsys.readouterr().out)
        assert load(AssessmentAggregatorConfig, file, password) == load_with(password)
        with pytest.raises(
            ConfigError,
            match=r"\*{10}: stands for a secret, which is not set; set the variable",
        ):
            load(AssessmentAggregatorConfig, file, {})

    def test_ends_with_the_problems(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parse_arguments(
                AssessmentAggregatorConfig, ["--print-config"], REQUIRED[JOBS[0]] | {"AGGREGATES__KAFKA__ENV": "a b"}
            )
        assert ended.value.code == 2
        assert capsys.readouterr() == (
            "",
            "environment: AGGREGATES__KAFKA__ENV = 'a b': must match pattern '^[a-zA-Z0-9._-]{1,100}$'\n",
        )

    def test_a_config_does_not_change(self) -> None:
        config = load_with({})
        with pytest.raises(ValueError, match="frozen"):
            config.kafka.env = "other"
