"""Searches Kafka's topics for a learner: failed events, and requests for a certificate. Reads only, commits nothing."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.servers.kafka import client_properties, partitions_of, watermarks
from desk.config import DeskKafkaConfig
from desk.records import CertificateMessage, FailedMessage, Search

_POLL_SECONDS = 0.5
_METADATA_SECONDS = 5.0
_BATCH = 1_000
_TIMESTAMP = 1
"""The index of the time in what ``Message.timestamp`` returns."""


_Members = Mapping[str, msgspec.Raw]
"""A JSON object, each member as it came. Events may have failed because of a member's type, so each is read alone."""

Value = TypeVar("Value")


class _FailedMetadata(msgspec.Struct, frozen=True):
    validation_error: str = ""
    src: str = ""


class _Failed(msgspec.Struct):
    metadata: _FailedMetadata = _FailedMetadata()


_FAILED = msgspec.json.Decoder(_Failed)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TEXT = msgspec.json.Decoder(str)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


def failed_for(kafka: DeskKafkaConfig, key: EnrolmentKey) -> Search[FailedMessage]:
    """The failed events of a learner that are of this batch, or do not say of which. As :func:`search`."""
    found = search(kafka, [kafka.topic(topic) for topic in topics.INPUT_OF], _mentions(key))
    failed = [failed_message(message) for message in found.messages if is_failed_for(message, key)]
    return Search(failed, found.since_ms)


def certificate_requests_for(kafka: DeskKafkaConfig, key: EnrolmentKey) -> Search[CertificateMessage]:
    """What both certificate topics hold about a learner in a batch. As :func:`search`."""
    generator = kafka.topic(topics.GENERATE_CERTIFICATE_REQUEST)
    # Of the checks only the latest ones matter, and there is one for each quiz result.
    found = search(kafka, [kafka.topic(topics.ISSUE_CERTIFICATE_REQUEST), generator], _mentions(key), [generator])
    asked = (_certificate(message, key, generator) for message in found.messages)
    return Search([one for one in asked if one is not None], found.since_ms)


def _mentions(key: EnrolmentKey) -> Callable[[Message], bool]:
    user_id = key.user_id.encode()
    return lambda message: message.key() == user_id or user_id in (message.value() or b"")


