"""Who gets which certificate: one learner, any number of templates, every decision on its own."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from common.domain.aggregates import merge
from common.domain.events import Refused, Skip
from jobs.collection_cert_pre_processor import answers, rules
from jobs.collection_cert_pre_processor.events import CertificateRequest, decode, narrowed
from jobs.collection_cert_pre_processor.rules import Decisions, EnrolmentRow
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import parse

SETTINGS = Settings(
    topic="dev.generate.certificate.request",
    cert_domain_url="https://dev.sunbirded.org",
    cloud_storage_base_url="https://blob",
    content_cloud_storage_container="content",
)
REQUEST = CertificateRequest(("u-1",), "do_1", "b-1", False, 1_715_657_560_200)
COMPLETED_ON = datetime(2024, 5, 13, 20, 0, tzinfo=UTC)
ENROLMENT = EnrolmentRow(active=True, status=2, completed_on=COMPLETED_ON, issued_certificates=None)
USER = {"firstName": "Asha", "lastName": "Rao", "rootOrgId": "org-1"}

COMPLETED = {"enrollment": {"status": 2}}
AT_LEAST_75 = {"assessment": {"score": {">=": 75}}}


def template(criteria: object = COMPLETED, **fields: str) -> dict[str, str]:
    return {"name": "Course", "url": "https://c/t.svg", "criteria": json.dumps(criteria), **fields}


def decide(
    *templates: dict[str, str],
    request: CertificateRequest = REQUEST,
    enrolment: EnrolmentRow | None = ENROLMENT,
    aggregates: Mapping[str, float] | None = None,
    content_types: Mapping[str, str | Refused | None] | None = None,
    user: Mapping[str, Any] | Skip | Refused = USER,
    course_name: str | Refused = "Maths",
    settings: Settings = SETTINGS,
) -> Decisions:
    """What the job decides about u-1; the templates' keys are t-0, t-1, …; contents are of type SelfAssess."""
    scored = {key.split(":")[1]: "SelfAssess" for key in aggregates or {}}
    selected = rules.select(
        request,
        parse("b-1", {f"t-{number}": fields for number, fields in enumerate(templates)}),
        enrolment=enrolment,
        aggregates=aggregates or {},
        content_types={**scored, **(content_types or {})},
        settings=settings,
    )
    return rules.issue(request, "u-1", selected, user=user, course_name=course_name, settings=settings)


def edata(decisions: Decisions) -> dict[str, Any]:
    assert (decisions.skipped, decisions.failed) == ((), ())
    (message,) = decisions.messages
    found = json.loads(message.value)["edata"]
    assert isinstance(found, dict)
    return found


def kinds(decisions: Decisions) -> tuple[int, list[str], list[str]]:
    return len(decisions.messages), list(decisions.skipped), [fault.kind for fault in decisions.failed]


# What stops the Scala job today, and must work.


def test_completedon_unset() -> None:
    assert edata(decide(template(), enrolment=replace(ENROLMENT, completed_on=None)))["issuedDate"] == "2024-05-14"


def test_assessment_only_criteria() -> None:
    decisions = decide(template(AT_LEAST_75), enrolment=None, aggregates={"score:a": 7.5, "max_score:a": 10.0})
    assert edata(decisions)["issuedDate"] == "2024-05-14"


@pytest.mark.parametrize("kind", ["user", "users"])
def test_a_template_with_only_a_user_criterion(kind: str) -> None:
    criteria = {kind: {"rootOrgId": "org-1"}}
    assert edata(decide(template(criteria), enrolment=None))["orgId"] == "org-1"
    assert kinds(decide(template(criteria), user={**USER, "rootOrgId": "org-2"})) == (0, ["other_user"], [])


def test_a_plain_number_as_criterion() -> None:
    criteria = {"assessment": {"score": 75}}
    assert kinds(decide(template(criteria), aggregates={"score:a": 7.5, "max_score:a": 10.0})) == (1, [], [])
    assert kinds(decide(template(criteria), aggregates={"score:a": 7.6, "max_score:a": 10.0}))[0] == 0


@pytest.mark.parametrize(("name", "expected"), [("C:\\q\\", "C:\\q\\"), ("\\ud83d\\x", "\ufffd\\x"), ("a\\nb", "ab")])
def test_a_course_name_with_odd_escapes(name: str, expected: str) -> None:
    course_name = answers.cached_course_name(answers.ContentMetadata(name=name))
    assert course_name is not None
    assert edata(decide(template(), course_name=course_name))["courseName"] == expected


# What must go to the failed topic, alone.


@pytest.mark.parametrize("criteria", [{}, {"other": {}}, {"user": {}}, {"assessment": {}}, [], None])
def test_a_template_without_usable_criteria_fails_alone(criteria: object) -> None:
    decisions = decide(template(), template(criteria), template(name="Merit"))
    assert kinds(decisions) == (2, [], ["bad_template"])
    assert decisions.failed[0].reason.startswith("Invalid template for batch : b-1: template t-1: criteria ")


def test_a_user_who_cannot_be_read_fails_only_what_was_earned() -> None:
    missing = Refused("user_api", "user read API answered 404 for user u-1")
    decisions = decide(template(), template({"enrollment": {"status": 1}}), user=missing)
    assert (decisions.messages, decisions.skipped, decisions.failed) == ((), ("other_status",), (missing,))


