"""The alarms fire when they should, and rules and dashboard hold valid PromQL."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.job_lists import job_series
from deploy.prometheus import binaries, dashboard, expressions
from deploy.prometheus.expressions import DASHBOARD, RULES_TESTS, panels, rule_groups, rules, selectors
from jobs import JOBS
from local.config import REPOSITORY

JOBS_OF_TESTS = ["assessment-aggregator", "activity-aggregate-updater", "collection-cert-pre-processor"]


def promtool(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(binaries.find("promtool")), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The rules as a rule file, for the jobs that their tests know, and these tests."""
    groups = rule_groups()
    jobs, *_ = groups["groups"][0]["rules"]
    assert jobs["record"] == "learner_aggregates:job"
    jobs["expr"] = job_series(JOBS_OF_TESTS)
    (tmp_path / "rules.generated.yaml").write_text(yaml.safe_dump(groups))
    for file in RULES_TESTS:
        shutil.copy(file, tmp_path)
    return tmp_path


def test_the_rules_pass_their_unit_tests(folder: Path) -> None:
    checked = promtool(folder, "check", "rules", "rules.generated.yaml")
    assert checked.returncode == 0, checked.stdout
    tested = promtool(folder, "test", "rules", *(file.name for file in RULES_TESTS))
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("> 1000", "> 100000"),
        ("/ 1000 > 300", "/ 1000 > 30000"),
        ("[2m]", "[20m]"),
        ("[15m]) > 2", "[15m]) > 20"),
        ("== 0 and on (job_name)", "== 0 unless on (job_name)"),
        ("and on (job_name) learner_aggregates:job", ""),
        ("unless on (job_name) flink", "and on (job_name) flink"),
        ("0.05 *", "0.5 *"),
        ("offset 5m", "offset 5s"),
        ("hour() >= 6 < 12", "hour() >= 12 < 18"),
    ],
)
def test_the_unit_tests_notice_a_wrong_rule(folder: Path, right: str, wrong: str) -> None:
    file = folder / "rules.generated.yaml"
    groups = yaml.safe_load(file.read_text())
    changed = 0
    for group in groups["groups"]:
        for rule in group["rules"]:
            changed += right in rule["expr"]
            rule["expr"] = rule["expr"].replace(right, wrong)
    assert changed
    file.write_text(yaml.safe_dump(groups))
    assert any(promtool(folder, "test", "rules", file.name).returncode for file in RULES_TESTS)


def test_every_alarm_has_a_unit_test_and_a_line_in_the_documentation() -> None:
    alarms = {name for name in rules() if ":" not in name}
    tested = {
        test["alertname"]
        for file in RULES_TESTS
        for case in yaml.safe_load(file.read_text())["tests"]
        for test in case["alert_rule_test"]
        if test["exp_alerts"]
    }
    assert tested == alarms
    documented = re.findall(
        r"^\| `(LearnerAggregates\w+)`", (REPOSITORY / "docs/operating.md").read_text(), re.MULTILINE
    )
    assert sorted(documented) == sorted(alarms)


def test_the_rules_know_every_job_and_no_other() -> None:
    names = [name.replace("_", "-") for name in JOBS]
    assert rules()["learner_aggregates:job"] == f"{job_series(names)}\n"
    for matcher in re.findall(r'job_name=~"([^"]+)"', "\n".join(rules().values())):
        assert set(matcher.split("|")) <= set(names)


def test_every_panel_has_valid_promql() -> None:
    assert set(panels()) == {graph.title for graphs in dashboard.ROWS.values() for graph in graphs}
    for found in panels().values():
        for expression in found:
            assert selectors(expression)


def assert_promtool_passes(folder: Path, case: Mapping[str, Any]) -> None:
    (folder / "test.yaml").write_text(yaml.safe_dump({"tests": [case]}))
    tested = promtool(folder, "test", "rules", "test.yaml")
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize(
    ("title", "metric", "label"),
    [
        ("Events on the failed topic", "reason_failed", "reason"),
        ("Events skipped", "reason_skipped", "reason"),
        ("Calls of APIs", "api_api_calls", "api"),
        ("Failed calls of APIs", "api_api_failures", "api"),
    ],
)
def test_a_panel_shows_the_first_event_of_a_kind(title: str, metric: str, label: str, tmp_path: Path) -> None:
    (expression,) = panels()[title]
    labels = f'{label}="x", job_name="j"'
    case = {
        "interval": "15s",
        "input_series": [
            {
                "series": f'flink_taskmanager_job_task_operator_{metric}{{operator_name="apply", {labels}}}',
                # The series begins with its first event, after a minute; the second one comes ten minutes later.
                "values": "_x4 1x39 2x40",
            }
        ],
        "promql_expr_test": [
            {
                "expr": f"round({expression})",
                "eval_time": time,
                "exp_samples": [{"labels": f"{{{labels}}}", "value": value}],
            }
            for time, value in (("2m", 1), ("8m", 0), ("12m", 1), ("18m", 0))
        ],
    }
    assert_promtool_passes(tmp_path, case)


@pytest.mark.parametrize(
    ("title", "metric"), [("Time of a batch", "batch_latency_ms"), ("Events in a batch", "batch_size")]
)
def test_an_average_is_missing_where_nothing_was_counted(title: str, metric: str, tmp_path: Path) -> None:
    (expression,) = panels()[title]

    def series(part: str, values: str) -> dict[str, str]:
        name = f"flink_taskmanager_job_task_operator_{metric}_{part}"
        return {"series": f'{name}{{operator_name="apply", job_name="j"}}', "values": values}

    case = {
        "interval": "15s",
        # The sum of the last batch is scraped before its count.
        "input_series": [series("sum", "0+60x19 1140x1 1200x40"), series("count", "0+2x19 38x41")],
        "promql_expr_test": [
            {"expr": expression, "eval_time": "3m", "exp_samples": [{"labels": '{job_name="j"}', "value": 30}]},
            {"expr": expression, "eval_time": "6m", "exp_samples": []},
        ],
    }
    assert_promtool_passes(tmp_path, case)


def test_an_invalid_expression_is_refused() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        selectors("sum by (job_name (rate(a[5m]))")


def test_selectors_are_found_below_functions_and_operators() -> None:
    found = selectors(
        'sum(rate(a{x="1"}[5m])) / on () group_left () (b unless b offset 5m) > 3 or max_over_time(c[5m:1m])'
    )
    assert found == {'a{x="1"}', "b", "c"}


def test_grafanas_variables_are_replaced() -> None:
    # $1 is a group of label_replace().
    assert not [text for found in panels().values() for text in found if re.search(r"\$[^1]", text)]
    assert "$job" in DASHBOARD.read_text()
    assert "$__rate_interval" in DASHBOARD.read_text()
    assert expressions.DASHBOARD == DASHBOARD
