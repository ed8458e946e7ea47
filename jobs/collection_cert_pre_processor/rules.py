"""Which learners of a request have earned which certificates. Pure.

A learner and a template are one decision: issued, skipped or failed, and no decision depends on another one. It is
taken in two steps, since only who passes :func:`select`, by the rows, is worth the calls that :func:`issue` needs::

    templates.parse ─▶ select(enrolment, aggregates, content types) ─▶ issue(user, course name) ─▶ failed_message
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.domain import messages
from common.domain.aggregates import MAX_SCORE, SCORE, contents_of, overall_best_score, percent
from common.domain.events import BadEvent, Skip, shown
from common.domain.messages import Message
from jobs.collection_cert_pre_processor.answers import User
from jobs.collection_cert_pre_processor.events import JOB, CertificateRequest, narrowed
from jobs.collection_cert_pre_processor.message import Earned, certificate
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import Template, Templates


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A row of ``user_enrolments``; None stands for an unset column.

    ``completed_on`` is aware of its zone. ``columns`` holds, by name, those of :attr:`Templates.enrolment_columns`
    that the table has.
    """

    active: bool | None
    status: int | None
    completed_on: datetime | None
    issued_certificates: Sequence[Mapping[str, str]] | None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided about one learner of a request.

    ``earned`` is what is left to :func:`issue`; ``skipped`` has a label (for the metrics) for each template that is not
    for this learner; ``failed`` has a fault for each that could not be decided.
    """

    earned: tuple[Earned, ...] = ()
    messages: tuple[Message, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[BadEvent, ...] = ()


class Effect(StrEnum):
    """What an event came to, as the metrics name it."""

    ISSUED = "issued"
    """A certificate was requested, whatever else happened."""
    FAILED = "failed"
    NOT_EARNED = "not_earned"


def effect(of_each: Iterable[Decisions]) -> Effect:
    """What a request came to, by what is decided about each of its learners."""
    decisions = list(of_each)
    if any(decision.messages for decision in decisions):
        return Effect.ISSUED
    return Effect.FAILED if any(decision.failed for decision in decisions) else Effect.NOT_EARNED


def select(
    request: CertificateRequest,
    templates: Templates,
    *,
    enrolment: Enrolment | None,
    aggregates: Mapping[str, float],
    content_types: Mapping[str, str | BadEvent | None],
    settings: Settings,
) -> Decisions:
    """Checks a learner's rows against the enrolment and assessment criteria of every template; gives no messages yet.

    ``enrolment`` is None if there is no such row. ``aggregates`` is both columns merged. ``content_types``
    holds the type of every content with a score: ``""`` if it has none, None if nobody knows the content, the BadEvent
    if that could not be found out.

    Skips are ``no_template``, ``not_enrolled``, ``not_active``, ``other_status``, ``already_issued``, ``other_score``.
    """
    earned: list[Earned] = []
    skipped = [] if templates.usable or templates.faults else ["no_template"]
    failed = list(templates.faults)
    for template in templates.usable:
        try:
            decision = _by_enrolment(request, template, enrolment)
            if isinstance(decision, Earned) and template.criteria.score:
                decision = _by_score(decision, percents(aggregates, content_types, settings))
        except BadEvent as error:
            failed.append(error)
        else:
            if isinstance(decision, Skip):
                skipped.append(decision.kind)
            else:
                earned.append(decision)
    return Decisions(earned=tuple(earned), skipped=tuple(skipped), failed=tuple(failed))


def issue(
    request: CertificateRequest,
    user_id: str,
    selected: Decisions,
    *,
    user: User | Skip | BadEvent,
    course_name: str | BadEvent,
    settings: Settings,
) -> Decisions:
    """Checks a learner against the user criteria of what the rows left, and writes the messages.

    ``user`` and ``course_name`` are the BadEvent if they could not be had. A course without a name fails only those
    who would have got a certificate.

    Further skips are ``blocked_user`` and ``other_user`` (the user criteria are not met).
    """
    issued: list[Message] = []
    skipped, failed = list(selected.skipped), list(selected.failed)
    for earned in selected.earned:
        try:
            decision = _by_user(request, user_id, earned, user=user, course_name=course_name, settings=settings)
        except BadEvent as error:
            failed.append(error)
        else:
            if isinstance(decision, Skip):
                skipped.append(decision.kind)
            else:
                issued.append(decision)
    return Decisions(messages=tuple(issued), skipped=tuple(skipped), failed=tuple(failed))


def failed_message(value: bytes, user_id: str, failed: Sequence[BadEvent], settings: Settings) -> Message:
    """The one failed-topic message for a learner with faults, however many templates they are about.

    ``value`` is the Kafka value that the request was decoded from. Of its learners the message names this one alone.
    """
    reasons = "; ".join(dict.fromkeys(error.reason for error in failed))
    alone = narrowed(value, user_id)
    return messages.failed(settings.failed_topic, JOB, alone, BadEvent(failed[0].kind, reasons), user_id)


def percents(
    aggregates: Mapping[str, float], content_types: Mapping[str, str | BadEvent | None], settings: Settings
) -> dict[str, float]:
    """The best score in percent of each content of a supported type, by content id.

    A content without metadata is left out, or raises BadEvent ``no_metadata`` if that is not suppressed. A score that
    is no number raises BadEvent ``bad_score``: beside it no other one could be called the greatest.
    """
    maxima = contents_of(MAX_SCORE, aggregates)
    found = {}
    for content_id, score in contents_of(SCORE, aggregates).items():
        content_type = content_types[content_id]
        if isinstance(content_type, BadEvent):
            raise content_type
        if content_type is None and not settings.enable_suppress_exception:
            raise BadEvent("no_metadata", f"content {content_id} has no metadata in the cache or the content read API")
        if content_type in settings.supported_content_types:
            found[content_id] = percent(score, maxima.get(content_id))
            if not math.isfinite(found[content_id]):
                raise BadEvent(
                    "bad_score", f"aggregates hold a score of content {content_id} that is no number: {score}"
                )
    return found


def _by_enrolment(request: CertificateRequest, template: Template, enrolment: Enrolment | None) -> Earned | Skip:
    status = template.criteria.enrolment_status
    if status is None:
        return Earned(template)
    if enrolment is None:
        return Skip("not_enrolled")
    if not enrolment.active:
        return Skip("not_active")
    if enrolment.status != status:
        return Skip("other_status")
    name = template.name.casefold()
    same = [old for old in enrolment.issued_certificates or () if old.get("name", "").casefold() == name]
    if same and not request.re_issue:
        return Skip("already_issued")
    return Earned(
        template,
        old_id=same[0].get("identifier", "") if same else "",
        completed_on=enrolment.completed_on,
        enrolment=_wanted_columns(request, template, enrolment),
    )


def _wanted_columns(request: CertificateRequest, template: Template, enrolment: Enrolment) -> dict[str, Any]:
    wanted = {}
    for name in template.additional_props.enrollment or ():
        if name.lower() not in enrolment.columns:
            reason = f"template {template.key}: additionalProps.enrollment has {shown(name)}, which is no column"
            raise BadEvent("bad_template", f"Invalid template for batch : {request.batch_id}: {reason}")
        wanted[name] = enrolment.columns[name.lower()]
    return wanted


def _by_score(earned: Earned, found: Mapping[str, float]) -> Earned | Skip:
    if not earned.template.criteria.met_by_score(overall_best_score(found)):
        return Skip("other_score")
    return replace(earned, percents=found)


def _by_user(
    request: CertificateRequest,
    user_id: str,
    earned: Earned,
    *,
    user: User | Skip | BadEvent,
    course_name: str | BadEvent,
    settings: Settings,
) -> Message | Skip:
    if isinstance(user, BadEvent):
        raise user
    if isinstance(user, Skip):
        return user
    if not earned.template.criteria.met_by_user(user):
        return Skip("other_user")
    if isinstance(course_name, BadEvent):
        raise course_name
    return certificate(request, user_id, earned, user=user, course_name=course_name, settings=settings)
