"""The PromQL of rules and dashboard: read from their files, parsed, and taken apart into selectors."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

FOLDER = Path(__file__).parent
RULES, DASHBOARD = FOLDER / "rules.yaml", FOLDER / "dashboard.json"
RULES_TESTS = (FOLDER / "rules_test.yaml", FOLDER / "rules_noon_test.yaml")

# What Grafana puts in: a range that covers some scrapes, and the jobs that are chosen.
_VARIABLES = {"$__rate_interval": "1m", "$job": ".+"}
_PARTS = ("lhs", "rhs", "expr", "param", "vector_selector", "args")


def rule_groups() -> dict[str, Any]:
    """The content of a rule file: the spec of the PrometheusRule."""
    spec: dict[str, Any] = yaml.safe_load(RULES.read_text())["spec"]
    return spec


def rules() -> dict[str, str]:
    """The expression of each alarm and record, by its name."""
    return {
        rule.get("alert") or rule["record"]: rule["expr"]
        for group in rule_groups()["groups"]
        for rule in group["rules"]
    }


def panels(dashboard: Path = DASHBOARD) -> dict[str, list[str]]:
    """The expressions of each panel as Grafana would send them, by the panel's title."""
    found: dict[str, list[str]] = {}
    for panel in json.loads(dashboard.read_text())["panels"]:
        # A row that is open has no targets.
        for target in panel.get("targets", ()):
            found.setdefault(panel["title"], []).append(as_grafana_sends_it(target["expr"]))
    return found


def as_grafana_sends_it(expression: str) -> str:
    """The expression of a panel with Grafana's variables replaced."""
    for variable, value in _VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def selectors(expression: str) -> set[str]:
    """The vector selectors of an expression, without range and offset. Raises ValueError if it is not PromQL."""
    return {
        text.partition(" offset ")[0]
        for text in (node.prettify() for node in _vectors(promql_parser.parse(expression)))
    }


def _vectors(node: Any) -> Iterator[Any]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for part in _PARTS:
        below = getattr(node, part, None)
        for child in below if isinstance(below, list) else [below]:
            if child is not None:
                yield from _vectors(child)
