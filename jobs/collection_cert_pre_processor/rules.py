"""Which learners of a request have earned which certificates. Pure.

Each learner and template is a decision of its own: issued, skipped or failed. It is taken in two steps, because the API
calls that :func:`issue` needs are made only for learners who pass :func:`select`, which looks at the rows::

    templates.parse ─▶ select(enrolment, aggregates, content types) ─▶ issue(user, course name)
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any

from common.domain.aggregates import MAX_SCORE, SCORE, contents_of, overall_best_score, percent
from common.domain.events import BadEvent, Refused, Skip, shown, usable, value_or_refused
from common.domain.messages import Message
from jobs.collection_cert_pre_processor.answers import User
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.message import Earned, certificate
from jobs.collection_cert_pre_processor.settings import Settings
from jobs.collection_cert_pre_processor.templates import Template, Templates


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
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

    ``earned`` is what is left to :func:`issue`. ``skipped`` has a label (for the metrics) for each template that is not
    for this learner, ``failed`` the reason for each that could not be decided.
    """

    earned: tuple[Earned, ...] = ()
    messages: tuple[Message, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[Refused, ...] = ()


class Effect(StrEnum):
    """What an event did, as the metrics name it."""

    ISSUED = "issued"
    """A certificate was requested, whatever else happened."""
    FAILED = "failed"
    NOT_EARNED = "not_earned"


def effect(decisions: Sequence[Decisions]) -> Effect:
    """What a request did, by what is decided about each of its learners."""
    if any(decision.messages for decision in decisions):
        return Effect.ISSUED
    return Effect.FAILED if any(decision.failed for decision in decisions) else Effect.NOT_EARNED


def refused(user_id: str, failed: Sequence[Refused]) -> Refused:
    """One refusal for all faults of a learner: one message with all reasons, however many templates failed."""
    return Refused(failed[0].kind, "; ".join(dict.fromkeys(fault.reason for fault in failed)), user_id)


def select(
    request: CertificateRequest,
    templates: Templates,
    *,
    enrolment: EnrolmentRow | None,
    aggregates: Mapping[str, float],
    content_types: Mapping[str, str | Refused | None],
    settings: Settings,
) -> Decisions:
    """Rules C3 and C4: checks a learner's rows against every template. There are no messages yet.

    ``enrolment`` is None if there is no such row. ``aggregates`` is both columns merged. ``content_types``
    holds the type of every content with a score: ``""`` if it has none, None if the content is not known, Refused if
    that could not be found out.

    Skips are ``no_template``, ``not_enrolled``, ``not_active``, ``other_status``, ``already_issued``, ``other_score``.
    """
    skipped = () if templates.usable or templates.faults else (Skip("no_template"),)
    results = (
        value_or_refused(partial(_by_rows, request, template, enrolment, aggregates, content_types, settings))
        for template in templates.usable
    )
    return _decisions((*skipped, *templates.faults, *results))


def issue(
    request: CertificateRequest,
    user_id: str,
    selected: Decisions,
    *,
    user: User | Skip | Refused,
    course_name: str | Refused,
    settings: Settings,
) -> Decisions:
    """Rules C5 to C7: checks a learner against the user criteria of what is left, and makes the messages.

    ``user`` and ``course_name`` are Refused if they could not be read. A course without a name fails only learners who
    would have got a certificate.

    Further skips are ``blocked_user`` and ``other_user`` (the user criteria are not met).
    """
    decide = partial(_by_user, request, user_id, user=user, course_name=course_name, settings=settings)
    issued = _decisions(value_or_refused(partial(decide, earned)) for earned in selected.earned)
    return replace(issued, skipped=selected.skipped + issued.skipped, failed=selected.failed + issued.failed)


def _decisions(results: Iterable[Earned | Message | Skip | Refused]) -> Decisions:
    by_type: dict[type, list[Any]] = {Earned: [], Message: [], Skip: [], Refused: []}
    for result in results:
        by_type[type(result)].append(result)
    return Decisions(
        earned=tuple(by_type[Earned]),
        messages=tuple(by_type[Message]),
        skipped=tuple(skip.kind for skip in by_type[Skip]),
        failed=tuple(by_type[Refused]),
    )


def percents(
    aggregates: Mapping[str, float], content_types: Mapping[str, str | Refused | None], settings: Settings
) -> dict[str, float]:
    """Rule C4: the best score in percent of each content of a supported type, by content id.

    A content without metadata is left out, or raises BadEvent ``no_metadata`` if that is not suppressed. A score that
    is not a finite number raises BadEvent ``bad_score``: no other score can be compared with it.
    """
    maxima = contents_of(MAX_SCORE, aggregates)
    found = {}
    for content_id, score in contents_of(SCORE, aggregates).items():
        content_type = usable(content_types[content_id])
        if content_type is None and not settings.enable_suppress_exception:
            raise BadEvent("no_metadata", f"content {content_id} has no metadata in the cache or the content read API")
        if content_type in settings.supported_content_types:
            found[content_id] = percent(score, maxima.get(content_id))
            if not math.isfinite(found[content_id]):
                raise BadEvent(
                    "bad_score", f"aggregates hold a score of content {content_id} that is no number: {score}"
                )
    return found


def _by_rows(
    request: CertificateRequest,
    template: Template,
    enrolment: EnrolmentRow | None,
    aggregates: Mapping[str, float],
    content_types: Mapping[str, str | Refused | None],
    settings: Settings,
) -> Earned | Skip:
    decision = _by_enrolment(request, template, enrolment)
    if isinstance(decision, Earned) and template.criteria.score:
        return _by_score(decision, percents(aggregates, content_types, settings))
    return decision


def _by_enrolment(request: CertificateRequest, template: Template, enrolment: EnrolmentRow | None) -> Earned | Skip:
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


def _wanted_columns(request: CertificateRequest, template: Template, enrolment: EnrolmentRow) -> dict[str, Any]:
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
    user: User | Skip | Refused,
    course_name: str | Refused,
    settings: Settings,
) -> Message | Skip:
    if isinstance(user, Skip):
        return user
    fields = usable(user)
    if not earned.template.criteria.met_by_user(fields):
        return Skip("other_user")
    return certificate(request, user_id, earned, user=fields, course_name=usable(course_name), settings=settings)
