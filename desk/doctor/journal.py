"""What a repair has sent. It is written before and after each sending, so that nothing is sent twice after a kill."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from common.config.model import KafkaConfig
from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from desk import remedies
from desk.remedies import Remedy


class Event(msgspec.Struct, frozen=True):
    """An event to send. The same fields give the same bytes."""

    remedy: Remedy
    user_id: str
    course_id: str
    batch_id: str
    content_id: str
    time_ms: int

    @property
    def key(self) -> EnrolmentKey:
        """Whom it is about."""
        return EnrolmentKey(self.user_id, self.course_id, self.batch_id)

    def message(self, kafka: KafkaConfig) -> Message:
        """The Kafka message."""
        return remedies.event(self.remedy, self.key, self.content_id, self.time_ms, kafka)


Ends = Mapping[str, Mapping[int, int]]
"""The end offset of each partition, by topic."""


class Intent(msgspec.Struct, frozen=True, tag="intent"):
    """The events that are sent next. From ``ends`` on the topics hold those that were sent."""

    number: int
    ends: Ends
    events: Sequence[Event]


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """The brokers have all events of an intent, but those that were not sent, because nobody wanted them any more."""

    number: int
    not_sent: Sequence[Event] = ()


class JournalError(Exception):
    """The journal cannot be used. The text says where and why."""


_LINE = msgspec.json.Decoder(Intent | Sent)
_BEGINNINGS = (b'{"type":"intent",', b'{"type":"sent",')


def _is_begun(line: bytes) -> bool:
    """Whether this may be a line that was being written."""
    return any(line.startswith(beginning) or beginning.startswith(line) for beginning in _BEGINNINGS)


class Journal:
    """The journal of one file of findings."""

    def __init__(self, path: Path) -> None:
        """Creates it or reads it. Raises JournalError."""
        self.path = path
        self.sent: dict[tuple[Remedy, EnrolmentKey], Event] = {}
        """The events that the brokers have."""
        self.open_intent: Intent | None = None
        """Events that may have been sent: the process was killed in between."""
        self._number = 0
        try:
            self._read()
            self._file = path.open("ab")
        except OSError as error:
            raise JournalError(f"{path} cannot be written: {error.strerror}") from error

    def _read(self) -> None:
        if not self.path.exists():
            return
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    if not _is_begun(line):
                        raise JournalError(f"{self.path}, line {number}: no line of a journal")
                    break  # it was being written, so nothing was sent for it
                end += len(line)
                try:
                    self._apply(_LINE.decode(line))
                except msgspec.DecodeError as error:
                    raise JournalError(f"{self.path}, line {number}: no line of a journal: {error}") from error
        os.truncate(self.path, end)

    def _apply(self, line: Intent | Sent) -> None:
        if isinstance(line, Intent):
            self.open_intent, self._number = line, line.number
        elif self.open_intent is not None:
            not_sent = {(event.remedy, event.key) for event in line.not_sent}
            of_intent = {(event.remedy, event.key): event for event in self.open_intent.events}
            self.sent |= {key: event for key, event in of_intent.items() if key not in not_sent}
            self.open_intent = None

    def intend(self, ends: Ends, events: Sequence[Event]) -> None:
        """To be called before the events are sent."""
        self._add(Intent(self._number + 1, ends, events))

    def confirm(self, not_sent: Sequence[Event] = ()) -> None:
        """To be called when the brokers have all events of the last intent but ``not_sent``."""
        self._add(Sent(self._number, not_sent))

    def _add(self, line: Intent | Sent) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._apply(line)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
