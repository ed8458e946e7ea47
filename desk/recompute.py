"""What a recompute request would change (rule A8), and what it would lose. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from common.domain.aggregates import ATTEMPTS_COUNT, MAX_SCORE, SCORE, contents_of, metric_key
from common.domain.attempts import AssessmentEvent
from common.domain.enrolments import EnrolmentKey
from desk.explanation.settings import JobSettings
from desk.records import LearnerRecord
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.rules import AggregateChanges, Attempt, AttemptKey, attempt_key


class StoredDetail(msgspec.Struct):
    """What is compared of an element of ``agg_details``. Texts of the Scala job have their members in another order."""

    attempt_id: str
    content_id: str
    score: float
    max_score: float


DETAIL = msgspec.json.Decoder(StoredDetail)


@dataclass(frozen=True, slots=True)
class Recompute:
    """What a recompute request would write, and the traces of attempts that are not stored any more.

    Sunbird's archival job moves attempts out of Cassandra. Their scores stay in ``user_activity_agg`` until something
    computes them anew. ``outnumbered`` are the keys of scores, with their maxima, and of numbers of attempts that are
    higher in the row than the stored attempts give. ``gone`` are the attempts that ``agg_details`` names and that are
    not stored.
    """

    changes: AggregateChanges
    outnumbered: frozenset[str]
    gone: frozenset[AttemptKey]

    @property
    def loses_nothing(self) -> bool:
        """Whether it takes away nothing that the stored attempts cannot give again."""
        return not (self.changes.removed_keys or self.outnumbered or self.gone)

    @property
    def lowered(self) -> dict[str, float]:
        """The scores and numbers of attempts among ``outnumbered``, as it would write them."""
        return {
            key: value
            for key, value in self.changes.aggregates.items()
            if key in self.outnumbered and not key.startswith(f"{MAX_SCORE}:")
        }

    @property
    def certain(self) -> dict[str, float]:
        """The entries of ``aggregates`` that the stored attempts decide, as far as the row shows."""
        return {key: value for key, value in self.changes.aggregates.items() if key not in self.outnumbered}


def recompute(record: LearnerRecord, settings: JobSettings) -> Recompute:
    """What a recompute request for the learner would do now."""
    row = record.aggregates
    changes = changes_of(record.key, record.attempts, settings, row.aggregates, record.now_ms)
    stored = {attempt_key(attempt) for attempt in record.attempts}
    return Recompute(
        changes,
        outnumbered(row.merged, changes.aggregates),
        frozenset(_named(row.details)) - stored,
    )


def changes_of(
    key: EnrolmentKey, attempts: Sequence[Attempt], settings: JobSettings, aggregate_keys: Iterable[str], now_ms: int
) -> AggregateChanges:
    """The changes to the row of aggregates; ``aggregate_keys`` are the keys of its ``aggregates``."""
    request = AssessmentEvent(key, "", now_ms, attempt=None)
    decision = rules.decide(attempts, [request], aggregate_keys, settings.assessment, now_ms)
    assert decision.aggregates is not None  # a recompute request is never stale
    return decision.aggregates


def outnumbered(stored: Mapping[str, float], given: Mapping[str, float]) -> frozenset[str]:
    """The keys of :attr:`Recompute.outnumbered`: ``stored`` is the merged row, ``given`` what the attempts give."""
    return frozenset(
        metric_key(of_attempts, content_id)
        for metric, with_it in ((SCORE, (SCORE, MAX_SCORE)), (ATTEMPTS_COUNT, (ATTEMPTS_COUNT,)))
        for content_id, value in contents_of(metric, given).items()
        if stored.get(metric_key(metric, content_id), value) > value
        for of_attempts in with_it
    )


def _named(details: Iterable[str]) -> Iterable[AttemptKey]:
    for text in details:
        try:
            detail = DETAIL.decode(text)
        except msgspec.DecodeError:
            continue
        yield detail.content_id, detail.attempt_id
