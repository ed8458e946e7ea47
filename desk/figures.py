"""The figures of a batch: funnel, best scores, progress by unit, assessments. Pure.

Learners are added one by one, so a batch of any size takes the same memory.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from common.domain import aggregates as columns
from common.domain.aggregates import ATTEMPTS_COUNT, contents_of
from common.domain.events import Refused, value_or_refused
from desk.explanation.settings import JobSettings
from desk.records import AggregatesRow, Batch, EnrolmentRow
from jobs.activity_aggregate_updater.events import COMPLETED
from jobs.collection_cert_pre_processor import rules
from jobs.collection_cert_pre_processor.criteria import Criteria

BIN_PERCENT = 5
BINS = 100 // BIN_PERCENT + 1
"""Of best scores: 0 to 5 percent, 5 to 10, …, and the last one for 100 percent and more."""

NEARLY_PERCENT = 5.0
"""A learner falls short by little whose best score is below that of a certificate by less than this."""

MAX_WITHOUT = 20
"""Learners who have earned a certificate and do not have it that are kept with their ids."""

Limit = tuple[float, bool]
"""A percent from which on a best score is enough, and whether the percent itself is: (75, True) for ``>= 75``."""


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
    """What is counted, template by template: one that everybody fulfils must not hide the others."""

    batch: Batch
    units: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The required leaf nodes of each unit, by its id."""
    enrolled: int = 0
    started: int = 0
    completed: int = 0
    passed: int = 0
    """Completed and reached."""
    issued: int = 0
    reached: int = 0
    """With a best score that some template asks for, whether or not the course is completed."""
    without: int = 0
    """Those who fulfil a template whose certificate they do not have."""
    first_without: list[str] = field(default_factory=list)
    """The ids of the first :data:`MAX_WITHOUT` of them."""
    nearly: int = 0
    """With a best score that is below that of some template by less than :data:`NEARLY_PERCENT`."""
    bins: Counter[int] = field(default_factory=Counter)
    unit_sums: Counter[str] = field(default_factory=Counter)
    """Completed contents by unit, summed over the learners."""
    assessments: dict[str, Assessment] = field(default_factory=dict)
    unusable: int = 0
    """Learners whose best score cannot be computed."""

    _asked: tuple[tuple[Criteria, tuple[Limit, ...]], ...] = field(init=False)
    """The criteria that ask for a score, with their lower limits."""

    def __post_init__(self) -> None:
        """Finds the limits once, and not for each learner."""
        asked = (template.criteria for template in self.batch.templates.usable if template.criteria.score)
        self._asked = tuple((criteria, tuple(_lower_limits(criteria))) for criteria in asked)

    @property
    def limits(self) -> list[float]:
        """The percents that templates compare the best score with, in order, each once."""
        return sorted({limit for criteria, _ in self._asked for _, limit in criteria.score})

    @property
    def lower_limits(self) -> list[Limit]:
        """The limits that learners may fall short of, in order, each once."""
        return sorted({limit for _, limits in self._asked for limit in limits})

    @property
    def has_user_criteria(self) -> bool:
        """Whether a template is for certain users only. Then ``without`` leaves it out: users are not read."""
        return any(template.criteria.user for template in self.batch.templates.usable)

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
        self.issued += bool(enrolment.held)
        self._add_units(enrolment)
        merged = aggregates.merged
        percents = value_or_refused(lambda: rules.percents(merged, content_types, settings.certificate))
        is_completed = enrolment.status == COMPLETED
        self.completed += is_completed
        best = None if isinstance(percents, Refused) else columns.overall_best_score(percents)
        if self._lacks_certificate(enrolment, best):
            self.without += 1
            if len(self.first_without) < MAX_WITHOUT:
                self.first_without.append(user_id)
        if best is None or isinstance(percents, Refused):
            self.unusable += 1
            return
        is_enough = self.is_enough(best)
        self.reached += is_enough
        self.passed += is_completed and is_enough
        if percents:
            self._add_scores(best, percents, merged)

    def is_enough(self, best: float) -> bool:
        """Whether a best score is one that some template asks for."""
        return any(criteria.met_by_score(best) for criteria, _ in self._asked)

    def is_bin_enough(self, number: int) -> bool:
        """Whether :meth:`is_enough` holds for every best score of a bin."""
        low, high = number * BIN_PERCENT, math.inf if number == BINS - 1 else (number + 1) * BIN_PERCENT
        # The answer changes at limits only.
        around = (near for limit in self.limits for near in (_below(limit), limit, _above(limit)))
        return all(self.is_enough(best) for best in (low, _below(high), *around) if low <= best < high)

    def _lacks_certificate(self, enrolment: EnrolmentRow, best: float | None) -> bool:
        """By the rules of the certificate pre-processor (C3 and C4).

        Nobody misses the certificate of a template that names no status before the course is completed. Whoever has one
        from the time before ``issued_certificates`` misses none, as for the doctor.
        """
        return any(
            not enrolment.holds(template.name)
            and not template.criteria.user
            and enrolment.status == (COMPLETED if (status := template.criteria.enrolment_status) is None else status)
            and (not template.criteria.score or (best is not None and template.criteria.met_by_score(best)))
            for template in self.batch.templates.usable
        )

    def _add_scores(self, best: float, percents: Mapping[str, float], merged: Mapping[str, float]) -> None:
        self.bins[bin_of(best)] += 1
        self.nearly += any(
            not criteria.met_by_score(best) and any(0 <= limit - best < NEARLY_PERCENT for limit, _ in limits)
            for criteria, limits in self._asked
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


def _lower_limits(criteria: Criteria) -> Iterator[Limit]:
    """Where a best score begins to be enough, as it rises: 75 for ``>= 75`` and ``> 75``, nowhere for ``<= 75``."""
    is_enough = criteria.met_by_score
    for _, limit in criteria.score:
        if not is_enough(_below(limit)) and (is_enough(limit) or is_enough(_above(limit))):
            yield limit, is_enough(limit)


def _below(percent: float) -> float:
    return math.nextafter(percent, -math.inf)


def _above(percent: float) -> float:
    return math.nextafter(percent, math.inf)


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
