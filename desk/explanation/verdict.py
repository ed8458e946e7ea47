"""The last step: everything in one sentence. Pure."""

from collections.abc import Sequence

from common.domain.events import Refused
from desk.explanation.certificates import Decision, Kind, Outcome, issued_certificate, issued_on
from desk.explanation.progress import completion
from desk.explanation.requests import asked_of_generator
from desk.explanation.scores import best_of, percents
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Next, Step, Verdict
from desk.explanation.wording import Wording, percent_text, shown
from desk.records import LearnerRecord, Unknown
from desk.remedies import Remedy, command


def verdict(
    record: LearnerRecord,
    decisions: Sequence[Decision],
    steps: Sequence[Step],
    settings: JobSettings,
    wording: Wording,
) -> Step:
    """Sums up the decisions about all templates, and says whether anything is broken."""
    say = wording.sentences.say
    first: dict[str, Decision] = {}
    for made in decisions:
        first.setdefault(made.outcome, made)
    asked = asked_of_generator(record)
    if Outcome.ISSUED in first:
        on = issued_on(issued_certificate(record, first[Outcome.ISSUED].template), wording)
        return _step(wording, Verdict.YES, say("verdict.issued", on=on))
    if Outcome.EARNED in first:
        if asked is not None:
            by = _by_score(record, first[Outcome.EARNED], settings, wording)
            return _step(wording, Verdict.YES, say("verdict.requested", by=by, on=wording.time(asked.time_ms)))
        remedy = Next(command(Remedy.CERTIFICATE, record.key), Remedy.CERTIFICATE)
        return _step(wording, Verdict.NO, say("verdict.fulfilled"), remedy, is_broken=True)
    if Outcome.UNKNOWN in first:
        return _step(wording, Verdict.UNKNOWN, say("verdict.unknown", reason=first[Outcome.UNKNOWN].reason))
    broken = next((step for step in steps if step.is_broken), None)
    sentence = _why_not(record, decisions, settings, wording)
    if broken is not None:
        rest = say("verdict.broken", question=broken.question)
    else:
        has_failed = any(step.name == "requests" and step.verdict is not Verdict.YES for step in steps)
        rest = "" if has_failed else say("verdict.sound")
    return _step(
        wording,
        Verdict.NO,
        f"{sentence} {rest}".rstrip(),
        None if broken is None else broken.next,
        is_broken=broken is not None,
    )


def _step(
    wording: Wording, answer: Verdict, sentence: str, next_step: Next | None = None, *, is_broken: bool = False
) -> Step:
    return Step("verdict", wording.sentences.say("verdict?"), answer, sentence, next=next_step, is_broken=is_broken)


def _by_score(record: LearnerRecord, made: Decision, settings: JobSettings, wording: Wording) -> str:
    """ " with a best score of 75.0 percent", if the template asks for a score."""
    found = percents(record, settings)
    if not made.template.criteria.score or isinstance(found, Refused | Unknown):
        return ""
    limits = [limit for _, limit in made.template.criteria.score]
    return wording.sentences.say("score.by", best=percent_text(best_of(found).percent, limits))


def _why_not(record: LearnerRecord, decisions: Sequence[Decision], settings: JobSettings, wording: Wording) -> str:
    """Why the learner gets no certificate, by the first template."""
    say = wording.sentences.say
    if not record.batch.exists:
        return say("verdict.no_batch")
    if not decisions:
        faults = record.batch.templates.faults
        return say("verdict.failed", reason=faults[0].reason) if faults else say("verdict.no_template")
    made = decisions[0]
    match made.outcome:
        case "other_score":
            return _score_too_low(made, wording)
        case "other_status":
            return _not_completed(record, made, settings, wording)
        case "other_user" if failed := made.failed(Kind.USER):
            return say("verdict.other_user", comparison=failed.text)
        case outcome:
            key = f"verdict.{outcome}"
            return say(key if wording.sentences.has(key) else "verdict.other", reason=made.reason, kind=outcome)


def _score_too_low(made: Decision, wording: Wording) -> str:
    """Names the comparison that the job has found false."""
    say, failed = wording.sentences.say, made.failed(Kind.SCORE)
    if failed is None:
        return say("verdict.other", kind=made.outcome)
    key = f"verdict.limit.{failed.sign}"
    one = f"{key}.one"
    limit = say(one if failed.right == "1" and wording.sentences.has(one) else key, limit=failed.right)
    return say("verdict.score", best=failed.left, limit=limit)


def _not_completed(record: LearnerRecord, made: Decision, settings: JobSettings, wording: Wording) -> str:
    say, done = wording.sentences.say, completion(record, settings)
    status = None if record.enrolment is None else record.enrolment.status
    if done is None or made.template.criteria.enrolment_status != 2:
        limit = made.template.criteria.enrolment_status
        return say("verdict.other_status.unknown", status=shown(status), limit=limit)
    if done.is_complete:
        return say("verdict.other_status.outdated")
    completed = wording.sentences.completed(done.completed, len(done.required))
    return say("verdict.other_status", completed=completed)
