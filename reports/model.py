"""What both reports are made of: batches, collections, enrolments, learners. Pure."""

from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

Learner = Mapping[str, str]
"""The Redis hash ``user:<id>``."""

_LEGACY_TIME = "%Y-%m-%d %H:%M:%S:%f%z"
"""``yyyy-MM-dd HH:mm:ss:SSSZ``, in which the services wrote times as texts."""


class ReportError(Exception):
    """A report cannot be made because of its data; the text is shown to the requester."""


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


class EnrolmentRow(NamedTuple):
    """A row of ``user_enrolments``. Any column but the key may be unset: see :attr:`is_reported`."""

    user_id: str
    course_id: str
    batch_id: str
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

        An ended enrolment has ``active`` false. A row without ``active`` or without a date was written by a content
        state update for somebody who never enrolled.
        """
        return self.active is True and (self.enrolled_date is not None or self.enrolleddate is not None)

    @property
    def enrolled_on(self) -> datetime | None:
        """``enrolled_date``, or the older text column ``enrolleddate``; None if neither holds a time."""
        if self.enrolled_date is not None or self.enrolleddate is None:
            return self.enrolled_date
        try:
            return datetime.strptime(self.enrolleddate, _LEGACY_TIME)
        except ValueError:
            return None

    @property
    def has_certificate(self) -> bool:
        """Whether a certificate was issued."""
        return bool(self.certificates) or bool(self.issued_certificates)


def common_cells(collection: Collection, batch: Batch, user_id: str) -> dict[str, str]:
    """The first cells of every row, by column.

    The batch id gets a prefix because spreadsheets show a long number as an exponent.
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

    ``channel`` is the requester's organisation, or None for an operator, who sees everybody. The organisation that
    owns the collection sees all its learners; any other sees only its own. A blank one is nobody's: a collection may
    have none.
    """
    if channel is None:
        return True
    return not is_blank(channel) and channel in (collection.channel, learner.get("rootorgid"))


def is_blank(channel: str) -> bool:
    """Whether this names no organisation."""
    return not channel.strip()


def local_time(moment: datetime, zone: tzinfo) -> datetime:
    """``moment`` in ``zone``. A moment without a zone is taken as UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(zone)
