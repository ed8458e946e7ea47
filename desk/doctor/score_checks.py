"""The checks of best scores and attempts: what a recompute request would change (rule A8). Pure."""

from collections import Counter
from collections.abc import Iterator
from math import isclose

import msgspec

from common.domain.aggregates import SCORE, contents_of, overall_best_score
from common.domain.events import BadEvent, shown
from desk.doctor.chart import Chart
from desk.doctor.findings import Check, Finding
from desk.explanation.settings import JobSettings
from desk.recompute import DETAIL, Recompute, recompute
from desk.records import Unknown
from desk.remedies import Remedy
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.collection_cert_pre_processor import rules as certificate_rules

ROUNDING = 1e-6
"""Sums of scores may differ by so much: the Scala job adds them one by one, which rounds each time."""


def _content_of_course(chart: Chart) -> str:
    """A content that rule A2 accepts. A course without leaf nodes accepts every content."""
    nodes = chart.record.course.leaf_nodes
    of_attempts = [attempt.content_id for attempt in chart.record.attempts]
    if not isinstance(nodes, LeafNodes):
        return of_attempts[0] if of_attempts else chart.record.key.course_id
    return next((content_id for content_id in of_attempts if content_id in nodes.all), min(nodes.all))


def _remedy(chart: Chart, would: Recompute) -> Remedy | None:
    """A recompute, but not one that would lose something: perhaps attempts were only archived."""
    has_scored = any(attempt.total_score is not None for attempt in chart.record.attempts)
    return Remedy.RECOMPUTE if has_scored and would.loses_nothing else None


def scores(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    """Entries of ``aggregates`` that differ from those of a recompute, and entries that it would remove."""
    would, row = recompute(chart.record, settings), chart.record.aggregates
    content_id, remedy, merged = _content_of_course(chart), _remedy(chart, would), row.merged
    for key, right in sorted(would.changes.aggregates.items()):
        stored = row.aggregates.get(key)
        if stored == right:
            continue
        if key in would.outnumbered and key in merged:
            kind, what = "attempts_missing", f"{key} is {merged[key]:g}, but the stored attempts give {right:g}"
        elif stored is not None:
            kind, what = "score_differs", f"{key} is {stored:g} and should be {right:g}"
        elif key in row.agg:
            kind, what = "score_only_in_agg", f"{key} is only in agg, as {row.agg[key]}, and should be {right:g}"
        else:
            kind, what = "score_missing", f"{key} is missing and should be {right:g}"
        yield chart.finding(Check.SCORES, kind, what, remedy, content_id)
    for key in sorted(would.changes.removed_keys):
        what = f"{key} is {row.aggregates[key]:g}, but no attempt is stored"
        yield chart.finding(Check.SCORES, "score_without_attempt", what, remedy, content_id)


def details(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    """Elements of ``agg_details`` and of ``question`` that are there twice, or missing, or wrong.

    A ``question`` cannot be put right: only the original event has its elements.
    """
    yield from _agg_details(chart, settings)
    for answers in chart.answers:
        where = f"question of attempt {answers.attempt_id} at {answers.content_id}"
        ids = Counter(question_id for question_id, _ in answers.questions)
        if doubled := sorted(shown(question_id) for question_id, count in ids.items() if count > 1):
            what = f"{where} holds {', '.join(doubled[:5])} more than once"
            yield chart.finding(Check.DETAILS, "question_doubled", what)
            continue
        total = sum(score or 0.0 for _, score in answers.questions)
        if answers.total_score is None or isclose(total, answers.total_score, rel_tol=ROUNDING, abs_tol=ROUNDING):
            continue
        what = f"{where}: its {len(answers.questions)} scores add up to {total:g}, not to {answers.total_score:g}"
        yield chart.finding(Check.DETAILS, "question_missing", what)


def _agg_details(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    would = recompute(chart.record, settings)
    content_id, remedy = _content_of_course(chart), _remedy(chart, would)

    def finding(kind: str, what: str) -> Finding:
        return chart.finding(Check.DETAILS, kind, f"agg_details {what}", remedy, content_id)

    found: Counter[tuple[str, str]] = Counter()
    scores: dict[tuple[str, str], tuple[float, float]] = {}
    for text in chart.record.aggregates.details:
        try:
            detail = DETAIL.decode(text)
        except msgspec.DecodeError:
            yield finding("detail_unreadable", f"holds {shown(text)}, which is no attempt")
            continue
        found[detail.content_id, detail.attempt_id] += 1
        scores[detail.content_id, detail.attempt_id] = detail.score, detail.max_score
    expected = {
        (detail.content_id, detail.attempt_id): (detail.score, detail.max_score)
        for detail in map(DETAIL.decode, would.changes.agg_details)
    }
    for key in sorted(found.keys() | expected.keys()):
        where = f"attempt {key[1]} at {key[0]}"
        if found[key] > 1:
            yield finding("detail_doubled", f"holds {where} {found[key]} times")
        elif key not in expected:
            yield finding("detail_without_attempt", f"holds {where}, which is not stored")
        elif key not in found:
            yield finding("detail_missing", f"lacks {where}")
        elif scores[key] != expected[key]:
            is_now, is_right = ("{:g}/{:g}".format(*score) for score in (scores[key], expected[key]))
            yield finding("detail_differs", f"holds {where} with {is_now} instead of {is_right}")


def cut(chart: Chart, settings: JobSettings) -> Iterator[Finding]:
    """Templates whose criterion of the score is met by the exact best score and not by the cut one, or the reverse."""
    record = chart.record
    types = record.content_types
    # Without a criterion of the score nobody has asked for the types of contents.
    if not record.batch.templates.need_aggregates or isinstance(types, Unknown):
        return
    if not contents_of(SCORE, record.aggregates.agg):
        return
    of_agg = {key: float(value) for key, value in record.aggregates.agg.items()}
    exact = record.aggregates.merged | recompute(chart.record, settings).certain
    try:
        best_cut, best_exact = (
            overall_best_score(certificate_rules.percents(aggregates, types, settings.certificate))
            for aggregates in (of_agg, exact)
        )
    except BadEvent:
        return
    for template in record.batch.templates.usable:
        was_met, is_met = (template.criteria.met_by_score(best) for best in (best_cut, best_exact))
        if was_met != is_met:
            says = "newly meets" if is_met else "would not have met"
            what = f"{best_exact:g} percent {says} the criterion of {shown(template.name)}; cut it is {best_cut:g}"
            yield chart.finding(Check.CUT, "newly_passes" if is_met else "no_longer_passes", what)
