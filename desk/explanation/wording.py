"""How values are written in sentences and evidence. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, tzinfo

from common.domain.events import MAX_TIME_MS, MIN_TIME_MS, to_datetime
from desk.records import LearnerRecord
from desk.sentences import Sentences

MAX_NAMED = 5
"""Contents that a sentence names; the evidence has all of them."""


@dataclass(frozen=True, slots=True)
class Wording:
    """The language, the time zone, and whether personal data may be shown."""

    sentences: Sentences
    zone: tzinfo
    show_names: bool = False

    @property
    def zone_name(self) -> str:
        """The time zone of all times, said once a page: ``UTC``, ``Asia/Kolkata``."""
        return str(self.zone)

    def day(self, moment: datetime | int) -> str:
        """A day: ``14 May 2024``. ``moment`` is aware, or ms since 1970."""
        return _day(self._local(moment))

    def time(self, moment: datetime | int) -> str:
        """A time to the second: ``14 May 2024, 09:12:40``."""
        return f"{self.day(moment)}, {self._local(moment):%H:%M:%S}"

    def stored_day(self, text: str) -> str:
        """A date that is stored as text, ``2024-05-14``, as :meth:`day` writes it; other texts as they are."""
        try:
            return _day(date.fromisoformat(text))
        except ValueError:
            return text

    def _local(self, moment: datetime | int) -> datetime:
        if isinstance(moment, int):
            # Producers may put anything into the timestamp of a Kafka message, such as microseconds.
            moment = to_datetime(min(max(moment, MIN_TIME_MS), MAX_TIME_MS))
        return moment.astimezone(self.zone)

    def some(self, texts: Sequence[str]) -> str:
        """The texts in a row, the first ones by name and the rest by number."""
        if len(texts) <= MAX_NAMED + 1:
            return ", ".join(texts)
        shown = ", ".join(texts[:MAX_NAMED])
        return self.sentences.say("and_more", shown=shown, number=len(texts) - MAX_NAMED)


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def content_name(record: LearnerRecord, content_id: str) -> str:
    """A content for people: ``Quiz 1 (do_1)``, or the id alone."""
    name = record.names.get(content_id)
    return f"{name} ({content_id})" if name else content_id


def percent_text(percent: float, limits: Iterable[float] = ()) -> str:
    """A percentage with one decimal, or as many as it takes to see on which side of the limits it is.

    74.96 is not shown as 75.0 where 75 is asked for.
    """
    for decimals in range(1, 10):
        text = f"{percent:.{decimals}f}"
        if all(
            (float(text) > limit) == (percent > limit) and (float(text) < limit) == (percent < limit)
            for limit in limits
        ):
            return text
    return repr(percent)


def shown(value: object) -> str:
    """A stored value as evidence shows it."""
    return "unset" if value is None else str(value)
