"""What the desk reads of a learner in a batch, as plain values. Pure.

Where the jobs have a type for a row, it is used, so that a record goes into their rules as it is. A part that could not
be read is :class:`Unknown`: the explanation then says so instead of guessing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from common.domain.aggregates import merge
from common.domain.enrolments import EnrolmentKey
from common.domain.events import Refused, Skip, to_time_ms
from jobs.activity_aggregate_updater import progress as progress_rules
from jobs.activity_aggregate_updater.relations import CourseStatus, LeafNodes
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator.rules import Attempt
from jobs.collection_cert_pre_processor import rules as certificate_rules
from jobs.collection_cert_pre_processor.answers import User
from jobs.collection_cert_pre_processor.templates import Templates

FoundMessage = TypeVar("FoundMessage")


@dataclass(frozen=True, slots=True)
class Unknown:
    """A part that could not be read, and why: a server did not answer."""

    reason: str


@dataclass(frozen=True, slots=True)
class EnrolmentRow:
    """A row of ``user_enrolments``; None stands for an unset column.

    ``columns`` are those that templates may ask for, by name. ``certificates`` is where certificates of the time before
    ``issued_certificates`` are. The certificate pre-processor does not look at them.
    """

    active: bool | None
    status: int | None
    enrolled_on: datetime | None
    completed_on: datetime | None
    progress: int | None
    content_status: Mapping[str, int] | None
    issued_certificates: Sequence[Mapping[str, str]] | None
    columns: Mapping[str, Any] = field(default_factory=dict)
    certificates: Sequence[Mapping[str, str]] | None = None

    @property
    def held(self) -> list[Mapping[str, str]]:
        """All certificates that the learner holds, the newer column first."""
        return [*(self.issued_certificates or ()), *(self.certificates or ())]

    def holds(self, template_name: str) -> bool:
        """Whether the learner has a template's certificate. One of the older column counts, whatever its name is."""
        return bool(self.certificates) or bool(self.issued(template_name))

    def issued(self, template_name: str) -> Mapping[str, str]:
        """The certificate of a template, by its name in any case (rule C3); empty if there is none."""
        name = template_name.casefold()
        return next((one for one in self.issued_certificates or () if one.get("name", "").casefold() == name), {})

    @property
    def is_phantom(self) -> bool:
        """Whether nobody has made this enrolment: see :attr:`progress_rules.EnrolmentRow.is_phantom`."""
        return self.for_progress().is_phantom

    def for_progress(self) -> progress_rules.EnrolmentRow:
        """The row as the activity aggregate updater reads it."""
        completed_on_ms = None if self.completed_on is None else to_time_ms(self.completed_on)
        return progress_rules.EnrolmentRow(
            self.active, self.status, completed_on_ms, self.content_status, self.progress
        )

    def for_certificates(self) -> certificate_rules.EnrolmentRow:
        """The row as the certificate pre-processor reads it."""
        return certificate_rules.EnrolmentRow(
            self.active, self.status, self.completed_on, self.issued_certificates, self.columns
        )


@dataclass(frozen=True, slots=True)
class ContentRow:
    """A row of ``user_content_consumption``, and when the content was completed, by the content state API."""

    content: Content
    completed_on: datetime | None = None


@dataclass(frozen=True, slots=True)
class AggregatesRow:
    """A learner's row of ``user_activity_agg`` for the course. Null, missing and empty are the same."""

    agg: Mapping[str, int] = field(default_factory=dict)
    aggregates: Mapping[str, float] = field(default_factory=dict)
    last_updated: Mapping[str, datetime] = field(default_factory=dict)
    details: Sequence[str] = ()

    @property
    def merged(self) -> dict[str, float]:
        """Both columns as one, as all readers see them (rule G8)."""
        return merge(self.agg, self.aggregates)


@dataclass(frozen=True, slots=True)
class LearnerRows:
    """The rows of a learner in a batch. ``enrolment`` is None if there is no such row."""

    enrolment: EnrolmentRow | None
    contents: Sequence[ContentRow] = ()
    attempts: Sequence[Attempt] = ()
    aggregates: AggregatesRow = AggregatesRow()


@dataclass(frozen=True, slots=True)
class Course:
    """A course: its name, and its leaf nodes as the relation cache has them.

    ``leaf_nodes`` is None if the cache has none; only then ``status`` was asked for.
    """

    course_id: str
    name: str | Refused | Unknown
    leaf_nodes: LeafNodes | Refused | Unknown | None
    status: CourseStatus | Refused | Unknown | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A row of ``course_batch``. ``exists`` is false if there is none."""

    course_id: str
    batch_id: str
    templates: Templates
    name: str | None = None
    exists: bool = True


@dataclass(frozen=True, slots=True)
class FailedMessage:
    """A message on a failed topic. ``topic`` is its name in the cluster, ``time_ms`` Kafka's timestamp."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    job: str
    reason: str


@dataclass(frozen=True, slots=True)
class CertificateMessage:
    """A request on ``issue.certificate.request``, or one on ``generate.certificate.request`` with its template's name.

    ``time_ms`` is Kafka's timestamp.
    """

    topic: str
    time_ms: int
    template_name: str | None = None


@dataclass(frozen=True, slots=True)
class Search(Generic[FoundMessage]):
    """What a search of topics has found, oldest first.

    ``since_ms`` is the time of the oldest message that was looked at if the search ended at its bound; None if it
    covered all that Kafka has kept.
    """

    messages: Sequence[FoundMessage] = ()
    since_ms: int | None = None


@dataclass(frozen=True, slots=True)
class LearnerRecord:
    """Everything the desk reads of one learner in one batch.

    ``content_types`` has an entry for each content with a score, as the certificate pre-processor's rules take them.
    The doctor leaves it empty where no template has a criterion of the score (:attr:`Templates.need_aggregates`).
    ``names`` are those of contents, without those that have none. ``user`` is None if nothing depends on it.
    """

    key: EnrolmentKey
    now_ms: int
    course: Course
    batch: Batch
    rows: LearnerRows
    content_types: Mapping[str, str | Refused | None] | Unknown = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    user: User | Skip | Refused | Unknown | None = None
    failed: Search[FailedMessage] | Unknown = field(default_factory=Search)
    certificate_messages: Search[CertificateMessage] | Unknown = field(default_factory=Search)

    @property
    def enrolment(self) -> EnrolmentRow | None:
        """The row of ``user_enrolments``."""
        return self.rows.enrolment

    def issued_again(self, requested: Collection[str] = ()) -> list[str]:
        """The templates whose certificate is held or requested, and that each certificate request issues again.

        Rule C3 looks at the certificates of an enrolment only for criteria of the enrolment. ``requested`` are the
        names of templates for which the generator has been asked, beside those of ``certificate_messages``.
        """
        found = self.certificate_messages
        names = {*requested, *(() if isinstance(found, Unknown) else (one.template_name for one in found.messages))}
        return [
            template.name
            for template in self.batch.templates.usable
            if template.criteria.enrolment_status is None
            and (template.name in names or (self.enrolment is not None and self.enrolment.holds(template.name)))
        ]

    @property
    def contents(self) -> Sequence[ContentRow]:
        """The rows of ``user_content_consumption``."""
        return self.rows.contents

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The rows of ``assessment_aggregator``."""
        return self.rows.attempts

    @property
    def aggregates(self) -> AggregatesRow:
        """The row of ``user_activity_agg`` for the course."""
        return self.rows.aggregates
