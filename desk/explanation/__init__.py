"""Why a learner has no certificate, or has one: a record in, steps out. Pure.

Nothing is decided here. What is completed, which scores count, and whether a certificate is earned come from the jobs'
own rules, called with the rows that the record holds. If a rule changes, the explanation changes with it.
"""

from dataclasses import replace

from desk.explanation import certificates, progress, scores
from desk.explanation.requests import requests
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Explanation, Step
from desk.explanation.verdict import verdict
from desk.explanation.wording import Wording
from desk.records import LearnerRecord
from desk.remedies import ASK_FOR_CERTIFICATES

__all__ = ["explain"]


def explain(record: LearnerRecord, settings: JobSettings, wording: Wording) -> Explanation:
    """The steps from the enrolment to the verdict, in the order in which the jobs work."""
    decisions = [certificates.decide(record, template, settings, wording) for template in record.batch.templates.usable]
    steps = [
        progress.enrolment(record, wording),
        progress.leaf_nodes(record, wording),
        progress.progress(record, settings, wording),
        scores.attempts(record, settings, wording),
        scores.best_score(record, settings, wording),
        certificates.templates(record, wording),
        *(certificates.decision(record, made, wording) for made in decisions),
        requests(record, wording),
    ]
    steps = [_without_second_issue(step, record, wording) for step in steps]
    summed = verdict(record, decisions, steps, settings, wording)
    return Explanation((*steps, _without_second_issue(summed, record, wording)))


def _without_second_issue(step: Step, record: LearnerRecord, wording: Wording) -> Step:
    """Does not offer what would issue a certificate again that the learner holds."""
    if step.next is None or step.next.remedy not in ASK_FOR_CERTIFICATES or not (names := record.issued_again()):
        return step
    named = wording.some([f"“{name}”" for name in names])
    return replace(step, sentence=f"{step.sentence} {wording.sentences.say('issued_again', names=named)}", next=None)
