"""The doctor finds each kind of planted fault, and nothing else."""

import json
import random
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, Skip, to_time_ms
from desk.config import DeskConfig
from desk.doctor.certificate_checks import may_need_user
from desk.doctor.chart import UnitRow
from desk.doctor.charts import doctor_settings
from desk.doctor.checks import examine
from desk.doctor.findings import Check, Finding
from desk.explanation.requests import REQUEST_PATIENCE_MS
from desk.explanation.settings import JobSettings, job_settings
from desk.records import Batch
from desk.remedies import Remedy
from jobs.activity_aggregate_updater.rules import Settings as ProgressSettings
from jobs.assessment_aggregator import rules
from jobs.collection_cert_pre_processor.templates import parse
from tests.support import patients
from tests.support.activity_model import T0
from tests.support.patients import (
    CERTIFICATE,
    CERTIFIED,
    FAULTS,
    PLAIN,
    AttemptRow,
    Fault,
    Patient,
    course_of,
    healthy,
    sick,
)

COURSE = course_of("c")
SETTINGS = replace(
    job_settings(["SelfAssess"], enable_suppress_exception=True),
    progress=ProgressSettings(audit_topic="", certificate_topic="", module_aggs=True),
)


# A seed cannot be shrunk, and a learner takes 10 ms.
few = settings(max_examples=12, phases=[Phase.generate])
seeds = st.integers(0, 2**32)


def found(patient: Patient, job_settings: JobSettings = SETTINGS) -> list[Finding]:
    return examine(patient.chart(), list(Check), job_settings)


@given(seeds, st.sampled_from([PLAIN, CERTIFIED]))
def test_healthy_learners_have_no_findings(seed: int, batch_id: str) -> None:
    assert found(healthy(random.Random(seed), EnrolmentKey("asha", COURSE.course_id, batch_id), COURSE)) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@few
@given(seed=seeds)
def test_a_planted_fault_is_found_and_nothing_else(fault: Fault, seed: int) -> None:
    patient = sick(random.Random(seed), fault, COURSE, "asha")
    assert {(finding.check, finding.kind) for finding in found(patient)} == patient.expected


def test_each_kind_of_check_has_a_fault() -> None:
    source = random.Random(1)
    planted = {check for fault in FAULTS for check, _ in sick(source, fault, COURSE, "asha").expected}
    assert planted == set(Check)


def test_only_the_checks_that_were_asked_for() -> None:
    patient = sick(random.Random(1), patients.detail_doubled, COURSE, "asha")
    assert examine(patient.chart(), [Check.SCORES], SETTINGS) == []


REPORTED_ONLY = {
    "score_without_attempt",
    "attempts_missing",
    "detail_without_attempt",
    "question_doubled",
    "question_missing",
    "progress_too_high",
    "completed_count_too_high",
    "no_longer_complete",
    "certificate_not_earned",
    "newly_passes",
    "no_longer_passes",
    "phantom",
    "time_out_of_range",
}
"""No event that the jobs understand puts these right."""


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_finding_has_a_remedy_unless_it_is_only_reported(fault: Fault) -> None:
    remedies = {
        Check.SCORES: Remedy.RECOMPUTE,
        Check.DETAILS: Remedy.RECOMPUTE,
        Check.PROGRESS: Remedy.SYNC,
        Check.CERTIFICATES: Remedy.CERTIFICATE,
    }
    source = random.Random(2)
    for _ in range(5):
        patient = sick(source, fault, COURSE, "asha")
        for finding in found(patient):
            is_archived = finding.check in (Check.SCORES, Check.DETAILS) and not patient.attempts
            expected = None if finding.kind in REPORTED_ONLY or is_archived else remedies[finding.check]
            assert finding.remedy == expected


def test_scores_whose_attempts_are_gone_are_only_reported() -> None:
    """A recompute would remove them, and the attempts may have been archived."""
    patient = Patient(EnrolmentKey("asha", COURSE.course_id, PLAIN), COURSE, {"active": True, "status": 0})
    patient.of_course["score:Q1"] = 7.5
    (finding,) = found(patient)
    assert (finding.kind, finding.remedy) == ("score_without_attempt", None)


@pytest.mark.parametrize("fault", [patients.score_differs, patients.score_missing, patients.detail_missing])
def test_no_recompute_puts_right_one_score_and_removes_another(fault: Fault) -> None:
    """The attempts at one quiz were archived before the learner attempted the other one."""
    patient = sick(random.Random(3), fault, COURSE, "asha")
    patient.of_course["score:gone"] = 7.5
    findings = found(patient)
    assert {(finding.check, finding.kind) for finding in findings} == {
        *patient.expected,
        (Check.SCORES, "score_without_attempt"),
    }
    assert [finding.remedy for finding in findings if finding.check in (Check.SCORES, Check.DETAILS)] == [None] * 2


