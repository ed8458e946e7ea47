"""The certificates that the generator has been asked for, as far back as Kafka keeps the requests."""

from collections.abc import Iterator

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from common.config.model import KafkaConfig
from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.servers.kafka import client_properties

_TIMEOUT_SECONDS = 30.0
_MESSAGES = 1_000


class _Related(msgspec.Struct, rename="camel", frozen=True):
    batch_id: str = ""
    course_id: str = ""


class _Edata(msgspec.Struct, rename="camel"):
    user_id: str = ""
    name: str = ""
    related: _Related = _Related()


class _Request(msgspec.Struct):
    edata: _Edata


_REQUEST = msgspec.json.Decoder(_Request)


class Requested:
    """Names of templates by enrolment. About 300 bytes for each request that Kafka holds."""

    def __init__(self) -> None:
        self._names: dict[EnrolmentKey, frozenset[str]] = {}

    def of(self, key: EnrolmentKey) -> frozenset[str]:
        """The names of the templates for which a certificate was requested."""
        return self._names.get(key, frozenset())

    def add(self, value: bytes) -> None:
        """Adds a message of ``generate.certificate.request``. Others than those of our kind are passed over."""
        try:
            edata = _REQUEST.decode(value).edata
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        key = EnrolmentKey(edata.user_id, edata.related.course_id, edata.related.batch_id)
        self._names[key] = self.of(key) | {edata.name}

    def read(self, kafka: KafkaConfig) -> None:
        """Reads the topic up to its present end; a topic that does not exist is empty. Raises WorldFault."""
        consumer = Consumer(
            {**client_properties(kafka), "group.id": "support-desk", "enable.auto.commit": False, "log_level": 0}
        )
        try:
            for value in read_to_end(consumer, kafka.topic(topics.GENERATE_CERTIFICATE_REQUEST)):
                self.add(value)
        except KafkaException as error:
            raise WorldFault(f"Kafka {kafka.bootstrap_servers}: {error.args[0]}") from error
        finally:
            consumer.close()


def read_to_end(consumer: Consumer, topic: str, start: dict[int, int] | None = None) -> Iterator[bytes]:
    """The values of a topic up to its present end, from ``start`` (offsets by partition) or from its beginning.

    Raises KafkaException if the broker does not answer in time.
    """
    found = consumer.list_topics(timeout=_TIMEOUT_SECONDS).topics
    for number in found[topic].partitions if topic in found else ():
        position = TopicPartition(topic, number)
        first, end = consumer.get_watermark_offsets(position, _TIMEOUT_SECONDS)
        position.offset = max(first, (start or {}).get(number, first))
        consumer.assign([position])
        # An aborted transaction leaves offsets without a message, so what counts is the position.
        offset = position.offset
        while offset < end:
            messages = consumer.consume(_MESSAGES, 1.0)
            for message in messages:
                if message.error() is not None:
                    raise KafkaException(message.error())
                yield message.value() or b""
            (at,) = consumer.position([position])
            if not messages and at.offset <= offset:
                continue
            offset = max(offset, at.offset)
