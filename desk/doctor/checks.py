"""The checks: the chart of a learner in, findings out. Pure.

What is right is what the jobs' own rules make of the rows; nothing is computed here a second time. A finding has a
remedy only if the job that applies it would change the row.
"""

from collections.abc import Callable, Collection, Iterator, Mapping

from common.domain.events import MAX_TIME_MS
from desk.doctor import certificate_checks, progress_checks, score_checks
from desk.doctor.chart import Chart
from desk.doctor.findings import Check, Finding
from desk.explanation.settings import JobSettings


def examine(chart: Chart, checks: Collection[Check], settings: JobSettings) -> list[Finding]:
    """All findings about a learner, in the order of :class:`Check`."""
    return [finding for check, find in _CHECKS.items() if check in checks for finding in find(chart, settings)]


def _phantoms(chart: Chart, _: JobSettings) -> Iterator[Finding]:
    row = chart.record.enrolment
    if row is not None and row.is_phantom:
        what = "the enrolment has neither active nor status: the learner is not enrolled"
        yield chart.finding(Check.PHANTOMS, "phantom", what)


def _times(chart: Chart, _: JobSettings) -> Iterator[Finding]:
    for time in chart.times:
        if not 0 <= time.time_ms <= MAX_TIME_MS:
            row = f" of {time.row}" if time.row else ""
            what = f"{time.table}.{time.column}{row} is {time.time_ms} ms, outside of the years 1970 to 9999"
            yield chart.finding(Check.TIMES, "time_out_of_range", what)


_CHECKS: Mapping[Check, Callable[[Chart, JobSettings], Iterator[Finding]]] = {
    Check.SCORES: score_checks.scores,
    Check.DETAILS: score_checks.details,
    Check.PROGRESS: progress_checks.progress,
    Check.CERTIFICATES: certificate_checks.certificates,
    Check.CUT: score_checks.cut,
    Check.PHANTOMS: _phantoms,
    Check.TIMES: _times,
}
