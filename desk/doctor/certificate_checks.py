"""The checks of certificates: what the certificate pre-processor would decide on a request (rules C2 to C5). Pure."""

from collections.abc import Iterator

from common.domain.events import shown
from desk.doctor.chart import Chart
from desk.doctor.findings import Check, Finding
from desk.explanation.settings import JobSettings
from desk.records import Unknown
from desk.remedies import Remedy
from jobs.collection_cert_pre_processor import rules
from jobs.collection_cert_pre_processor.events import CertificateRequest
from jobs.collection_cert_pre_processor.templates import Template, Templates


def _selected(chart: Chart, template: Template, settings: JobSettings, *, re_issue: bool) -> rules.Decisions:
    """What the rules decide about a template from the rows (rules C3 and C4)."""
    record = chart.record
    user_id, course_id, batch_id = record.key
    row, types = record.enrolment, record.content_types
    return rules.select(
        CertificateRequest((user_id,), course_id, batch_id, re_issue, record.now_ms),
        Templates((template,), ()),
        enrolment=None if row is None else row.for_certificates(),
        aggregates=record.aggregates.merged,
        content_types={} if isinstance(types, Unknown) else types,
        settings=settings.certificate,
    )


def _is_issued(chart: Chart, template: Template) -> bool:
    """By the name, in any case, as the rules compare it (rule C3)."""
    row = chart.record.enrolment
    name = template.name.casefold()
    return any(old.get("name", "").casefold() == name for old in (row and row.issued_certificates) or ())


def may_need_user(chart: Chart, settings: JobSettings) -> bool:
    """Whether the certificate check depends on the user's account: the rows fulfil a template without a certificate."""
    return not isinstance(chart.record.content_types, Unknown) and any(
        _is_missing_by_rows(chart, template, settings) for template in chart.record.batch.templates.usable
    )


def _is_missing_by_rows(chart: Chart, template: Template, settings: JobSettings) -> bool:
    if template.name in chart.requested or _is_issued(chart, template):
        return False
    row = chart.record.enrolment
    # Without criteria of the enrolment nobody but the events says when a request is due.
    if template.criteria.enrolment_status is None or row is None:
        return False
    return bool(_selected(chart, template, settings, re_issue=False).earned)


def certificates(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    """Certificates that a request would issue now, and certificates that it would not."""
    if isinstance(chart.record.content_types, Unknown):
        return
    for template in chart.record.batch.templates.usable:
        name = shown(template.name)
        if _is_missing_by_rows(chart, template, settings):
            if _is_for_user(chart, template, settings):
                what = f"the criteria of {name} are met, but there is neither a certificate nor a request for one"
                yield chart.finding(Check.CERTIFICATES, "certificate_missing", what, Remedy.CERTIFICATE)
        elif _is_issued(chart, template):
            left = _selected(chart, template, settings, re_issue=True)
            if not left.earned and not left.failed:
                what = f"{name} is issued, but its criteria are not met: {', '.join(left.skipped)}"
                yield chart.finding(Check.CERTIFICATES, "certificate_not_earned", what)


def _is_for_user(chart: Chart, template: Template, settings: JobSettings) -> bool:
    """Rule C5: whether the account is not blocked and meets the user criteria; no if that is not known."""
    record = chart.record
    if record.user is None or isinstance(record.user, Unknown) or isinstance(record.course.name, Unknown):
        return False
    user_id, course_id, batch_id = record.key
    issued = rules.issue(
        CertificateRequest((user_id,), course_id, batch_id, re_issue=False, time_ms=record.now_ms),
        user_id,
        _selected(chart, template, settings, re_issue=False),
        user=record.user,
        course_name=record.course.name,
        settings=settings.certificate,
    )
    return bool(issued.messages)
