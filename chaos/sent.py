"""The messages that the jobs have sent, sorted out by load. Pure, and independent of the code of the jobs."""

import base64
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from chaos.load import CERTIFICATE_REQUESTS, FAILED_TOPIC, Load
from chaos.oracle import AUDITS, CERTIFICATES, REQUESTS, Failed, Observed, Sent
from common.domain import topics

FAILED = tuple(topics.INPUT_OF)
OUTPUTS = (AUDITS, REQUESTS, CERTIFICATES, *FAILED)
"""The topics, without the environment."""

_Cause = tuple[str, int]
"""The user and the time (ms) of an event."""


class _Record(NamedTuple):
    """A Kafka record. Equal ones are copies of one message."""

    key: bytes | None
    value: bytes


@dataclass(slots=True)
class _Copies:
    """How often a message was sent, and when the broker appended the first and the last copy, if that is known."""

    count: int = 0
    appended_ms: tuple[int, int] | None = None

    def add(self, appended_ms: int | None) -> None:
        self.count += 1
        if appended_ms is not None:
            first, last = self.appended_ms or (appended_ms, appended_ms)
            self.appended_ms = min(first, appended_ms), max(last, appended_ms)


class SentMessages:
    """The messages of all loads so far."""

    def __init__(self) -> None:
        self._copies: dict[str, dict[_Record, _Copies]] = {topic: {} for topic in OUTPUTS}
        """By topic."""

    def add(self, topic: str, value: bytes, key: bytes | None = None, appended_ms: int | None = None) -> None:
        """Adds a message on one of the OUTPUTS. ``appended_ms`` is when the broker appended it; None if not known."""
        self._copies[topic].setdefault(_Record(key, value), _Copies()).add(appended_ms)

    def repeats(self, load: Load) -> int:
        """The number of messages that are repeats: more than their events or, for certificates, requests account for.

        A valid event may itself have been sent again; one on a failed topic never is.
        """
        requested = Counter[_Cause]()
        repeats = 0
        for topic, causes in ((AUDITS, load.produced), (REQUESTS, load.produced), (CERTIFICATES, requested)):
            found = Counter[tuple[_Cause, str]]()
            for record, copies in self._about(topic, load):
                sent, count = _to_sent(topic, record, copies), copies.count
                cause = sent.user_id, sent.time_ms
                # The id alone: a repeated request may name another attempt as the latest.
                found[cause, sent.message_id] += count
                if topic == REQUESTS:
                    requested[cause] += count
            repeats += sum(max(0, count - causes[cause]) for (cause, _), count in found.items())
        for topic in FAILED:
            copies_by_event = Counter[bytes]()
            for event, _, count in self._failed(topic, load):
                copies_by_event[event] += count
            repeats += sum(count - 1 for count in copies_by_event.values())
        return repeats

    def of(self, load: Load) -> Observed:
        """The messages about the learners of a load. All other messages are left out."""
        audits, requests, certificates = (
            [_to_sent(topic, record, copies) for record, copies in self._about(topic, load)]
            for topic in (AUDITS, REQUESTS, CERTIFICATES)
        )
        failed = {topic: defaultdict[bytes, set[Failed]](set) for topic in FAILED}
        for topic, by_event in failed.items():
            for event, rest, _ in self._failed(topic, load):
                by_event[event].add(rest)
        return Observed(
            audits=audits,
            requests=requests,
            certificates=certificates,
            failed={topic: dict(by_event) for topic, by_event in failed.items()},
        )

    def _about(self, topic: str, load: Load) -> Iterator[tuple[_Record, _Copies]]:
        course_id = load.course.course_id.encode()
        # What the load itself has sent there is no message of a job.
        own = load.failed[FAILED_TOPIC[CERTIFICATE_REQUESTS]] if topic == REQUESTS else {}
        return (
            (record, copies)
            for record, copies in self._copies[topic].items()
            if course_id in record.value and record.value not in own
        )

    def _failed(self, topic: str, load: Load) -> Iterator[tuple[bytes, Failed, int]]:
        """Each event, what else its message has, and how often the message was sent."""
        course_id = load.course.course_id.encode()
        for record, copies in self._copies[topic].items():
            event, rest = _unwrapped(record)
            if course_id in event:
                yield event, rest, copies.count


def _to_sent(topic: str, record: _Record, copies: _Copies) -> Sent:
    body = msgspec.json.decode(record.value)
    message_id, edata = body.pop("mid"), body["edata"]
    sent = Sent(body["actor"]["id"], body["ets"], message_id, body, key=record.key, appended_ms=copies.appended_ms)
    if topic == CERTIFICATES:
        return sent._replace(user_id=edata["userId"])
    if topic == REQUESTS:
        return sent._replace(user_id=edata["userIds"][0], attempt_id=edata.pop("attemptId", None))
    return sent._replace(more_ids=(body["context"].pop("sid"), body["context"].pop("did")))


def _unwrapped(record: _Record) -> tuple[bytes, Failed]:
    """The event in a message on a failed topic, as rule G3 of ``docs/jobs.md`` describes it, and the rest of it.

    The event is as it was sent, byte for byte, if that was JSON without blanks and without fractions. A message of
    another form is returned whole.
    """
    try:
        message = json.loads(record.value)
        metadata = message["metadata"]
        rest = Failed(metadata.pop("src"), metadata.pop("validation_error"), record.key)
        if metadata.pop("encoding", None) == "base64":
            return base64.b64decode(message["payload"], validate=True), rest
        if own := metadata.get("original", metadata):
            message["metadata"] = own
        else:
            del message["metadata"]
        return json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode(), rest
    except (ValueError, LookupError, TypeError, AttributeError):
        return record.value, Failed("", "", record.key)
