"""The steps about templates and the decision of the certificate pre-processor, template by template. Pure."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from desk.explanation.scores import best_of, percents
from desk.explanation.settings import JobSettings
from desk.explanation.steps import Evidence, Step, Verdict
from desk.explanation.wording import Wording, percent_text, shown
from desk.records import LearnerRecord, Unknown
from jobs.collection_cert_pre_processor import rules
from jobs.collection_cert_pre_processor.criteria import COMPLETED, OPERATORS, Criteria
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.templates import Template, Templates

_TEMPLATES = "course_batch.cert_templates"

_SIGN_OF: dict[Callable[..., Any], str] = {
    operator.eq: "=",
    operator.ne: "!=",
    operator.gt: ">",
    operator.lt: "<",
    operator.ge: ">=",
    operator.le: "<=",
}
_SIGNS = {name: _SIGN_OF[compare] for name, compare in OPERATORS.items()}
"""The sign of each operator that a template may name."""


class Outcome(StrEnum):
    """What a request for a certificate would lead to now. Whatever else the job says is a skip with its own name."""

    EARNED = "earned"
    """The message to the generator would be sent."""
    ISSUED = "already_issued"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Kind(StrEnum):
    """What a comparison is about."""

    STATUS = "status"
    SCORE = "score"
    USER = "user"


_COMPARED = {"other_status": Kind.STATUS, "other_score": Kind.SCORE}
"""What a skip of the job was compared for."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison of a criterion: ``74.0 >= 75``. ``source`` is where the left side comes from.

    ``words`` say it for people, whether it holds or not: ``the best score is 74.0 percent, 75 are asked for``.
    """

    kind: Kind
    left: str
    sign: str
    right: str
    holds: bool
    source: str
    words: str

    @property
    def text(self) -> str:
        """``74.0 >= 75``."""
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the job decides about one template now. ``outcome`` is one of :class:`Outcome` or the name of a skip."""

    template: Template
    outcome: str
    reason: str = ""
    comparisons: tuple[Comparison, ...] = ()

    def failed(self, kind: Kind) -> Comparison | None:
        """The first comparison of a kind that does not hold."""
        return next(
            (comparison for comparison in self.comparisons if comparison.kind is kind and not comparison.holds), None
        )


def decide(record: LearnerRecord, template: Template, settings: JobSettings, wording: Wording) -> Decision:
    """Asks the job's rules about one template, as if a request came in now, and then for the comparisons.

    The outcome is the rules' alone; a comparison only shows why.
    """
    outcome, reason = _outcome(record, template, settings)
    return Decision(template, outcome, reason, tuple(_comparisons(record, template, settings, wording)))


def _outcome(record: LearnerRecord, template: Template, settings: JobSettings) -> tuple[str, str]:
    if isinstance(record.content_types, Unknown) and template.criteria.score:
        return Outcome.UNKNOWN, record.content_types.reason
    selected = _select(record, template, settings)
    if not selected.earned:
        return _left(selected)
    user, course_name = record.user, record.course.name
    for answer in (user, course_name):
        if isinstance(answer, Unknown):
            return Outcome.UNKNOWN, answer.reason
    assert user is not None and not isinstance(user, Unknown) and not isinstance(course_name, Unknown)
    issued = rules.issue(
        _request(record),
        record.key.user_id,
        selected,
        user=user,
        course_name=course_name,
        settings=settings.certificate,
    )
    return (Outcome.EARNED, "") if issued.messages else _left(issued)


def _select(record: LearnerRecord, template: Template, settings: JobSettings) -> rules.Decisions:
    """What the job decides from the rows (rules C3 and C4)."""
    row, types = record.enrolment, record.content_types
    return rules.select(
        _request(record),
        Templates((template,), ()),
        enrolment=None if row is None else row.for_certificates(),
        aggregates=record.aggregates.merged,
        content_types={} if isinstance(types, Unknown) else types,
        settings=settings.certificate,
    )


def _request(record: LearnerRecord) -> CertificateRequest:
    """A request that comes in now."""
    user_id, course_id, batch_id = record.key
    return CertificateRequest((user_id,), course_id, batch_id, re_issue=False, time_ms=record.now_ms)


def _left(decisions: rules.Decisions) -> tuple[str, str]:
    """The skip or the failure of a decision about one template that sends nothing."""
    if decisions.failed:
        return Outcome.FAILED, rules.refused("", decisions.failed).reason
    (skipped,) = decisions.skipped
    return skipped, ""


def _comparisons(
    record: LearnerRecord, template: Template, settings: JobSettings, wording: Wording
) -> list[Comparison]:
    """Each comparison of the criteria by itself, as the job makes it, with both sides."""
    say, found, criteria, row = wording.sentences.say, [], template.criteria, record.enrolment
    if criteria.enrolment_status is not None and row is not None and row.active:
        alone = replace(criteria, score=(), user=())
        skipped = _select(record, replace(template, criteria=alone), settings).skipped
        holds = "other_status" not in skipped
        right = f"{criteria.enrolment_status:g}"
        words = say("words.status", status=shown(row.status), limit=right)
        if criteria.enrolment_status == COMPLETED:
            words = say("words.completed" if holds else "words.not_completed")
        source = "user_enrolments.status"
        found.append(Comparison(Kind.STATUS, f"status {shown(row.status)}", "=", right, holds, source, words))
    scores = percents(record, settings) if criteria.score else {}
    if criteria.score and isinstance(scores, dict):
        best = best_of(scores).percent
        for name, limit in criteria.score:
            alone = replace(criteria, score=((name, limit),))
            left, right, holds = percent_text(best, [limit]), f"{limit:g}", alone.met_by_score(best)
            words = say("words.score", best=left, limit=_limit_in_words(sign(name), right, wording))
            source = "best score, user_activity_agg"
            found.append(Comparison(Kind.SCORE, left, sign(name), right, holds, source, words))
    if criteria.user and isinstance(record.user, Mapping):
        for field, demanded in criteria.user:
            alone = replace(criteria, user=((field, demanded),))
            value = shown(record.user.get(field)) if wording.show_names else wording.sentences.say("hidden")
            holds, right = alone.met_by_user(record.user), demanded.decode()
            words = say("words.user", field=field, value=value, demanded=right)
            source = f"{field}, user read API"
            found.append(Comparison(Kind.USER, f"{field} {value}", "=", right, holds, source, words))
    return found


