"""The checks of progress: what an enrolment sync would change (rule U9). Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from msgspec import structs

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.events import shown
from desk.doctor.chart import Chart
from desk.doctor.findings import Check, Finding
from desk.explanation.settings import JobSettings
from desk.remedies import Remedy
from jobs.activity_aggregate_updater import rules
from jobs.activity_aggregate_updater.events import COMPLETED, EnrolmentSync
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow
from jobs.activity_aggregate_updater.relations import Relations


@dataclass(frozen=True, slots=True)
class _Synced:
    """What a sync would write: counts by activity, and the change of the enrolment if there is one."""

    counts: Mapping[str, float]
    change: EnrolmentChange | None


def _synced(chart: Chart, row: EnrolmentRow | None, relations: Relations, settings: JobSettings) -> _Synced:
    record = chart.record
    stored = rules.Stored(
        contents=[content.content for content in record.contents],
        enrolment=row,
        is_known=COMPLETED_COUNT in record.aggregates.aggregates,
    )
    sync = EnrolmentSync(record.key, record.now_ms)
    decision = rules.decide(record.key, [sync], stored, relations, settings.progress)
    counts = {count.activity_id: count.value for stage in decision.aggregates for count in stage}
    changes = [write for write in decision.learner if isinstance(write, EnrolmentChange)]
    return _Synced(counts, changes[0] if changes else None)


_BEGUN = EnrolmentRow(active=True, status=0, completed_on_ms=None, content_status=None, progress=None)
"""An enrolment about which nothing is known: what a sync makes of it follows from the contents alone."""


def progress(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    """Counts and the enrolment against what follows from the stored contents.

    What is too high is only reported. A sync takes no progress of the enrolment back, but it would lower
    ``completedCount``, and the course may have been published anew since.
    """
    if not isinstance(chart.relations, Relations):
        if chart.record.contents:
            yield chart.finding(Check.PROGRESS, "course_unusable", chart.relations.reason)
        return
    synced = _synced(chart, _BEGUN, chart.relations, settings)
    findings = [*_counts(chart, synced.counts), *_of_enrolment(chart, synced.change, chart.relations)]
    if any(finding.kind == "completed_count_too_high" for finding in findings):
        findings = [structs.replace(finding, remedy=None) for finding in findings]
    row = chart.record.enrolment
    is_open = row is not None and row.status != COMPLETED
    if is_open and synced.change is not None and synced.change.status == COMPLETED and chart.issued_again:
        # Rule U7: the certificate is checked then.
        findings = [structs.replace(finding, issues_again=finding.remedy is not None) for finding in findings]
    yield from findings


def _of_enrolment(chart: Chart, right: EnrolmentChange | None, relations: Relations) -> Iterator[Finding]:
    """The row of the enrolment against what a sync of a new one would make of it."""
    row = chart.record.enrolment
    if row is None or row.is_phantom:
        return
    if row.status == COMPLETED:
        if right is None or right.status != COMPLETED:
            done = 0 if right is None else right.progress
            what = f"the enrolment is completed, but only {done} of {len(relations.required)} contents are"
            yield chart.finding(Check.PROGRESS, "no_longer_complete", what)
        return
    # Before the first completion the job has not looked at the enrolment, so a sync has only begun it.
    if right is None or not any(status >= COMPLETED for status in right.content_status.values()):
        if row.progress:
            what = f"progress is {row.progress}, but no content is completed"
            yield chart.finding(Check.PROGRESS, "progress_too_high", what)
        return
    yield from _begun_enrolment(chart, row.for_progress(), right)


def _begun_enrolment(chart: Chart, row: EnrolmentRow, right: EnrolmentChange) -> Iterator[Finding]:
    """The row of an enrolment that is not completed, against what follows from its contents."""
    if row.status != right.status:
        what = f"status is {shown(row.status)} and should be {right.status}"
        yield chart.finding(Check.PROGRESS, "status_differs", what, Remedy.SYNC)
    stored = row.progress or 0
    if stored < right.progress:
        what = f"progress is {shown(row.progress)} and should be {right.progress}"
        yield chart.finding(Check.PROGRESS, "progress_too_low", what, Remedy.SYNC)
    elif stored > right.progress:
        what = f"progress is {stored}, but only {right.progress} required contents are completed"
        yield chart.finding(Check.PROGRESS, "progress_too_high", what)
    known = row.content_status or {}
    # A content that was opened since the last completion is not in the map yet.
    lacking = sorted(
        content_id
        for content_id, status in right.content_status.items()
        if status >= COMPLETED and known.get(content_id, -1) < status
    )
    if lacking:
        what = f"contentstatus lacks {', '.join(lacking[:5])}{', …' if len(lacking) > 5 else ''}"
        yield chart.finding(Check.PROGRESS, "content_status_lacks", what, Remedy.SYNC)


def _counts(chart: Chart, counts: Mapping[str, float]) -> Iterator[Finding]:
    """``completedCount`` of the course and of each unit, as readers see it. A missing one is a count of 0."""
    course_id = chart.record.key.course_id
    merged = {unit_id: row.merged for unit_id, row in chart.units.items()} | {course_id: chart.record.aggregates.merged}
    for activity_id, right in sorted(counts.items()):
        stored = merged.get(activity_id, {}).get(COMPLETED_COUNT, 0.0)
        of = "the course" if activity_id == course_id else f"unit {activity_id}"
        if stored < right:
            what = f"{COMPLETED_COUNT} of {of} is {stored:g} and should be {right:g}"
            yield chart.finding(Check.PROGRESS, "completed_count_too_low", what, Remedy.SYNC)
        elif stored > right:
            what = f"{COMPLETED_COUNT} of {of} is {stored:g}, but only {right:g} required contents are completed"
            yield chart.finding(Check.PROGRESS, "completed_count_too_high", what)
