"""Criteria of several kinds, and batches with several templates."""

import json
from dataclasses import replace
from typing import Any

import pytest

from common.domain.events import Skip
from jobs.collection_cert_pre_processor import rules
from jobs.collection_cert_pre_processor.rules import Decisions
from jobs.collection_cert_pre_processor.templates import parse
from tests.support.certificate_rules import (
    AT_LEAST_75,
    COMPLETED,
    ENROLMENT,
    REQUEST,
    SETTINGS,
    USER,
    decide,
    kinds,
    template,
)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (1, [], [])),
        ({"enrolment": replace(ENROLMENT, status=1)}, (0, ["other_status"], [])),
        ({"aggregates": {"score:a": 7.4, "max_score:a": 10.0}}, (0, ["other_score"], [])),
        ({"user": {**USER, "rootOrgId": "org-2"}}, (0, ["other_user"], [])),
        ({"user": Skip("blocked_user")}, (0, ["blocked_user"], [])),
    ],
)
def test_every_kind_of_criteria_must_be_fulfilled(changes: dict[str, Any], expected: object) -> None:
    criteria = {**COMPLETED, **AT_LEAST_75, "user": {"rootOrgId": "org-1"}}
    given: dict[str, Any] = {"aggregates": {"score:a": 7.5, "max_score:a": 10.0}, **changes}
    assert kinds(decide(template(criteria), **given)) == expected


@pytest.mark.parametrize("templates", [(), (template(url="https://c/t.zip"),)])
def test_without_a_template_that_applies_there_is_nothing_to_decide(templates: tuple[dict[str, str], ...]) -> None:
    assert kinds(decide(*templates)) == (0, ["no_template"], [])


def test_every_template_is_decided_on_its_own() -> None:
    decisions = decide(
        template(name="Completion"),
        template({**COMPLETED, **AT_LEAST_75}, name="Merit"),
        template(AT_LEAST_75, name="Score"),
        template({"enrollment": {"status": 1}}, name="Start"),
        template("criteria", name="Bad"),
        aggregates={"score:a": 7.4, "max_score:a": 10.0},
    )
    assert kinds(decisions) == (1, ["other_score", "other_score", "other_status"], ["bad_template"])
    assert json.loads(decisions.messages[0].value)["edata"]["name"] == "Completion"


@pytest.mark.parametrize(
    ("templates_by_learner", "expected"),
    [
        ([template(), template("criteria")], "issued"),
        ([template("criteria"), template({"enrollment": {"status": 1}})], "failed"),
        ([template({"enrollment": {"status": 1}})], "not_earned"),
    ],
)
def test_the_effect_of_a_request_is_the_best_of_its_learners(
    templates_by_learner: list[dict[str, str]], expected: str
) -> None:
    assert rules.effect([decide(templates) for templates in templates_by_learner]) == expected


def test_nothing_has_to_be_fetched_for_who_has_earned_nothing() -> None:
    selected = rules.select(
        REQUEST,
        parse("b-1", {"t": template()}),
        enrolment=None,
        aggregates={},
        content_types={},
        settings=SETTINGS,
    )
    assert selected == Decisions(skipped=("not_enrolled",))
