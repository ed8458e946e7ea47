"""Enrolments with many attempts: most of these need not be read, because the row of aggregates says enough of them.

The questions of an attempt take 4 KB, which Cassandra has to pass over to read a few numbers: see
``docs/decisions/many-attempts.md``. Pure, but for what :class:`LargeEnrolments` remembers.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import msgspec

from common.domain.enrolments import EnrolmentKey
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.rules import Attempt, AttemptKey, Detail, Unread, attempt_key

LARGE = 50
"""An enrolment with so many attempts is large. An estimate from the costs of 200."""

_REMEMBERED = 50_000
_DECODER = msgspec.json.Decoder(Detail)


class LargeEnrolments:
    """The enrolments that had many attempts when all were read. What it has forgotten only costs time."""

    def __init__(self) -> None:
        """Knows none. Keeps hashes, so that long ids take no more memory than short ones: at most 5 MB."""
        self._hashes: set[int] = set()

    def __contains__(self, enrolment: EnrolmentKey) -> bool:
        """Also true for another enrolment with the same hash, which does no harm."""
        return hash(enrolment) in self._hashes

    def note(self, enrolment: EnrolmentKey, attempts: Collection[Attempt]) -> None:
        """Remembers the enrolment if these, all of its attempts, are many, and at more than one content."""
        if len(attempts) < LARGE or _is_one_content(attempts):
            return
        if len(self._hashes) == _REMEMBERED:
            self._hashes.clear()
        self._hashes.add(hash(enrolment))


def unread_attempts(
    aggregates: Mapping[str, float], agg_details: Sequence[str], read: Collection[AttemptKey]
) -> Unread | None:
    """What ``agg_details`` says of all attempts but those that are ``read``.

    ``aggregates`` and ``agg_details`` are those of one row. None if the row is not as this job writes it, and all
    attempts have to be read: the two columns contradict each other, an element is not one of this job's, or there is
    only one content (rule A9 asks for its latest attempt, and the texts of the times have no ms).
    """
    try:
        details = [_DECODER.decode(text) for text in agg_details]
    except msgspec.DecodeError:
        return None
    keys = [attempt_key(detail) for detail in details]
    # Also finds an attempt that is there twice.
    if _is_one_content(details) or not all(earlier < later for earlier, later in pairwise(keys)):
        return None
    stored = {key: value for key, value in aggregates.items() if rules.is_of_other_content(key, ())}
    if stored != rules.aggregates_of(details):
        return None
    unread = dict(zip(keys, zip(details, agg_details, strict=True), strict=True))
    for key in read:
        unread.pop(key, None)
    return unread


def _is_one_content(attempts: Collection[Attempt | Detail]) -> bool:
    return len({attempt.content_id for attempt in attempts}) < 2