@pytest.mark.parametrize("trace", ["score", "attempts_count", "agg", "agg_details"])
def test_no_recompute_lowers_what_comes_from_an_archived_attempt(trace: str) -> None:
    """Some attempts at a quiz were archived, and others are stored. Something else of the learner is wrong, too."""
    patient = sick(random.Random(3), patients.score_missing, COURSE, "asha")
    quiz, kind = next(iter(patient.attempts))[0], (Check.SCORES, "attempts_missing")
    match trace:
        case "agg":
            patient.of_course.pop(f"score:{quiz}", None)
            patient.agg[COURSE.course_id] = {f"score:{quiz}": 99}
        case "agg_details":
            detail = {**json.loads(patient.details[0]), "attempt_id": "archived"}
            patient.details.append(json.dumps(detail))
            kind = (Check.DETAILS, "detail_without_attempt")
        case _:
            patient.of_course[f"{trace}:{quiz}"] = 99.0
    findings = [finding for finding in found(patient) if finding.check in (Check.SCORES, Check.DETAILS)]
    assert kind in {(finding.check, finding.kind) for finding in findings}
    assert {finding.remedy for finding in findings} == {None}


def test_the_cut_score_is_compared_with_the_score_that_counts_where_attempts_were_archived() -> None:
    """Not with that of the attempts that are left: nobody loses a certificate by the exact score."""
    patient = Patient(EnrolmentKey("asha", COURSE.course_id, CERTIFIED), COURSE)
    patient.attempts["Q1", "left"] = AttemptRow(2.0, T0, [("q0", 2.0)], T0)
    patient.agg[COURSE.course_id] = {"score:Q1": 9, "max_score:Q1": 10}
    assert examine(patient.chart(), [Check.CUT], SETTINGS) == []
    patient.agg[COURSE.course_id] = {"score:Q1": 2, "max_score:Q1": 10}
    assert examine(patient.chart(), [Check.CUT], SETTINGS) == []


def test_a_recompute_names_a_content_of_the_course() -> None:
    """Rule A2 would send it to the failed topic otherwise."""
    patient = sick(random.Random(3), patients.score_differs, COURSE, "asha")
    assert all(finding.content_id in patients.CONTENTS for finding in found(patient))


@pytest.mark.parametrize("is_archived", [False, True], ids=["attempted", "archived"])
def test_a_recompute_in_a_course_without_leaf_nodes_names_an_attempted_content_or_the_course(is_archived: bool) -> None:
    """Rule A2 accepts every content of such a course."""
    patient = sick(random.Random(3), patients.score_differs, COURSE, "asha")
    attempted = {quiz for quiz, _ in patient.attempts}
    chart = (replace(patient, attempts={}) if is_archived else patient).chart()
    course = replace(chart.record.course, leaf_nodes=None)
    findings = examine(replace(chart, record=replace(chart.record, course=course)), [Check.SCORES], SETTINGS)
    assert findings
    assert {finding.content_id for finding in findings} <= ({COURSE.course_id} if is_archived else attempted)


def test_a_course_without_leaf_nodes_is_reported_for_who_has_contents_in_it() -> None:
    reason = Refused("course_without_leaf_nodes", "the relation cache has no leaf nodes of course c-course")
    patient = sick(random.Random(4), patients.completed_count_too_low, COURSE, "asha")
    chart = replace(patient.chart(), relations=reason)
    (finding,) = examine(chart, [Check.PROGRESS], SETTINGS)
    assert (finding.kind, finding.what, finding.remedy) == ("course_unusable", reason.reason, None)
    nothing = replace(patient, contents={})
    assert examine(replace(nothing.chart(), relations=reason), [Check.PROGRESS], SETTINGS) == []


def test_a_certificate_that_was_requested_is_not_missing() -> None:
    patient = sick(random.Random(5), patients.certificate_missing, COURSE, "asha")
    chart = replace(patient.chart(), requested=frozenset({patients.CERTIFICATE}))
    assert examine(chart, list(Check), SETTINGS) == []


def test_no_sync_lowers_a_count() -> None:
    """The course was published anew with fewer contents, and something else of the learner is wrong, too."""
    patient = sick(random.Random(4), patients.content_status_lacks, COURSE, "asha")
    patient.of_course["completedCount"] += 1
    findings = found(patient)
    assert {finding.kind for finding in findings} == {"content_status_lacks", "completed_count_too_high"}
    assert {finding.remedy for finding in findings} == {None}


