"""Why a learner has no certificate, or has one: a record in, steps out. Pure.

Nothing is decided here. What is completed, which scores count, and whether a certificate is earned come from the jobs'
own rules, called with the rows that the record holds. If a rule changes, the explanation changes with it.
"""

from collections.abc import Collection
from dataclasses import replace

from desk.explanation import certificates, progress, scores
from desk.explanation.requests import requests
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Explanation, Step
from desk.explanation.verdict import verdict
from desk.explanation.wording import Wording
from desk.records import LearnerRecord
from desk.remedies import ASK_FOR_CERTIFICATES, Remedy

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
    asking = {*ASK_FOR_CERTIFICATES, *([Remedy.SYNC] if progress.would_complete(record, settings) else [])}
    steps = [_without_second_issue(step, record, asking, wording) for step in steps]
    summed = verdict(record, decisions, steps, settings, wording)
    return Explanation((*steps, _without_second_issue(summed, record, asking, wording)))


def _without_second_issue(step: Step, record: LearnerRecord, asking: Collection[Remedy], wording: Wording) -> Step:
    """Does not offer what would issue a certificate again that the learner holds; ``asking`` ask for certificates."""
    if step.next is None or step.next.remedy not in asking or not (names := record.issued_again()):
        return step
    say, named = wording.sentences.say, wording.some([f"“{name}”" for name in names])
    return replace(
        step,
        sentence=f"{step.sentence} {say('issued_again', names=named)}",
        next=None,
        # What it says of the verdict's remedy is not so.
        tell=say("tell.broken") if step.tell else "",
    )
