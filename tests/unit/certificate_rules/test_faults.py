"""Odd templates and missing data: what still earns a certificate, and what goes to the failed topic."""

from dataclasses import replace

import pytest

from common.domain.events import Refused
from jobs.collection_cert_pre_processor import answers, rules
from jobs.collection_cert_pre_processor.events import CertificateRequest, decode, narrowed
from tests.support.certificate_rules import (
    AT_LEAST_75,
    ENROLMENT,
    SETTINGS,
    USER,
    decide,
    edata,
    kinds,
    template,
)

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