def test_whoever_holds_a_certificate_in_the_old_column_misses_none() -> None:
    patient = sick(random.Random(5), patients.certificate_missing, COURSE, "asha")
    chart = patient.chart()
    row = chart.record.enrolment
    assert row is not None
    rows = replace(chart.record.rows, enrolment=replace(row, certificates=[{"name": "Another name"}]))
    assert examine(replace(chart, record=replace(chart.record, rows=rows)), list(Check), SETTINGS) == []


def test_what_was_done_just_now_may_still_lead_to_a_certificate() -> None:
    chart = sick(random.Random(5), patients.certificate_missing, COURSE, "asha").chart()
    done = max(attempt.last_attempted_on for attempt in chart.record.attempts if attempt.last_attempted_on)
    row = chart.record.enrolment
    assert row is not None
    rows = replace(chart.record.rows, enrolment=replace(row, completed_on=done))

    def kinds(later_ms: int) -> list[str]:
        record = replace(chart.record, rows=rows, now_ms=to_time_ms(done) + later_ms)
        return [finding.kind for finding in examine(replace(chart, record=record), [Check.CERTIFICATES], SETTINGS)]

    assert kinds(REQUEST_PATIENCE_MS - 1) == []
    # The time of an attempt is that of the learner's device, whose clock may be wrong.
    assert kinds(-REQUEST_PATIENCE_MS) == ["certificate_missing"]
    assert kinds(REQUEST_PATIENCE_MS) == ["certificate_missing"]


@pytest.mark.parametrize("is_held", [False, True])
def test_a_finding_says_that_its_remedy_would_issue_a_certificate_again(is_held: bool) -> None:
    """A template without criteria of the enrolment: each request issues its certificate (rule C3)."""
    patient = sick(random.Random(3), patients.score_missing, COURSE, "asha")
    patient.enrolment["issued_certificates"] = [{"name": CERTIFICATE.upper()}] if is_held else []
    chart = patient.chart()
    criteria = json.dumps({"assessment": {"score": {">=": patients.PASS_PERCENT}}})
    templates = parse(PLAIN, {"t-1": {**patients.TEMPLATES["t-1"], "criteria": criteria}})
    batch = Batch(COURSE.course_id, PLAIN, templates)
    (finding,) = examine(replace(chart, record=replace(chart.record, batch=batch)), [Check.SCORES], SETTINGS)
    assert (finding.remedy, finding.issues_again) == (Remedy.RECOMPUTE, is_held)


@pytest.mark.parametrize(("seed", "completes"), [(0, False), (2, True)])
def test_a_sync_that_completes_the_enrolment_issues_a_certificate_again(seed: int, completes: bool) -> None:
    patient = sick(random.Random(seed), patients.status_differs, COURSE, "asha")
    patient.enrolment["issued_certificates"] = [{"name": CERTIFICATE}]
    chart = patient.chart()
    criteria = json.dumps({"assessment": {"score": {">=": patients.PASS_PERCENT}}})
    templates = parse(PLAIN, {"t-1": {**patients.TEMPLATES["t-1"], "criteria": criteria}})
    record = replace(chart.record, batch=Batch(COURSE.course_id, PLAIN, templates))
    (finding,) = examine(replace(chart, record=record), [Check.PROGRESS], SETTINGS)
    assert finding.what == f"status is 0 and should be {2 if completes else 1}"
    assert (finding.remedy, finding.issues_again) == (Remedy.SYNC, completes)


def test_a_certificate_that_cannot_be_decided_is_reported() -> None:
    """The content read API fails for one content alone: the job would send the request to the failed topic."""
    patient = sick(random.Random(5), patients.certificate_missing, COURSE, "asha")
    chart = patient.chart()
    refused = {content_id: Refused("content_api", "it answers 500") for content_id in patients.CONTENTS}
    undecided = replace(chart, record=replace(chart.record, content_types=refused))
    (finding,) = examine(undecided, [Check.CERTIFICATES], SETTINGS)
    assert (finding.kind, finding.remedy) == ("certificate_undecided", None)
    assert "it answers 500" in finding.what