def _limit_in_words(sign_of_limit: str, limit: str, wording: Wording) -> str:
    """``75 are asked for``."""
    key = f"limit.{sign_of_limit}"
    one = f"{key}.one"
    return wording.sentences.say(one if limit == "1" and wording.sentences.has(one) else key, limit=limit)


def sign(name: str) -> str:
    """An operator of a template as people read it. Several names of one comparison have one sign."""
    return _SIGNS[name]


def templates(record: LearnerRecord, wording: Wording) -> Step:
    """The criteria of the batch's templates in words, and the templates that cannot be used."""
    say = wording.sentences.say
    question, found = say("templates?"), record.batch.templates
    if not record.batch.exists:
        return Step("templates", question, Verdict.NO, say("templates.no_batch"))
    if not found.usable and not found.faults:
        return Step("templates", question, Verdict.NO, say("templates.none"), _source(record))
    sentences = []
    if found.usable:
        named = [in_words(template, wording) for template in found.usable]
        sentences.append(say("templates.some", templates=wording.some(named)))
    if found.faults:
        number = wording.sentences.count("templates", len(found.faults))
        sentences.append(say("templates.faults", number=number, reason=found.faults[0].reason))
    evidence = [
        Evidence(template.name, criteria_in_words(template.criteria, wording), f"{_TEMPLATES}[{template.key}].criteria")
        for template in found.usable
    ]
    evidence += [Evidence(fault.kind, fault.reason, _TEMPLATES) for fault in found.faults]
    verdict = Verdict.YES if found.usable else Verdict.NO
    return Step(
        "templates",
        question,
        verdict,
        " ".join(sentences),
        tuple(evidence),
        is_broken=bool(found.faults),
        is_fact=bool(found.usable),
    )


def _source(record: LearnerRecord) -> tuple[Evidence, ...]:
    return (Evidence("templates", "none", f"{_TEMPLATES}, batch {record.batch.batch_id}"),)


def in_words(template: Template, wording: Wording) -> str:
    """A template in words: its name, and what it is given for."""
    return wording.sentences.say("template", name=template.name, criteria=criteria_in_words(template.criteria, wording))


def criteria_in_words(criteria: Criteria, wording: Wording) -> str:
    """The criteria in words: ``completing the course and a best score >= 75 percent``."""
    say = wording.sentences.say
    words = []
    if criteria.enrolment_status is not None:
        is_default = criteria.enrolment_status == COMPLETED
        words.append(
            say("criteria.completed") if is_default else say("criteria.status", status=criteria.enrolment_status)
        )
    words += [say(f"criteria.score.{sign(name)}", limit=limit) for name, limit in criteria.score]
    words += [say("criteria.user", field=field, value=demanded.decode()) for field, demanded in criteria.user]
    return say("criteria.and").join(words)


def decision(record: LearnerRecord, made: Decision, wording: Wording) -> Step:
    """What the job decides about one template, with the comparisons that it makes."""
    say, outcome = wording.sentences.say, made.outcome
    values: dict[str, Any] = {"reason": made.reason, "kind": outcome, "comparison": outcome}
    verdict = Verdict.NO
    evidence = [
        Evidence(
            say(f"compared.{comparison.kind}"),
            f"{comparison.text} is {'true' if comparison.holds else 'false'}",
            comparison.source,
            is_technical=True,
        )
        for comparison in made.comparisons
    ]
    failed = made.failed(_COMPARED.get(outcome, Kind.USER))
    if outcome == Outcome.EARNED:
        verdict = Verdict.YES
        values["comparisons"] = say("criteria.and").join(comparison.words for comparison in made.comparisons)
    elif outcome == Outcome.ISSUED:
        verdict = Verdict.YES
        certificate = issued_certificate(record, made.template)
        values["on"] = issued_on(certificate, wording)
        evidence += [
            Evidence(name, value, "user_enrolments.issued_certificates", is_technical=True)
            for name, value in sorted(certificate.items())
        ]
    elif outcome == Outcome.UNKNOWN:
        verdict = Verdict.UNKNOWN
    elif failed is not None:
        values["comparison"] = failed.words
    key = "decision.issued" if outcome == Outcome.ISSUED else f"decision.{outcome}"
    return Step(
        "decision",
        say("decision?", template=made.template.name),
        verdict,
        say(key if wording.sentences.has(key) else "decision.other", **values),
        tuple(evidence),
        is_broken=outcome == Outcome.FAILED,
    )


def issued_certificate(record: LearnerRecord, template: Template) -> Mapping[str, str]:
    """The certificate of a template in the enrolment; empty if there is none."""
    return record.enrolment.issued(template.name) if record.enrolment is not None else {}


def issued_on(certificate: Mapping[str, str], wording: Wording) -> str:
    """ " on <date>", or nothing if the certificate has none."""
    on = certificate.get("lastIssuedOn") or certificate.get("issuedOn") or ""
    return wording.sentences.say("on", on=wording.stored_day(on)) if on else ""
