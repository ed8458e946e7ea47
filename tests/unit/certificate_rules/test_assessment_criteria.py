"""Criteria about the best score."""

from dataclasses import replace

import pytest

from common.domain.aggregates import merge
from common.domain.events import Refused
from tests.support.certificate_rules import (
    AT_LEAST_75,
    COMPLETED,
    SETTINGS,
    decide,
    edata,
    kinds,
    template,
)


def test_the_best_of_all_supported_contents_counts() -> None:
    aggregates = {
        "score:a": 3.0,
        "max_score:a": 10.0,
        "score:b": 8.0,
        "max_score:b": 10.0,
        "score:c": 10.0,
        "max_score:c": 10.0,
    }
    limit = {"assessment": {"score": {">": 80}}}
    at_limit = {"assessment": {"score": {"=": 80}}}
    types = {"c": "Resource"}
    assert kinds(decide(template(limit), aggregates=aggregates, content_types=types)) == (0, ["other_score"], [])
    assert kinds(decide(template(at_limit), aggregates=aggregates, content_types=types)) == (1, [], [])
    settings = replace(SETTINGS, supported_content_types=frozenset({"SelfAssess", "Resource"}))
    decisions = decide(template(limit), aggregates=aggregates, content_types=types, settings=settings)
    assert kinds(decisions) == (1, [], [])


def test_percents_of_the_supported_contents_are_sent() -> None:
    wanted = template({"assessment": {"score": {">": 0}}}, additionalProps='{"assessment": ["score"]}')
    aggregates = {"score:a": 7.5, "max_score:a": 10.0, "score:b": 1.0, "max_score:b": 4.0, "score:c": 1.0}
    found = edata(decide(wanted, aggregates=aggregates, content_types={"c": "Resource"}))
    assert found["related"]["assessment"] == {"score": {"a": 75.0, "b": 25.0}}


@pytest.mark.parametrize(("agg", "score", "earned"), [(None, 7.5, 1), (None, 7.4, 0), (7, 7.5, 1), (9, 7.4, 0)])
def test_fractions_decide_and_the_new_column_wins_even_when_lower(agg: int | None, score: float, earned: int) -> None:
    old = {} if agg is None else {"score:a": agg, "max_score:a": 10}
    aggregates = merge(old, {"score:a": score, "max_score:a": 10.0})
    assert len(decide(template(AT_LEAST_75), aggregates=aggregates).messages) == earned


def test_a_row_of_the_old_column_alone_counts() -> None:
    assert len(decide(template(AT_LEAST_75), aggregates=merge({"score:a": 8, "max_score:a": 10}, None)).messages) == 1


def test_score_and_max_score_may_come_from_different_columns() -> None:
    aggregates = merge({"max_score:a": 10}, {"score:a": 7.5})
    assert len(decide(template(AT_LEAST_75), aggregates=aggregates).messages) == 1


@pytest.mark.parametrize("aggregates", [{"score:a": 0.75}, {"score:a": 0.75, "max_score:a": 0.0}])
def test_a_missing_or_zero_maximum_is_one(aggregates: dict[str, float]) -> None:
    criteria = {"assessment": {"score": 75}}
    assert len(decide(template(criteria), aggregates=aggregates).messages) == 1


@pytest.mark.parametrize("aggregates", [{}, {"completedCount:x": 3.0, "max_score:a": 90.0, "attempts_count:a": 1.0}])
def test_without_a_score_the_best_is_zero(aggregates: dict[str, float]) -> None:
    assert kinds(decide(template(AT_LEAST_75), aggregates=aggregates)) == (0, ["other_score"], [])
    assert kinds(decide(template({"assessment": {"score": {"<=": 0}}}), aggregates=aggregates)) == (1, [], [])


@pytest.mark.parametrize("content_type", [None, "", "Resource", "selfassess"])
def test_contents_without_metadata_or_of_another_type_are_ignored(content_type: str | None) -> None:
    decisions = decide(
        template(AT_LEAST_75), aggregates={"score:a": 10.0, "max_score:a": 10.0}, content_types={"a": content_type}
    )
    assert kinds(decisions) == (0, ["other_score"], [])


def test_a_type_that_could_not_be_found_out_is_a_fault_even_with_suppression() -> None:
    refused = Refused("content_api", "content read API answered 403 for a")
    decisions = decide(template(AT_LEAST_75), template(), aggregates={"score:a": 10.0}, content_types={"a": refused})
    assert (len(decisions.messages), decisions.failed) == (1, (refused,))


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_a_fault(score: float) -> None:
    decisions = decide(template(AT_LEAST_75), aggregates={"score:a": score, "score:b": 1.0})
    reason = f"aggregates hold a score of content a that is no number: {score}"
    assert (decisions.messages, decisions.failed) == ((), (Refused("bad_score", reason),))


def test_who_is_not_enrolled_is_skipped_before_any_score_is_looked_at() -> None:
    decisions = decide(template({**COMPLETED, **AT_LEAST_75}), enrolment=None, aggregates={"score:a": float("nan")})
    assert kinds(decisions) == (0, ["not_enrolled"], [])
