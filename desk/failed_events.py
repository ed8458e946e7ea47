"""The failed topics as a whole: how much is on them, by topic and reason, and the replay of a selection."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from confluent_kafka import Message

from common.domain import messages, topics
from common.domain.enrolments import EnrolmentKey
from common.domain.events import BadEvent
from desk import topic_search
from desk.config import DeskKafkaConfig
from desk.records import FailedMessage
from desk.topic_search import failed_message, search

MAX_SHOWN = 200
"""Events on one page; the latest ones."""

MAX_TEXT = 100_000
"""Bytes of one event that are shown. An event may have megabytes, and a page is held in memory."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which events are shown; None stands for any. ``reason`` is one of :func:`kind_of`.

    Of a learner in a batch they are those that the learner's page counts.
    """

    topic: str | None = None
    reason: str | None = None
    learner: EnrolmentKey | None = None


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """A failed event with its text, of which the last ``left_out`` bytes are missing. ``place`` is what forms send."""

    message: FailedMessage
    user_id: str
    text: str
    left_out: int = 0

    @property
    def place(self) -> str:
        """``dev.telemetry.assess.failed:0:17``."""
        return f"{self.message.topic}:{self.message.partition}:{self.message.offset}"


@dataclass(slots=True)
class Group:
    """How many events have failed for the same reason."""

    topic: str
    reason: str
    number: int = 0
    latest_ms: int = 0


@dataclass(frozen=True, slots=True)
class FailedEvents:
    """What the failed topics hold: all in ``groups``, those that failed most often first, and the chosen ones.

    ``number`` is how many are chosen, ``latest`` are up to :data:`MAX_SHOWN` of them, the latest one first.
    ``since_ms`` is as in :class:`desk.records.Search`.
    """

    groups: Sequence[Group]
    number: int
    latest: Sequence[FailedEvent]
    since_ms: int | None

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(group.number for group in self.groups)


def failed_events(kafka: DeskKafkaConfig, choice: Choice | None) -> FailedEvents:
    """What the failed topics hold, as far as they are searched. None chooses no event. Raises WorldFault.

    To be called in a thread.
    """
    scan = _Scan(choice)
    found = search(kafka, [kafka.topic(topic) for topic in topics.INPUT_OF], scan.count)
    return scan.result(found.since_ms)


def kind_of(reason: str) -> str:
    """A reason without what differs from event to event: quoted values and words with digits become ``…``.

    So the same fault of many learners is one group.
    """
    words = ["…" if any(character.isdigit() for character in word) else word for word in reason.split(" ")]
    return " ".join(words)


_Kept = tuple[tuple[int, int, str, int], FailedMessage, bytes, bytes, int]
"""Time, offset, topic and partition, by which events are in order; the message, its key, its text, its whole size."""


class _Scan:
    """Counts events one by one. It keeps none but those that are shown: the topics may hold gigabytes."""

    def __init__(self, choice: Choice | None) -> None:
        self._choice = choice
        self._groups: dict[tuple[str, str], Group] = {}
        self._number = 0
        self._latest: list[_Kept] = []

    def count(self, message: Message) -> bool:
        """Takes what is needed of an event. False, so that the search keeps nothing of it."""
        found = failed_message(message)
        kind = kind_of(found.reason)
        group = self._groups.setdefault((found.topic, kind), Group(found.topic, kind))
        group.number += 1
        group.latest_ms = max(group.latest_ms, found.time_ms)
        if self._choice is not None and _is_chosen(message, group, self._choice):
            self._number += 1
            self._keep(message, found)
        return False

    def _keep(self, message: Message, found: FailedMessage) -> None:
        value = message.value() or b""
        order = (found.time_ms, found.offset, found.topic, found.partition)
        kept = (order, found, message.key() or b"", value[:MAX_TEXT], len(value))
        if len(self._latest) < MAX_SHOWN:
            heapq.heappush(self._latest, kept)
        else:
            heapq.heappushpop(self._latest, kept)

    def result(self, since_ms: int | None) -> FailedEvents:
        """To be called at the end of the search."""
        groups = sorted(self._groups.values(), key=lambda group: (-group.number, group.topic, group.reason))
        latest = [
            FailedEvent(found, key.decode(errors="replace"), _text(value), size - len(value))
            for _, found, key, value, size in sorted(self._latest, reverse=True)
        ]
        return FailedEvents(groups, self._number, latest, since_ms)


def _is_chosen(message: Message, group: Group, choice: Choice) -> bool:
    return (
        choice.topic in (None, group.topic)
        and choice.reason in (None, group.reason)
        and (choice.learner is None or _is_of(message, choice.learner))
    )


def _is_of(message: Message, learner: EnrolmentKey) -> bool:
    user_id = learner.user_id.encode()
    # Few events have the bytes of the id, and only these are decoded.
    has_id = message.key() == user_id or user_id in (message.value() or b"")
    return has_id and topic_search.is_failed_for(message, learner)


def _text(value: bytes) -> str:
    """An event with indents; as it came if it is no JSON, or nested so deeply that the indents would fill the page."""
    try:
        formatted = msgspec.json.format(value)
    except (msgspec.DecodeError, RecursionError):
        return value.decode(errors="replace")
    return (formatted if len(formatted) <= MAX_TEXT else value).decode(errors="replace")


def to_replay(kafka: DeskKafkaConfig, places: Sequence[str]) -> list[messages.Message]:
    """The chosen events as they are sent to the input topics again. In a thread. Raises WorldFault.

    Events that are no longer on the topic, or cannot be restored, are left out.
    """
    wanted = set(places)
    inputs = {kafka.topic(failed): kafka.topic(topic) for failed, topic in topics.INPUT_OF.items()}
    found = search(kafka, list(inputs), lambda message: _place(message) in wanted)
    again = []
    for message in found.messages:
        try:
            event = messages.repaired(message.value() or b"")
        except BadEvent:
            continue
        again.append(messages.Message(inputs[message.topic()], event, message.key()))
    return again


def _place(message: Message) -> str:
    return f"{message.topic()}:{message.partition()}:{message.offset()}"
