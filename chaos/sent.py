"""The messages that the jobs have sent, sorted out by load. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec

from chaos.load import Load
from chaos.oracle import AUDITS, CERTIFICATES, REQUESTS, Failed, Observed, Sent
from common.domain import topics
from common.domain.messages import repaired

FAILED = tuple(topics.INPUT_OF)
OUTPUTS = (AUDITS, REQUESTS, CERTIFICATES, *FAILED)
"""The topics, without the environment."""

_Cause = tuple[str, int]
"""The user and the time (ms) of an event."""


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
        self._copies: dict[str, dict[bytes, _Copies]] = {topic: {} for topic in OUTPUTS}
        """By value, by topic."""

    def add(self, topic: str, value: bytes, appended_ms: int | None = None) -> None:
        """Adds a message on one of the OUTPUTS. ``appended_ms`` is when the broker appended it; None if not known."""
        self._copies[topic].setdefault(value, _Copies()).add(appended_ms)

    def repeats(self, load: Load) -> int:
        """The number of messages that are repeats: more than their events or, for certificates, requests account for.

        A valid event may itself have been sent again; one on a failed topic never is.
        """
        requested = Counter[_Cause]()
        repeats = 0
        for topic, causes in ((AUDITS, load.produced), (REQUESTS, load.produced), (CERTIFICATES, requested)):
            found = Counter[tuple[_Cause, str]]()
            for value, copies in self._about(topic, load):
                sent, count = _to_sent(topic, value, copies), copies.count
                cause = sent.user_id, sent.time_ms
                # The id alone: a repeated request may name another attempt as the latest.
                found[cause, sent.message_id] += count
                if topic == REQUESTS:
                    requested[cause] += count
            repeats += sum(max(0, count - causes[cause]) for (cause, _), count in found.items())
        course_id = load.course.course_id.encode()
        return repeats + sum(
            copies.count - 1
            for topic in FAILED
            for value, copies in self._copies[topic].items()
            if course_id in repaired(value)
        )

    def of(self, load: Load) -> Observed:
        """The messages about the learners of a load. All other messages are left out."""
        audits, requests, certificates = (
            [_to_sent(topic, value, copies) for value, copies in self._about(topic, load)]
            for topic in (AUDITS, REQUESTS, CERTIFICATES)
        )
        course_id = load.course.course_id.encode()
        return Observed(
            audits=audits,
            requests=requests,
            certificates=certificates,
            failed={
                topic: {
                    event: _to_failed(value) for value in self._copies[topic] if course_id in (event := repaired(value))
                }
                for topic in FAILED
            },
        )

    def _about(self, topic: str, load: Load) -> Iterator[tuple[bytes, _Copies]]:
        course_id = load.course.course_id.encode()
        return ((value, copies) for value, copies in self._copies[topic].items() if course_id in value)


def _to_sent(topic: str, value: bytes, copies: _Copies) -> Sent:
    body = msgspec.json.decode(value)
    message_id, edata = body.pop("mid"), body["edata"]
    if topic == CERTIFICATES:
        return Sent(edata["userId"], body["ets"], message_id, body)
    if topic == REQUESTS:
        attempt_id = edata.pop("attemptId", None)
        return Sent(edata["userIds"][0], body["ets"], message_id, body, attempt_id, appended_ms=copies.appended_ms)
    more_ids = (body["context"].pop("sid"), body["context"].pop("did"))
    return Sent(body["actor"]["id"], body["ets"], message_id, body, more_ids=more_ids)


def _to_failed(value: bytes) -> Failed:
    metadata = msgspec.json.decode(value)["metadata"]
    return Failed(metadata["src"], metadata["validation_error"])