def search(
    kafka: DeskKafkaConfig,
    topic_names: Sequence[str],
    concerns: Callable[[Message], bool],
    since_of: Collection[str] | None = None,
) -> Search[Message]:
    """The messages that ``concerns`` picks of the latest ones of each topic, oldest first. To be called in a thread.

    The search ends after ``search_messages`` of each partition; then ``since_ms`` says from when on everything was
    looked at, of all these topics or of ``since_of``. If it takes longer than ``search_seconds``, it has failed. Raises
    WorldFault, and TaskFault for a topic that does not exist or that this user may not see: that it holds nothing is
    more than anybody knows.
    """
    properties = {"group.id": "support-desk", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    consumer = Consumer({**client_properties(kafka), **properties})
    try:
        return _search(consumer, kafka, topic_names, concerns, topic_names if since_of is None else since_of)
    except KafkaException as error:
        raise WorldFault(f"Kafka {kafka.bootstrap_servers}: {error.args[0]}") from error
    finally:
        consumer.close()


def _search(
    consumer: Consumer,
    kafka: DeskKafkaConfig,
    topic_names: Sequence[str],
    concerns: Callable[[Message], bool],
    since_of: Collection[str],
) -> Search[Message]:
    ranges = dict(_ranges(consumer, topic_names, kafka.search_messages))
    ends = {partition: bounds.end for partition, bounds in ranges.items() if bounds.start < bounds.end}
    consumer.assign([TopicPartition(*partition, ranges[partition].start) for partition in ends])
    found: list[Message] = []
    oldest_ms: dict[tuple[str, int], int] = {}
    deadline = time.monotonic() + kafka.search_seconds
    while ends and time.monotonic() < deadline:
        for message in consumer.consume(_BATCH, _POLL_SECONDS):
            partition = (message.topic(), message.partition())
            if message.error() is not None:
                # Not by the offset alone: a topic may end with records that are not for consumers.
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                ends.pop(partition, None)
                continue
            oldest_ms.setdefault(partition, message.timestamp()[_TIMESTAMP])
            if concerns(message):
                found.append(message)
            if message.offset() + 1 >= ends.get(partition, 0):
                ends.pop(partition, None)
    if ends:
        raise WorldFault(
            f"Kafka {kafka.bootstrap_servers}: the topics could not be searched within {kafka.search_seconds} s"
        )
    cut = [
        oldest_ms[partition]
        for partition, bounds in ranges.items()
        if bounds.is_cut and partition in oldest_ms and partition[0] in since_of
    ]
    found.sort(key=lambda message: (message.timestamp()[_TIMESTAMP], message.offset()))
    return Search(found, max(cut, default=None))


@dataclass(frozen=True, slots=True)
class _Range:
    start: int
    end: int
    is_cut: bool
    """Whether Kafka holds older messages that are not searched."""


def _ranges(consumer: Consumer, topic_names: Sequence[str], messages: int) -> Iterator[tuple[tuple[str, int], _Range]]:
    for topic in topic_names:
        for partition in partitions_of(consumer, topic, _METADATA_SECONDS):
            first, end = watermarks(consumer, partition, _METADATA_SECONDS)
            yield (topic, partition.partition), _Range(max(first, end - messages), end, end - messages > first)


def failed_message(message: Message) -> FailedMessage:
    """A message of a failed topic, with job and reason as far as it can be read, whatever the event is like."""
    failed = _read(_FAILED, message.value())
    metadata = _FailedMetadata() if failed is None else failed.metadata
    return FailedMessage(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[_TIMESTAMP],
        metadata.src,
        metadata.validation_error,
    )


def is_failed_for(message: Message, key: EnrolmentKey) -> bool:
    """Whether a message of a failed topic is about this enrolment, or about the learner without saying in which."""
    event = _members(message.value())
    users, course_id, batch_id = _about(event, _members(event.get("edata")))
    is_theirs = message.key() == key.user_id.encode() or key.user_id in users
    return is_theirs and course_id in (None, key.course_id) and batch_id in (None, key.batch_id)


def _certificate(message: Message, key: EnrolmentKey, generator: str) -> CertificateMessage | None:
    event = _members(message.value())
    edata = _members(event.get("edata"))
    users, course_id, batch_id = _about(event, edata)
    if key.user_id not in users or (course_id, batch_id) != (key.course_id, key.batch_id):
        return None
    name = _text(edata.get("name")) if message.topic() == generator else None
    return CertificateMessage(message.topic(), message.timestamp()[_TIMESTAMP], name)


def _about(event: _Members, edata: _Members) -> tuple[set[str], str | None, str | None]:
    """The users, the course and the batch of an event, wherever the kinds of events have them."""
    related = _members(edata.get("related"))
    in_list = _read(_LIST, edata.get("userIds")) or ()
    users = {_text(user) for user in (event.get("userId"), edata.get("userId"), *in_list)}
    course_id, batch_id = (
        _text(event.get(name)) or _text(edata.get(name)) or _text(related.get(name)) for name in ("courseId", "batchId")
    )
    return {user for user in users if user}, course_id, batch_id


def _members(raw: msgspec.Raw | bytes | None) -> _Members:
    """The members of an object; none if it is no object."""
    return _read(_MEMBERS, raw) or {}


def _text(raw: msgspec.Raw | None) -> str | None:
    return _read(_TEXT, raw)


def _read(decoder: msgspec.json.Decoder[Value], raw: msgspec.Raw | bytes | None) -> Value | None:
    """None for what is missing or does not fit."""
    try:
        return None if raw is None else decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
