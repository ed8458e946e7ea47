"""The desk says "earned" exactly where the job sends the message, and names the comparison that decided."""

import operator
import os
from collections.abc import Callable
from fractions import Fraction

import msgspec
import pytest
from hypothesis import example, given, settings

from desk.explanation.certificates import Kind, Outcome, decide
from desk.explanation.steps import Verdict
from desk.records import LearnerRecord, Unknown
from desk.sentences import ENGLISH
from jobs.activity_aggregate_updater import rules as progress_rules
from jobs.activity_aggregate_updater.rules import Content
from jobs.collection_cert_pre_processor import criteria, rules
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.rules import Decisions
from tests.support.desk_records import SETTINGS, VIDEO, WORDING, batch, explained, learner, verdict
from tests.support.desk_records import template as template_with
from tests.support.desk_strategies import records

EXAMPLES = int(os.environ.get("DESK_EXAMPLES", "150"))
"""Learners for each of the properties; more by the variable."""

COMPARED: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda left, right: not left < right,
    ">": lambda left, right: right < left,
    "<=": lambda left, right: not right < left,
    "<": lambda left, right: left < right,
    "=": lambda left, right: not (left < right or right < left),
    "!=": lambda left, right: left < right or right < left,
}
"""The operators once more, without the job's table."""


def decided_by_the_job(record: LearnerRecord) -> Decisions:
    """What the job decides about all templates together when a request comes in, as its ``apply`` does."""
    user_id, course_id, batch_id = record.key
    request = CertificateRequest((user_id,), course_id, batch_id, re_issue=False, time_ms=record.now_ms)
    assert not isinstance(record.content_types, Unknown)
    selected = rules.select(
        request,
        record.batch.templates,
        enrolment=None if record.enrolment is None else record.enrolment.for_certificates(),
        aggregates=record.aggregates.merged,
        content_types=record.content_types,
        settings=SETTINGS.certificate,
    )
    if not selected.earned:
        return selected
    user, course_name = record.user, record.course.name
    assert user is not None and not isinstance(user, Unknown) and not isinstance(course_name, Unknown)
    return rules.issue(request, user_id, selected, user=user, course_name=course_name, settings=SETTINGS.certificate)


def template_ids(decisions: Decisions) -> list[str]:
    """Of the certificates that the job would ask for."""
    return [msgspec.json.decode(message.value)["edata"]["templateId"] for message in decisions.messages]


def best_percent(record: LearnerRecord) -> float:
    """The best score of the course, computed without the job's rules and without binary fractions."""
    scores = {**record.aggregates.agg, **record.aggregates.aggregates}
    assert not isinstance(record.content_types, Unknown)
    counted = [key.split(":")[1] for key in scores if key.startswith("score:")]
    percents = [
        float(
            round(_exact(scores[f"score:{content_id}"]) * 100 / _exact(scores.get(f"max_score:{content_id}") or 1), 9)
        )
        for content_id in counted
        if record.content_types[content_id] == "SelfAssess"
    ]
    return max(percents, default=0.0)


def _exact(number: float) -> Fraction:
    """As it is written: 7.496 is no binary fraction."""
    return Fraction(repr(number))


@given(records)
@settings(max_examples=EXAMPLES)
@example(learner(7.4))
@example(learner(7.5))
def test_the_desk_and_the_job_agree_about_every_template(record: LearnerRecord) -> None:
    decisions = decided_by_the_job(record)
    made = [decide(record, template, SETTINGS, WORDING) for template in record.batch.templates.usable]
    assert [one.template.identifier for one in made if one.outcome == Outcome.EARNED] == template_ids(decisions)
    skipped = [one.outcome for one in made if one.outcome not in (Outcome.EARNED, Outcome.FAILED)]
    assert sorted(skipped) == sorted(kind for kind in decisions.skipped if kind != "no_template")
    failed = {one.reason for one in made if one.outcome == Outcome.FAILED}
    assert failed | {fault.reason for fault in record.batch.templates.faults} == {
        fault.reason for fault in decisions.failed
    }


@given(records)
@settings(max_examples=EXAMPLES)
def test_the_verdict_is_that_of_the_job(record: LearnerRecord) -> None:
    decisions = decided_by_the_job(record)
    step = explained(record).verdict
    templates, sent = record.batch.templates.usable, template_ids(decisions)
    rows = record.enrolment.issued_certificates if record.enrolment is not None else None
    held = {certificate["name"].casefold() for certificate in rows or ()}
    asked_for = [template.name for template in templates if template.identifier in sent]
    # Nobody has asked for a certificate yet in these records, so each that the job would ask for is lost, except those
    # that the learner holds.
    lost = [name for name in asked_for if name.casefold() not in held]
    if lost:
        one = ENGLISH["verdict.fulfilled.one"].format(name=lost[0])
        assert step.sentence.startswith(one if len(templates) > 1 or held else ENGLISH["verdict.fulfilled"])
        assert step.verdict is Verdict.NO
    else:
        assert "although everything" not in step.sentence
        # Whoever holds a certificate has it, also if the job would not ask for it today.
        assert step.verdict is (Verdict.YES if held or asked_for else Verdict.NO)


@given(records)
@settings(max_examples=EXAMPLES)
# In binary it is 74.96000000000001 percent.
@example(learner(7.496, batch=batch(template_with({"assessment": {"score": 74.96}}))))
def test_the_comparison_that_decided_is_false_and_those_before_it_are_true(record: LearnerRecord) -> None:
    for template in record.batch.templates.usable:
        made = decide(record, template, SETTINGS, WORDING)
        scores = [comparison for comparison in made.comparisons if comparison.kind is Kind.SCORE]
        for comparison in scores:
            # What is shown says the same as what was compared: rounding never hides which side a score is on.
            assert COMPARED[comparison.sign](float(comparison.left), float(comparison.right)) == comparison.holds
            assert COMPARED[comparison.sign](best_percent(record), float(comparison.right)) == comparison.holds
        if made.outcome == "other_score":
            failed = made.failed(Kind.SCORE)
            assert failed is not None
            assert explained(record).steps[6 + record.batch.templates.usable.index(template)].sentence == (
                f"No: {failed.words}."
            )
        if made.outcome == Outcome.EARNED:
            assert all(comparison.holds for comparison in made.comparisons)


class TestTheExplanationFollowsTheRules:
    def test_when_an_operator_changes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert verdict(learner(7.5)).startswith(ENGLISH["verdict.fulfilled"])
        monkeypatch.setitem(criteria.OPERATORS, ">=", operator.gt)
        assert verdict(learner(7.5)) == (
            "No certificate: the best score is 75.0 percent, 75 are asked for. Nothing is broken."
        )
        assert explained(learner(7.5)).step("decision").sentence == (
            "No: the best score is 75.0 percent, 75 are asked for."
        )
        assert decided_by_the_job(learner(7.5)).skipped == ("other_score",)

    def test_when_the_percent_is_computed_in_another_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rules, "percent", lambda score, _: score * 10 + 1)
        assert verdict(learner(7.4)).startswith(ENGLISH["verdict.fulfilled"])
        assert (
            explained(learner(7.4))
            .step("best_score")
            .sentence.startswith("The best score of the course is 75.0 percent")
        )

    def test_when_another_status_counts_as_completed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def status(content: Content) -> int:
            return 1 if content.content_id == VIDEO else 2

        monkeypatch.setattr(progress_rules, "_status", status)
        assert (
            explained(learner())
            .step("progress")
            .sentence.startswith(
                "The course was completed on 14 May 2024. It has changed since then: 1 of 2 contents is completed now."
            )
        )
