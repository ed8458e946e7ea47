"""Enrolments with many attempts: most of these need not be read, because the row of aggregates says enough of them.

The questions of an attempt take 4 KB, which Cassandra has to pass over to read a few numbers: see
``docs/decisions/many-attempts.md``. Pure, but for what :class:`LargeEnrolments` remembers.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

import msgspec

from common.domain.enrolments import EnrolmentKey
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.rules import Attempt, AttemptKey, Detail

LARGE = 50
"""An enrolment is large if an event leaves at least so many attempts unread. An estimate from the costs of 200."""

_MIN_CONTENTS = 3
"""That of the event, and two others: see :func:`details_of_others`."""
_REMEMBERED = 50_000
_DECODER = msgspec.json.Decoder(Detail)


class LargeEnrolments:
    """The enrolments that had many attempts when all were read. What it has forgotten only costs time."""

    def __init__(self) -> None:
        """Knows none. Keeps hashes, so that long ids take no more memory than short ones: at most 8 MB."""
        self._hashes: set[int] = set()

    def __contains__(self, enrolment: EnrolmentKey) -> bool:
        """Also true for another enrolment with the same hash, which does no harm."""
        return hash(enrolment) in self._hashes

    def note(self, enrolment: EnrolmentKey, attempts: Collection[Attempt]) -> None:
        """Remembers the enrolment if these, all of its attempts, are many also without those at any one content."""
        if len(attempts) < LARGE:
            return
        of_contents = Counter(attempt.content_id for attempt in attempts)
        if len(of_contents) < _MIN_CONTENTS or len(attempts) - max(of_contents.values()) < LARGE:
            return
        if len(self._hashes) == _REMEMBERED:
            self._hashes.clear()
        self._hashes.add(hash(enrolment))


def details_of_others(
    aggregates: Mapping[str, float], agg_details: Sequence[str], content_ids: Collection[str]
) -> dict[AttemptKey, str] | None:
    """The elements of ``agg_details`` for the attempts at all contents but ``content_ids``.

    ``aggregates`` and ``agg_details`` are those of one row. None if the row is not as this job writes it, and all
    attempts have to be read: the two columns contradict each other, an element is not one of this job's, or there are
    fewer than two other contents (rule A9 asks for the latest attempt if there is only one content).
    """
    details: dict[AttemptKey, str] = {}
    attempts: list[Attempt] = []
    try:
        for text in agg_details:
            detail = _DECODER.decode(text)
            if detail.content_id not in content_ids:
                details[detail.content_id, detail.attempt_id] = text
                attempts.append(
                    Attempt(detail.content_id, detail.attempt_id, None, None, detail.score, detail.max_score)
                )
    except msgspec.DecodeError:
        return None
    # Also finds an attempt that is there twice.
    if not all(earlier < later for earlier, later in pairwise(map(rules.attempt_key, attempts))):
        return None
    if len({attempt.content_id for attempt in attempts}) < 2:
        return None
    stored = {key: value for key, value in aggregates.items() if rules.is_of_other_content(key, content_ids)}
    return details if stored == rules.aggregates_of(attempts) else None
