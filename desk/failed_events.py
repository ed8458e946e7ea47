"""The failed topics as a whole: what is on them, by topic and reason, and the replay of a selection."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from confluent_kafka import Message

from common.domain import messages, topics
from common.domain.events import BadEvent
from desk.config import DeskKafkaConfig
from desk.records import FailedMessage, Search
from desk.topic_search import failed_message, search

MAX_SHOWN = 200
"""Events on one page; the latest ones."""


@dataclass(frozen=True, slots=True)
class FailedEvent:
    """A failed event with its text as it came. ``place`` is what a form sends to choose it."""

    message: FailedMessage
    user_id: str
    text: str

    @property
    def place(self) -> str:
        """``dev.telemetry.assess.failed:0:17``."""
        return f"{self.message.topic}:{self.message.partition}:{self.message.offset}"


@dataclass(frozen=True, slots=True)
class Group:
    """How many events have failed for the same reason."""

    topic: str
    reason: str
    number: int
    latest_ms: int


def failed_events(kafka: DeskKafkaConfig) -> Search[FailedEvent]:
    """What the failed topics hold, oldest first, as far as they are searched. In a thread. Raises WorldFault."""
    names = [kafka.topic(topic) for topic in topics.INPUT_OF]
    found = search(kafka, names, lambda _: True)
    return Search([_event(message) for message in found.messages], found.since_ms)


def groups(events: Sequence[FailedEvent]) -> list[Group]:
    """The events by topic and reason; those that have failed most often first.

    Ids and numbers in a reason are left out, so that the same fault of many learners is one group.
    """
    found: dict[tuple[str, str], list[FailedEvent]] = {}
    for event in events:
        found.setdefault((event.message.topic, kind_of(event.message.reason)), []).append(event)
    made = [
        Group(topic, reason, len(of_kind), max(event.message.time_ms for event in of_kind))
        for (topic, reason), of_kind in found.items()
    ]
    return sorted(made, key=lambda group: (-group.number, group.topic, group.reason))


def kind_of(reason: str) -> str:
    """A reason without what differs from event to event: quoted values and words with digits become ``…``."""
    words = ["…" if any(character.isdigit() for character in word) else word for word in reason.split(" ")]
    return " ".join(words)


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


def _event(message: Message) -> FailedEvent:
    key = message.key() or b""
    value = message.value() or b""
    try:
        text = msgspec.json.format(value).decode(errors="replace")
    except msgspec.DecodeError:
        text = value.decode(errors="replace")
    return FailedEvent(failed_message(message), key.decode(errors="replace"), text)


def _place(message: Message) -> str:
    return f"{message.topic()}:{message.partition()}:{message.offset()}"
