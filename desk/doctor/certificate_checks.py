"""The checks of certificates: what the certificate pre-processor would decide on a request (rules C2 to C5). Pure."""

from collections.abc import Iterator

from common.domain.events import shown, to_time_ms
from desk.doctor.chart import Chart
from desk.doctor.findings import Check, Finding
from desk.explanation.requests import REQUEST_PATIENCE_MS
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
    return chart.record.enrolment is not None and bool(chart.record.enrolment.issued(template.name))


def may_need_user(chart: Chart, settings: JobSettings) -> bool:
    """Whether the certificate check depends on the user's account: the rows fulfil a template without a certificate."""
    return not isinstance(chart.record.content_types, Unknown) and any(
        _is_missing_by_rows(chart, template, settings) for template in chart.record.batch.templates.usable
    )


def _is_missing_by_rows(chart: Chart, template: Template, settings: JobSettings) -> bool:
    return _may_be_missing(chart, template) and bool(_selected(chart, template, settings, re_issue=False).earned)


def _may_be_missing(chart: Chart, template: Template) -> bool:
    """Whether it is neither held nor requested, whatever the rules decide."""
    row = chart.record.enrolment
    if row is None or row.holds(template.name) or template.name in chart.requested or _is_recent(chart):
        return False
    # Without criteria of the enrolment nobody but the events says when a request is due.
    return template.criteria.enrolment_status is not None


def _is_recent(chart: Chart) -> bool:
    """Whether the learner has completed or attempted something just now: the jobs may be working on it."""
    row, attempts = chart.record.enrolment, chart.record.attempts
    moments = [attempt.last_attempted_on for attempt in attempts] + [row.completed_on if row is not None else None]
    # The time of an attempt is that of the learner's device, which may be years ahead.
    return any(
        moment is not None and abs(chart.record.now_ms - to_time_ms(moment)) < REQUEST_PATIENCE_MS for moment in moments
    )


def certificates(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    """Certificates that a request would issue now, and certificates that it would not."""
    if isinstance(chart.record.content_types, Unknown):
        return
    for template in chart.record.batch.templates.usable:
        name = shown(template.name)
        if _is_issued(chart, template):
            left = _selected(chart, template, settings, re_issue=True)
            if not left.earned and not left.failed:
                what = f"{name} is issued, but its criteria are not met: {', '.join(left.skipped)}"
                yield chart.finding(Check.CERTIFICATES, "certificate_not_earned", what)
        elif _may_be_missing(chart, template):
            selected = _selected(chart, template, settings, re_issue=False)
            if selected.failed:
                yield _undecided(chart, name, selected)
            elif selected.earned and isinstance(chart.record.user, Unknown):
                what = f"the rows fulfil {name}, but the account is not known: {chart.record.user.reason}"
                yield chart.finding(Check.CERTIFICATES, "account_unknown", what)
            elif selected.earned:
                issued = _issued(chart, selected, settings)
                if issued.failed:
                    yield _undecided(chart, name, issued)
                elif issued.messages:
                    what = f"the criteria of {name} are met, but there is neither a certificate nor a request for one"
                    yield chart.finding(Check.CERTIFICATES, "certificate_missing", what, Remedy.CERTIFICATE)


def _undecided(chart: Chart, name: str, decisions: rules.Decisions) -> Finding:
    what = f"whether {name} is earned cannot be decided: {decisions.failed[0].reason}"
    return chart.finding(Check.CERTIFICATES, "certificate_undecided", what)


def _issued(chart: Chart, selected: rules.Decisions, settings: JobSettings) -> rules.Decisions:
    """What the rules decide about an earned certificate from the account and the course's name (rules C5 to C7)."""
    record = chart.record
    assert record.user is not None and not isinstance(record.user, Unknown)
    assert not isinstance(record.course.name, Unknown)
    user_id, course_id, batch_id = record.key
    return rules.issue(
        CertificateRequest((user_id,), course_id, batch_id, re_issue=False, time_ms=record.now_ms),
        user_id,
        selected,
        user=record.user,
        course_name=record.course.name,
        settings=settings.certificate,
    )