def test_metadata_nowhere_with_suppression_off() -> None:
    strict = replace(SETTINGS, enable_suppress_exception=False)
    decisions = decide(
        template(AT_LEAST_75),
        template(),
        aggregates={"score:a": 9.0, "max_score:a": 10.0, "score:b": 10.0},
        content_types={"b": None},
        settings=strict,
    )
    assert kinds(decisions) == (1, [], ["no_metadata"])
    assert "content b" in decisions.failed[0].reason


def test_a_course_whose_name_cannot_be_had_fails_only_who_would_have_got_a_certificate() -> None:
    missing = Refused("content_api", "content read API does not know course do_1")
    decisions = decide(template(), template({"user": {"rootOrgId": "org-2"}}), course_name=missing)
    assert (decisions.messages, decisions.skipped, decisions.failed) == ((), ("other_user",), (missing,))


# The failed topic.


def test_one_refusal_for_all_faults_of_a_learner() -> None:
    faults = [Refused("bad_template", "one"), Refused("user_api", "two"), Refused("user_api", "two")]
    assert rules.refused("u-1", faults) == Refused("bad_template", "one; two", "u-1")


def test_of_several_learners_only_the_one_at_fault_is_to_be_replayed() -> None:
    value = (
        b'{"ets": 1, "edata": {"action": "issue-certificate", "batchId": "b-1", "courseId": "do_1", "reIssue": true,'
        b' "userIds": ["u-1", "u-2"]}}'
    )
    request = decode(value, 0)
    assert isinstance(request, CertificateRequest)
    assert decode(narrowed(value, "u-2"), 0) == replace(request, user_ids=("u-2",))


# Enrolment criteria.


def test_who_fulfils_them_gets_a_certificate_of_the_day_of_completion() -> None:
    assert edata(decide(template()))["issuedDate"] == "2024-05-13"


def test_columns_of_the_enrolment_are_sent_under_the_names_that_the_template_uses() -> None:
    wanted = template(additionalProps='{"enrollment": ["addedBy"]}')
    found = edata(decide(wanted, enrolment=replace(ENROLMENT, columns={"addedby": "u-9", "progress": 4})))
    assert found["related"]["enrollment"] == {"addedBy": "u-9"}


def test_a_template_that_wants_a_column_which_does_not_exist_fails_alone() -> None:
    wanted = template(additionalProps='{"enrollment": ["colour"]}')
    decisions = decide(template(), wanted, enrolment=replace(ENROLMENT, columns={"progress": 4}))
    assert kinds(decisions) == (1, [], ["bad_template"])
    assert decisions.failed[0].reason.startswith("Invalid template for batch : b-1: template t-1: ")


@pytest.mark.parametrize(
    ("enrolment", "skip"),
    [
        (None, "not_enrolled"),
        (replace(ENROLMENT, active=False), "not_active"),
        (EnrolmentRow(None, None, None, None), "not_active"),  # a phantom row of the content state update
        (replace(ENROLMENT, status=1), "other_status"),
        (replace(ENROLMENT, status=None), "other_status"),
        (replace(ENROLMENT, issued_certificates=[{"name": "COURSE", "identifier": "c-1"}]), "already_issued"),
    ],
)
def test_who_does_not_fulfil_the_enrolment_criteria_is_skipped(enrolment: EnrolmentRow | None, skip: str) -> None:
    assert kinds(decide(template(), enrolment=enrolment)) == (0, [skip], [])


def test_the_status_of_the_criteria_counts() -> None:
    assert kinds(decide(template({"enrollment": {"status": 1}}), enrolment=replace(ENROLMENT, status=1))) == (1, [], [])


@pytest.mark.parametrize("issued", [None, [], [{}], [{"name": "Merit", "identifier": "c-1"}]])
def test_certificates_of_other_names_do_not_matter(issued: list[dict[str, str]] | None) -> None:
    assert edata(decide(template(), enrolment=replace(ENROLMENT, issued_certificates=issued)))["oldId"] == ""


@pytest.mark.parametrize(
    ("issued", "old_id"),
    [
        ([{"name": "Merit", "identifier": "c-0"}, {"name": "course", "identifier": "c-1"}], "c-1"),
        ([{"name": "Course"}], ""),
        ([], ""),
    ],
)
def test_a_re_issue_replaces_the_certificate_of_the_same_name(issued: list[dict[str, str]], old_id: str) -> None:
    decisions = decide(
        template(), request=replace(REQUEST, re_issue=True), enrolment=replace(ENROLMENT, issued_certificates=issued)
    )
    assert edata(decisions)["oldId"] == old_id


# Assessment criteria.


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
    assert kinds(decide(template(AT_LEAST_75), aggregates={"score:a": score, "score:b": 1.0})) == (0, [], ["bad_score"])


def test_who_is_not_enrolled_is_skipped_before_any_score_is_looked_at() -> None:
    decisions = decide(template({**COMPLETED, **AT_LEAST_75}), enrolment=None, aggregates={"score:a": float("nan")})
    assert kinds(decisions) == (0, ["not_enrolled"], [])


# All criteria, several templates.


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
