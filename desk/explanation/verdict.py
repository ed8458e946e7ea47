"""The last step: everything in one sentence. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.domain.events import Refused
from desk.explanation.certificates import Decision, Kind, Outcome, issued_certificate, issued_on
from desk.explanation.progress import completion
from desk.explanation.requests import asked_of_generator, being_checked, not_searched_before
from desk.explanation.scores import best_of, percents
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Next, Step, Verdict
from desk.explanation.wording import Wording, content_name, percent_text, shown
from desk.records import LearnerRecord, Unknown
from desk.remedies import Remedy, command
from jobs.collection_cert_pre_processor.templates import Template

_TOLD = ("not_enrolled", "not_active", "blocked_user")
"""Outcomes with a sentence for the learner that needs no values."""


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
    broken = [step for step in steps if step.is_broken]
    summed = _Sum(wording, broken, _what_is_wrong(record, broken, wording))
    met = [made.template for made in decisions if made.outcome in (Outcome.EARNED, Outcome.ISSUED)]
    # Without criteria of the enrolment the rules do not look at the certificates that the learner holds.
    row = record.enrolment
    earned = [template.name for template in met if row is None or not row.holds(template.name)]
    requests = {name: asked_of_generator(record, name) for name in earned}
    lost = [name for name, request in requests.items() if request is None]
    held = _held(record, met)
    not_known = _not_known(record, wording)
    if lost and not_known is None:
        # Also if another certificate is there.
        is_only = len(decisions) == 1 and held is None
        sentences = [say("verdict.fulfilled") if is_only else say("verdict.fulfilled.one", name=lost[0])]
        if held is not None:
            sentences.append(say("verdict.holds", name=held.get("name", ""), on=issued_on(held, wording)))
        sentences.append(say("verdict.request"))
        return Step(
            "verdict",
            say("verdict?"),
            Verdict.NO,
            " ".join(sentences),
            next=Next(command(Remedy.CERTIFICATE, record.key), Remedy.CERTIFICATE),
            is_broken=True,
            tell=say("tell.fulfilled"),
        )
    if held is not None:
        # Also if it would not be issued today: a certificate is not taken back.
        # Named where it may not be the one that is asked about.
        name = held.get("name", "")
        is_other = [made.template.name.casefold() for made in decisions] != [name.casefold()]
        key = "verdict.issued.one" if name and is_other else "verdict.issued"
        sentence = say(key, name=name, on=issued_on(held, wording))
        return summed.step(Verdict.YES, sentence, say("tell.issued"))
    if lost and not_known is not None:
        return summed.step(Verdict.UNKNOWN, not_known, say("tell.unknown"))
    if asked := next(filter(None, requests.values()), None):
        by = _by_score(record, first[Outcome.EARNED], settings, wording)
        sentence = say("verdict.requested", by=by, on=wording.time(asked.time_ms))
        return summed.step(Verdict.YES, sentence, say("tell.requested"))
    if Outcome.UNKNOWN in first:
        sentence = say("verdict.unknown", reason=first[Outcome.UNKNOWN].reason)
        return summed.step(Verdict.UNKNOWN, sentence, say("tell.unknown"))
    sentence, tell = _why_not(record, decisions, settings, wording), _tell(record, decisions, settings, wording)
    if not broken:
        is_known = all(step.verdict is not Verdict.UNKNOWN for step in steps)
        sentence = f"{sentence} {say('verdict.sound' if is_known else 'verdict.unread')}"
    return summed.step(Verdict.NO, sentence, tell)


def _held(record: LearnerRecord, met: Sequence[Template]) -> Mapping[str, str] | None:
    """The certificate to name: that of a template whose criteria are met, else any that the learner holds."""
    of_met = [issued_certificate(record, template) for template in met]
    held = [] if record.enrolment is None else record.enrolment.held
    return next((certificate for certificate in (*of_met, *held) if certificate), None)


def _not_known(record: LearnerRecord, wording: Wording) -> str | None:
    """Why it cannot be said of an earned certificate that nobody has requested it; None if it can."""
    say = wording.sentences.say
    if isinstance(record.certificate_messages, Unknown):
        return say("verdict.fulfilled.unread", reason=record.certificate_messages.reason)
    if (checked := being_checked(record)) is not None:
        return say("verdict.checked", on=wording.time(checked.time_ms))
    if (since_ms := not_searched_before(record)) is not None:
        return say("verdict.fulfilled.cut", since=wording.time(since_ms))
    return None


@dataclass(frozen=True, slots=True)
class _Sum:
    """What all answers have in common: what is wrong is said in the same breath."""

    wording: Wording
    broken: Sequence[Step]
    wrong: str

    def step(self, answer: Verdict, sentence: str, tell: str) -> Step:
        say = self.wording.sentences.say
        if not self.broken:
            return Step("verdict", say("verdict?"), answer, sentence, tell=tell)
        remedy = next((step.next for step in self.broken if step.next is not None), None)
        return Step(
            "verdict",
            say("verdict?"),
            answer,
            f"{sentence} {self.wrong}",
            next=remedy if answer is Verdict.NO else None,
            is_broken=True,
            # Whoever has the certificate need not know; nobody else may take the answer for the last word.
            tell=tell if answer is Verdict.YES else say("tell.broken"),
        )


def _what_is_wrong(record: LearnerRecord, broken: Sequence[Step], wording: Wording) -> str:
    """ "Something is wrong: …", with a sentence for each step that is broken."""
    say, problems = wording.sentences.say, []
    for step in broken:
        if step.name == "requests" and not isinstance(record.failed, Unknown):
            problems.append(wording.sentences.count("not_processed", len(record.failed.messages)))
        else:
            problems.append(say(f"wrong.{step.name}"))
    questions = [say("wrong.see", question=question) for question in dict.fromkeys(step.question for step in broken)]
    return say(
        "verdict.broken",
        problems=say("criteria.and").join(dict.fromkeys(problems)),
        questions=say("criteria.and").join(questions),
    )


def _tell(record: LearnerRecord, decisions: Sequence[Decision], settings: JobSettings, wording: Wording) -> str:
    """What to tell a learner without a certificate when nothing is broken; empty if there is nothing to say."""
    say = wording.sentences.say
    if not record.batch.exists:
        return say("tell.no_batch")
    if not decisions:
        return say("tell.no_template")
    made = decisions[0]
    failed, done = made.failed(Kind.SCORE), completion(record, settings)
    if made.outcome == "other_score" and failed is not None and failed.sign in (">=", ">"):
        return say("tell.other_score", comparison=failed.words)
    if made.outcome == "other_status" and done is not None and done.missing:
        missing = wording.some([content_name(record, content_id) for content_id in done.missing])
        return say("tell.other_status", missing=missing)
    key = f"tell.{made.outcome}"
    return say(key) if made.outcome in _TOLD and wording.sentences.has(key) else ""


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
            return say("verdict.other_user", comparison=failed.words)
        case outcome:
            key = f"verdict.{outcome}"
            return say(key if wording.sentences.has(key) else "verdict.other", reason=made.reason, kind=outcome)


def _score_too_low(made: Decision, wording: Wording) -> str:
    """Names the comparison that the job has found false."""
    say, failed = wording.sentences.say, made.failed(Kind.SCORE)
    if failed is None:
        return say("verdict.other", kind=made.outcome)
    return say("verdict.score", comparison=failed.words)


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