def test_without_a_criterion_of_the_enrolment_no_certificate_is_missing() -> None:
    """Nobody but the events says when a request is due."""
    chart = sick(random.Random(5), patients.certificate_missing, COURSE, "asha").chart()
    criteria = json.dumps({"assessment": {"score": {">=": patients.PASS_PERCENT}}})
    templates = parse(CERTIFIED, {"t-1": {**patients.TEMPLATES["t-1"], "criteria": criteria}})
    batch = Batch(COURSE.course_id, CERTIFIED, templates)
    assert examine(replace(chart, record=replace(chart.record, batch=batch)), [Check.CERTIFICATES], SETTINGS) == []


@few
@given(seed=seeds)
def test_the_account_is_asked_for_only_where_a_certificate_is_missing_by_the_rows(seed: int) -> None:
    source = random.Random(seed)
    missing = sick(source, patients.certificate_missing, COURSE, "asha").chart()
    assert may_need_user(missing, SETTINGS)
    assert not may_need_user(replace(missing, requested=frozenset({patients.CERTIFICATE})), SETTINGS)
    well = healthy(source, EnrolmentKey("asha", COURSE.course_id, CERTIFIED), COURSE)
    assert not may_need_user(well.chart(), SETTINGS)


def test_a_blocked_user_misses_no_certificate() -> None:
    patient = sick(random.Random(5), patients.certificate_missing, COURSE, "asha")
    chart = patient.chart()
    blocked = replace(chart, record=replace(chart.record, user=Skip("blocked_user")))
    assert examine(blocked, list(Check), SETTINGS) == []


def test_the_checks_follow_the_rules_of_the_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor decides nothing itself: another rule, other findings."""
    patient = healthy(random.Random(6), EnrolmentKey("asha", COURSE.course_id, PLAIN), COURSE)
    assert patient.attempts
    assert found(patient) == []
    monkeypatch.setattr(rules, "_score", lambda attempt: (attempt.total_score or 0.0) + 1)
    assert {finding.kind for finding in found(patient)} >= {"score_differs", "detail_differs"}


def test_the_doctor_looks_at_units_and_at_the_configured_types() -> None:
    config = DeskConfig.model_construct(supported_content_types=("SelfAssess", "Quiz"), enable_suppress_exception=False)
    found = doctor_settings(config)
    assert found.progress.module_aggs
    assert not doctor_settings(config.model_copy(update={"module_aggs": False})).progress.module_aggs
    assert found.certificate.supported_content_types == {"SelfAssess", "Quiz"}
    assert not found.certificate.enable_suppress_exception


def test_units_are_not_compared_where_the_job_does_not_count_them() -> None:
    patient = healthy(random.Random(6), EnrolmentKey("asha", COURSE.course_id, PLAIN), COURSE)
    units = dict.fromkeys(patient.chart().units, UnitRow(aggregates={"completedCount": 99.0}))
    assert units
    chart = replace(patient.chart(), units=units)
    assert {finding.kind for finding in examine(chart, list(Check), SETTINGS)} == {"completed_count_too_high"}
    without = replace(SETTINGS, progress=ProgressSettings(audit_topic="", certificate_topic="", module_aggs=False))
    assert examine(chart, list(Check), without) == []


def test_without_a_criterion_of_the_score_no_type_of_a_content_is_needed() -> None:
    """As before a switch-over: scores in both columns, in a batch that has no certificate."""
    patient = healthy(random.Random(6), EnrolmentKey("asha", COURSE.course_id, PLAIN), COURSE)
    assert patient.attempts
    patient.agg[COURSE.course_id] = {"score:Q1": 3, "max_score:Q1": 10, "score:Q2": 3, "max_score:Q2": 10}
    chart = patient.chart()
    assert chart.record.content_types == {}
    assert examine(chart, [Check.CERTIFICATES, Check.CUT], SETTINGS) == []


@pytest.mark.parametrize(
    ("fault", "cut"), [(patients.newly_passes, 8), (patients.no_longer_passes, 7)], ids=["both", "none"]
)
def test_a_cut_score_on_the_same_side_of_the_limit_is_not_reported(fault: Fault, cut: int) -> None:
    patient = sick(random.Random(7), fault, COURSE, "asha")
    quiz = next(iter(patient.attempts))[0]
    patient.agg[COURSE.course_id] = {f"score:{quiz}": cut, f"max_score:{quiz}": 10}
    assert examine(patient.chart(), [Check.CUT], SETTINGS) == []


def test_a_score_that_cannot_be_computed_is_not_compared_with_the_cut_one() -> None:
    chart = sick(random.Random(7), patients.newly_passes, COURSE, "asha").chart()
    types = dict.fromkeys(patients.CONTENTS, Refused("content_api", "content read API answered 403"))
    assert examine(replace(chart, record=replace(chart.record, content_types=types)), [Check.CUT], SETTINGS) == []
