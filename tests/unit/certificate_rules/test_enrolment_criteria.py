"""Criteria about the enrolment, and certificates that are issued again."""

from dataclasses import replace

import pytest

from jobs.collection_cert_pre_processor.rules import EnrolmentRow
from tests.support.certificate_rules import (
    ENROLMENT,
    REQUEST,
    decide,
    edata,
    kinds,
    template,
)


def test_who_fulfils_them_gets_a_certificate_of_the_day_of_completion() -> None:
    found = edata(decide(template()))
    assert (found["userId"], found["issuedDate"]) == ("u-1", "2024-05-13")


def test_columns_of_the_enrolment_are_sent_under_the_names_that_the_template_uses() -> None:
    wanted = template(additionalProps='{"enrollment": ["addedBy"]}')
    found = edata(decide(wanted, enrolment=replace(ENROLMENT, columns={"addedby": "u-9", "progress": 4})))
    assert found["related"]["enrollment"] == {"addedBy": "u-9"}


def test_a_template_that_wants_a_column_which_does_not_exist_fails_alone() -> None:
    wanted = template(additionalProps='{"enrollment": ["colour"]}')
    decisions = decide(template(), wanted, enrolment=replace(ENROLMENT, columns={"progress": 4}))
    assert kinds(decisions) == (1, [], ["bad_template"])
    assert decisions.failed[0].reason == (
        "Invalid template for batch : b-1: template t-1: additionalProps.enrollment has 'colour', which is no column"
    )


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
