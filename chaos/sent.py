"""The messages that the jobs have sent, sorted out by load. Pure."""

from collections import Counter
from collections.abc import Iterator

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


class SentMessages:
    """The messages of all loads so far."""

    def __init__(self) -> None:
        self._values: dict[str, Counter[bytes]] = {topic: Counter() for topic in OUTPUTS}
        """How often each value was sent, by topic."""

    def add(self, topic: str, value: bytes) -> None:
        """Adds a message on one of the OUTPUTS."""
        self._values[topic][value] += 1

    def repeats(self, load: Load) -> int:
        """The number of messages that are repeats: more than their events or, for certificates, requests account for.

        A valid event may itself have been sent again; one on a failed topic never is.
        """
        requested = Counter[_Cause]()
        repeats = 0
        for topic, causes in ((AUDITS, load.produced), (REQUESTS, load.produced), (CERTIFICATES, requested)):
            found = Counter[tuple[_Cause, str]]()
            for value, count in self._about(topic, load):
                sent = _to_sent(topic, value)
                cause = sent.user_id, sent.time_ms
                # The id alone: a repeated request may name another attempt as the latest.
                found[cause, sent.message_id] += count
                if topic == REQUESTS:
                    requested[cause] += count
            repeats += sum(max(0, count - causes[cause]) for (cause, _), count in found.items())
        course_id = load.course.course_id.encode()
        return repeats + sum(
            count - 1
            for topic in FAILED
            for value, count in self._values[topic].items()
            if course_id in repaired(value)
        )

    def of(self, load: Load) -> Observed:
        """The messages about the learners of a load. All other messages are left out."""
        audits, requests, certificates = (
            [_to_sent(topic, value) for value, _ in self._about(topic, load)]
            for topic in (AUDITS, REQUESTS, CERTIFICATES)
        )
        course_id = load.course.course_id.encode()
        return Observed(
            audits=audits,
            requests=requests,
            certificates=certificates,
            failed={
                topic: {
                    event: _to_failed(value) for value in self._values[topic] if course_id in (event := repaired(value))
                }
                for topic in FAILED
            },
        )

    def _about(self, topic: str, load: Load) -> Iterator[tuple[bytes, int]]:
        course_id = load.course.course_id.encode()
        return ((value, count) for value, count in self._values[topic].items() if course_id in value)


def _to_sent(topic: str, value: bytes) -> Sent:
    body = msgspec.json.decode(value)
    message_id, edata = body.pop("mid"), body["edata"]
    if topic == CERTIFICATES:
        return Sent(edata["userId"], body["ets"], message_id, body)
    if topic == REQUESTS:
        return Sent(edata["userIds"][0], body["ets"], message_id, body, edata.pop("attemptId", None))
    more_ids = (body["context"].pop("sid"), body["context"].pop("did"))
    return Sent(body["actor"]["id"], body["ets"], message_id, body, more_ids=more_ids)


def _to_failed(value: bytes) -> Failed:
    metadata = msgspec.json.decode(value)["metadata"]
    return Failed(metadata["src"], metadata["validation_error"])
