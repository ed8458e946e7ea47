"""What both reports are made of: batches, collections, enrolments, learners. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

Learner = Mapping[str, str]
"""The Redis hash ``user:<id>``."""

_LEGACY_TIME = "%Y-%m-%d %H:%M:%S:%f%z"
"""``yyyy-MM-dd HH:mm:ss:SSSZ``, in which the services wrote times as texts."""


class ReportError(Exception):
    """A batch or a request cannot be reported; the text is what the requester reads."""


class Batch(NamedTuple):
    """A row of ``course_batch``."""

    course_id: str
    batch_id: str
    name: str | None


class Collection(NamedTuple):
    """A course as the content search knows it."""

    course_id: str
    name: str
    channel: str


class Enrolment(NamedTuple):
    """A row of ``user_enrolments``. Any column but the key may be unset: see :attr:`is_reported`."""

    user_id: str
    active: bool | None
    enrolled_date: datetime | None
    enrolleddate: str | None
    completedon: datetime | None
    contentstatus: Mapping[str, int] | None
    certificates: list[Mapping[str, str]] | None
    issued_certificates: list[Mapping[str, str]] | None

    @property
    def is_reported(self) -> bool:
        """Whether the learner is enrolled.

        Not so where the enrolment was ended, nor where the row was made by a content state update for a user who was
        never enrolled: it has neither ``active`` nor a date.
        """
        return self.active is True and (self.enrolled_date is not None or self.enrolleddate is not None)

    @property
    def enrolled_on(self) -> datetime | None:
        """``enrolled_date``, else the time in its legacy twin; None if that is no time."""
        if self.enrolled_date is not None or self.enrolleddate is None:
            return self.enrolled_date
        try:
            return datetime.strptime(self.enrolleddate, _LEGACY_TIME)
        except ValueError:
            return None

    @property
    def has_certificate(self) -> bool:
        """Whether one was issued."""
        return bool(self.certificates) or bool(self.issued_certificates)


def common_cells(collection: Collection, batch: Batch, user_id: str) -> dict[str, str]:
    """The cells that every row of both reports begins with, by column.

    The batch id has a prefix, because spreadsheets would turn the number into an exponent.
    """
    return {
        "courseid": collection.course_id,
        "collectionName": collection.name,
        "batchid": f"BatchId_{batch.batch_id}",
        "batchName": batch.name or "",
        "userid": user_id,
    }


def is_visible(learner: Learner, collection: Collection, channel: str | None) -> bool:
    """Whether the requester may see this learner.

    ``channel`` is the requester's organisation, None for an operator who sees all. Who does not own the collection
    sees the learners of the own organisation.
    """
    return channel is None or channel == collection.channel or learner.get("rootorgid") == channel


def local_time(moment: datetime, zone: tzinfo) -> datetime:
    """``moment`` in ``zone``; one without a zone is UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone)
