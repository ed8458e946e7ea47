"""What criteria demand: operators, kinds and boundary values; which criteria are no criteria."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.aggregates import overall_best_score, percent
from common.domain.events import BadEvent
from jobs.collection_cert_pre_processor.criteria import Criteria, canonical, parse


def criteria(**document: Any) -> Criteria:
    return parse(json.dumps(document))


BELOW, AT, ABOVE = 74.99, 75.0, 75.01

# Operator: is a best score below, at and above the limit of 75 enough?
OPERATORS = {
    "EQ": (False, True, False),
    "eq": (False, True, False),
    "=": (False, True, False),
    "ne": (True, False, True),
    "!=": (True, False, True),
    ">": (False, False, True),
    ">=": (False, True, True),
    "<": (True, False, False),
    "<=": (True, True, False),
}
FORMS_OF_75 = [75, 75.0, "75", "75.0", "7.5e1"]


@pytest.mark.parametrize("limit", FORMS_OF_75, ids=repr)
@pytest.mark.parametrize(("operator", "expected"), OPERATORS.items())
def test_operators_at_their_boundary(operator: str, expected: tuple[bool, ...], limit: object) -> None:
    found = criteria(assessment={"score": {operator: limit}})
    assert tuple(found.met_by_score(score) for score in (BELOW, AT, ABOVE)) == expected


@pytest.mark.parametrize("limit", FORMS_OF_75, ids=repr)
def test_a_plain_number_is_equality(limit: object) -> None:
    found = criteria(assessment={"score": limit})
    assert [found.met_by_score(score) for score in (BELOW, AT, ABOVE)] == [False, True, False]


@pytest.mark.parametrize(
    ("limit", "score", "expected"),
    [(33.5, 33.5, True), (33.5, 33.49, False), (0, 0.0, True), (100, 100.0, True), (10**40, 1e9, False)],
)
def test_limits_are_not_rounded(limit: float, score: float, expected: bool) -> None:
    assert criteria(assessment={"score": {">=": limit}}).met_by_score(score) is expected


def test_of_several_operators_every_one_must_hold() -> None:
    found = criteria(assessment={"score": {">=": 50, "<": 75}})
    assert [found.met_by_score(score) for score in (49.9, 50.0, 74.9, 75.0)] == [False, True, True, False]


@pytest.mark.parametrize(("score", "earned"), [(7.5, True), (7.4, False)])
def test_fractions_decide_where_the_old_column_saw_a_seven_in_both(score: float, earned: bool) -> None:
    assert criteria(assessment={"score": {">=": 75}}).met_by_score(percent(score, 10.0)) is earned


SCORES = st.floats(0, 1000, allow_nan=False)


@given(
    operator=st.sampled_from([">", ">="]),
    limit=st.integers(0, 100) | st.floats(0, 100),
    scores=st.dictionaries(st.sampled_from("abc"), SCORES, min_size=1),
    better=st.dictionaries(st.sampled_from("abc"), SCORES),
    max_score=st.floats(0.5, 1000) | st.none(),
)
def test_a_higher_score_never_loses_a_certificate(
    operator: str,
    limit: float,
    scores: dict[str, float],
    better: dict[str, float],
    max_score: float | None,
) -> None:
    def is_met(totals: dict[str, float]) -> bool:
        best = overall_best_score({content: percent(total, max_score) for content, total in totals.items()})
        return criteria(assessment={"score": {operator: limit}}).met_by_score(best)

    higher = {content: max(scores.get(content, 0.0), better.get(content, 0.0)) for content in scores | better}
    assert is_met(higher) or not is_met(scores)


@pytest.mark.parametrize(
    ("enrollment", "status"),
    [
        ({}, 2),
        ({"status": None}, 2),
        ({"status": 2}, 2),
        ({"status": 2.0}, 2),
        ({"status": "2"}, 2),
        ({"status": 1}, 1),
        ({"progress": 100, "active": True}, 2),
        ({"status": 0, "unknown": [1]}, 0),
    ],
)
def test_the_enrolment_must_be_completed_unless_another_status_is_named(enrollment: object, status: int) -> None:
    assert criteria(enrollment=enrollment).enrolment_status == status


@pytest.mark.parametrize(
    ("demanded", "answer", "met"),
    [
        ("org-1", "org-1", True),
        ("org-1", "org-2", False),
        ("org-1", "ORG-1", False),
        (1, 1, True),
        (1, 1.0, True),
        (0.5, 0.50, True),
        (0.5, 0.25, False),
        (1, "1", False),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (False, True, False),
        (None, None, True),
        (None, "", False),
        (["a", 1], ["a", 1.0], True),
        (["a", "b"], ["b", "a"], False),
        ({"a": 1, "b": {"c": True}}, {"b": {"c": True}, "a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
    ],
)
@pytest.mark.parametrize("kind", ["user", "users"])
def test_a_user_criterion_is_met_by_the_same_json_value(kind: str, demanded: object, answer: object, met: bool) -> None:
    assert criteria(**{kind: {"field": demanded}}).met_by_user({"field": answer, "other": 1}) is met


def test_every_user_criterion_must_be_met_under_either_name() -> None:
    found = criteria(user={"rootOrgId": "org-1", "framework": "f"}, users={"country": "IN"})
    assert found.met_by_user({"rootOrgId": "org-1", "framework": "f", "country": "IN"})
    for missing in ("rootOrgId", "framework", "country"):
        answer = {"rootOrgId": "org-1", "framework": "f", "country": "IN", missing: "other"}
        assert not found.met_by_user(answer)


def test_a_field_that_the_user_lacks_is_null() -> None:
    assert criteria(user={"closed": None}).met_by_user({})
    assert not criteria(user={"closed": False}).met_by_user({})


def test_kinds_that_are_not_demanded_are_met_by_anybody() -> None:
    found = criteria(enrollment={"status": 2}, assessment={}, user={})
    assert found == Criteria(2, (), ())
    assert found.met_by_score(0.0)
    assert found.met_by_user({})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "1",
        '"enrollment"',
        "{}",
        '{"other": {"a": 1}}',
        '{"enrollment": null}',
        '{"enrollment": []}',
        '{"enrollment": 2}',
        '{"enrollment": {"status": true}}',
        '{"enrollment": {"status": [2]}}',
        '{"enrollment": {"status": "done"}}',
        '{"assessment": {}}',
        '{"user": {}, "users": null}',
        '{"user": "u-1"}',
        '{"user": ["u-1"]}',
        '{"assessment": {"other": 1}}',
        '{"assessment": {"score": null}}',
        '{"assessment": {"score": {}}}',
        '{"assessment": {"score": true}}',
        '{"assessment": {"score": [75]}}',
        '{"assessment": {"score": "high"}}',
        '{"assessment": {"score": ""}}',
        '{"assessment": {"score": "NaN"}}',
        '{"assessment": {"score": {"=>": 75}}}',
        '{"assessment": {"score": {">=": true}}}',
        '{"assessment": {"score": {">=": null}}}',
        '{"assessment": {"score": {">=": "high"}}}',
        '{"assessment": {"score": {">=": {"a": 1}}}}',
        '{"assessment": {"score": {">=": 1e999}}}',
        '{"enrollment": {"status": 2}, "assessment": {"score": {"about": 75}}}',
        '{"user": {"a": ' + "[" * 5000 + "]" * 5000 + "}}",
    ],
    ids=lambda text: text[:60],
)
def test_unusable_criteria_make_a_bad_template(text: str) -> None:
    with pytest.raises(BadEvent) as failure:
        parse(text)
    assert failure.value.kind == "bad_template"


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"enrollment": {"status": [2]}}, r"criterion enrollment\.status cannot be read: .+"),
        ({"enrollment": {"status": "done"}}, r"criterion enrollment\.status is not a number: 'done'"),
        ({"assessment": {"score": True}}, r"criterion assessment\.score cannot be read: .+"),
        ({"assessment": {"other": 1}}, r"criterion assessment\.score is missing"),
        ({"assessment": {"score": {"=>": 75}}}, r"criterion assessment\.score has the unknown operator '=>'"),
        ({"assessment": {"score": {">=": "high"}}}, r"criterion assessment\.score is not a number: 'high'"),
    ],
)
def test_the_reason_names_the_criterion_and_what_is_wrong_with_it(document: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadEvent, match=f"^{reason}$"):
        criteria(**document)


@pytest.mark.parametrize("answer", [b"[" * 5_000 + b"]" * 5_000, b"{", b'"\\ud83d"', b"1e999"])
def test_an_answer_that_cannot_be_read_is_refused(answer: bytes) -> None:
    with pytest.raises(BadEvent, match=r"^JSON value to be compared cannot be read: ") as caught:
        canonical(msgspec.Raw(answer))
    assert caught.value.kind == "wrong_type"
