"""Everything that the checks look at, of one learner in one batch, as plain values. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.domain.aggregates import merge
from common.domain.events import Refused
from desk.doctor.findings import Check, Finding
from desk.records import LearnerRecord
from desk.remedies import ASK_FOR_CERTIFICATES, Remedy
from jobs.activity_aggregate_updater.relations import Relations


@dataclass(frozen=True, slots=True)
class StoredTime:
    """A ``timestamp`` as it is stored, in ms since 1970. ``row`` says which row of the table, such as a content id."""

    table: str
    column: str
    row: str
    time_ms: int


@dataclass(frozen=True, slots=True)
class Answers:
    """The column ``question`` of an attempt: the id and the score of each element."""

    content_id: str
    attempt_id: str
    total_score: float | None
    questions: Sequence[tuple[str | None, float | None]]


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A learner's row of ``user_activity_agg`` for a unit."""

    agg: Mapping[str, int] = field(default_factory=dict)
    aggregates: Mapping[str, float] = field(default_factory=dict)

    @property
    def merged(self) -> dict[str, float]:
        """Both columns as one (rule G8)."""
        return merge(self.agg, self.aggregates)


@dataclass(frozen=True, slots=True)
class Chart:
    """The rows of a learner in a batch, and what of the course the rules need for them.

    ``relations`` has the units of the learner's contents; it is Refused if they cannot be used. ``units`` has the row
    of each of these units. ``answers`` is empty if nobody asked for them. ``requested`` are the names of the templates
    for which the generator has been asked for a certificate.
    """

    record: LearnerRecord
    relations: Relations | Refused
    units: Mapping[str, UnitRow] = field(default_factory=dict)
    answers: Sequence[Answers] = ()
    times: Sequence[StoredTime] = ()
    requested: frozenset[str] = frozenset()

    @property
    def issued_again(self) -> bool:
        """Whether a certificate request would issue a certificate again."""
        return bool(self.record.issued_again(self.requested))

    def finding(
        self, check: Check, kind: str, what: str, remedy: Remedy | None = None, content_id: str = ""
    ) -> Finding:
        """A finding about this learner."""
        issues_again = remedy in ASK_FOR_CERTIFICATES and self.issued_again
        return Finding(check, kind, *self.record.key, what, remedy, content_id, issues_again)
