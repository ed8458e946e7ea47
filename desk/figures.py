"""The figures of a batch: funnel, best scores, progress by unit, assessments. Pure.

Learners are added one by one, so a batch of any size takes the same memory.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.domain import aggregates as columns
from common.domain.aggregates import ATTEMPTS_COUNT, contents_of
from common.domain.events import Refused, value_or_refused
from desk.explanation.settings import JobSettings
from desk.records import AggregatesRow, Batch, EnrolmentRow
from jobs.activity_aggregate_updater.events import COMPLETED
from jobs.collection_cert_pre_processor import rules

BIN_PERCENT = 5
BINS = 100 // BIN_PERCENT + 1
"""Of best scores: 0 to 5 percent, 5 to 10, …, and the last one for 100 percent and more."""

NEARLY_PERCENT = 5.0
"""A learner falls short by little whose best score is below the limit by less than this."""

MAX_WITHOUT = 20
"""Learners without a certificate although they passed that are kept with their ids."""


@dataclass(slots=True)
class Assessment:
    """The learners of a batch in one assessment. The sums are over the learners with a score."""

    content_id: str
    learners: int = 0
    percent_sum: float = 0.0
    attempts: float = 0.0

    @property
    def average_percent(self) -> float:
        """The mean of the learners' best scores."""
        return self.percent_sum / self.learners if self.learners else 0.0

    @property
    def average_attempts(self) -> float:
        """How many attempts a learner has made."""
        return self.attempts / self.learners if self.learners else 0.0


@dataclass(slots=True)
class Figures:
    """What is counted. ``limits`` are the percents that templates compare the best score with, in order."""

    batch: Batch
    units: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The required leaf nodes of each unit, by its id."""
    enrolled: int = 0
    started: int = 0
    completed: int = 0
    passed: int = 0
    """Completed, and with a best score that meets the criteria of some template."""
    issued: int = 0
    reached: int = 0
    """With a best score that meets the criteria of some template, whether or not the course is completed."""
    without: int = 0
    """Of those who passed, the ones who have no certificate."""
    first_without: list[str] = field(default_factory=list)
    """The ids of the first :data:`MAX_WITHOUT` of them."""
    nearly: int = 0
    bins: Counter[int] = field(default_factory=Counter)
    unit_sums: Counter[str] = field(default_factory=Counter)
    """Completed contents by unit, summed over the learners."""
    assessments: dict[str, Assessment] = field(default_factory=dict)
    unusable: int = 0
    """Learners whose best score cannot be computed."""

    @property
    def limits(self) -> list[float]:
        """The percents that templates compare the best score with, in order, each once."""
        return sorted({limit for template in self.batch.templates.usable for _, limit in template.criteria.score})

    def add(
        self,
        enrolment: EnrolmentRow,
        aggregates: AggregatesRow,
        content_types: Mapping[str, str | Refused | None],
        settings: JobSettings,
        user_id: str = "",
    ) -> None:
        """Counts one learner. Enrolments that are phantoms or not active do not count."""
        if enrolment.is_phantom or not enrolment.active:
            return
        self.enrolled += 1
        self.started += bool(enrolment.status)
        self.issued += bool(enrolment.issued_certificates)
        self._add_units(enrolment)
        merged = aggregates.merged
        percents = value_or_refused(lambda: rules.percents(merged, content_types, settings.certificate))
        is_completed = enrolment.status == COMPLETED
        self.completed += is_completed
        if isinstance(percents, Refused):
            self.unusable += 1
            return
        best = columns.overall_best_score(percents)
        is_enough = self.is_enough(best)
        self.reached += is_enough
        self.passed += is_completed and is_enough
        if is_completed and is_enough and not enrolment.issued_certificates:
            self.without += 1
            if len(self.first_without) < MAX_WITHOUT:
                self.first_without.append(user_id)
        if percents:
            self._add_scores(best, percents, merged)

    def is_enough(self, best: float) -> bool:
        """Whether a best score meets the criteria of some template."""
        return any(template.criteria.met_by_score(best) for template in self.batch.templates.usable)

    def _add_scores(self, best: float, percents: Mapping[str, float], merged: Mapping[str, float]) -> None:
        self.bins[bin_of(best)] += 1
        limits = self.limits
        self.nearly += (
            bool(limits) and not self.is_enough(best) and any(limit - NEARLY_PERCENT < best < limit for limit in limits)
        )
        attempts = contents_of(ATTEMPTS_COUNT, merged)
        for content_id, percent in percents.items():
            assessment = self.assessments.setdefault(content_id, Assessment(content_id))
            assessment.learners += 1
            assessment.percent_sum += percent
            assessment.attempts += attempts.get(content_id, 0.0)

    def _add_units(self, enrolment: EnrolmentRow) -> None:
        done = {content_id for content_id, status in (enrolment.content_status or {}).items() if status >= COMPLETED}
        for unit_id, required in self.units.items():
            self.unit_sums[unit_id] += len(done & required)

    def unit_percent(self, unit_id: str) -> float:
        """How much of a unit the learners have completed on average."""
        of_all = len(self.units[unit_id]) * self.enrolled
        return 100 * self.unit_sums[unit_id] / of_all if of_all else 0.0

    @property
    def hardest(self) -> list[Assessment]:
        """The assessments, those with the most attempts per learner first."""
        return sorted(self.assessments.values(), key=lambda one: (-one.average_attempts, one.content_id))


def bin_of(percent: float) -> int:
    """The bin of a best score; below 0 counts as 0."""
    return min(max(int(percent // BIN_PERCENT), 0), BINS - 1)


def units_of(ancestors: Mapping[str, frozenset[str]], course_id: str) -> dict[str, set[str]]:
    """The contents of each unit, by the ancestors of each content."""
    units: defaultdict[str, set[str]] = defaultdict(set)
    for content_id, above in ancestors.items():
        for unit_id in above - {course_id}:
            units[unit_id].add(content_id)
    return dict(units)
