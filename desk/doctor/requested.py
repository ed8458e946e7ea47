"""The certificates that the generator has been asked for, as far back as Kafka keeps the requests."""

from collections.abc import Iterator, Mapping

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from common.config.model import KafkaConfig
from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.servers.kafka import client_properties, watermarks

_TIMEOUT_SECONDS = 30.0


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
        consumer = reading_consumer(kafka, "support-desk")
        try:
            for value in read_to_end(consumer, kafka.topic(topics.GENERATE_CERTIFICATE_REQUEST)):
                self.add(value)
        except KafkaException as error:
            raise WorldFault(f"Kafka {kafka.bootstrap_servers}: {error.args[0]}") from error
        finally:
            consumer.close()


def reading_consumer(kafka: KafkaConfig, group: str) -> Consumer:
    """A consumer that commits nothing, and is told where a partition ends."""
    settings = {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    return Consumer({**client_properties(kafka), **settings})


def read_to_end(consumer: Consumer, topic: str, start: Mapping[int, int] | None = None) -> Iterator[bytes]:
    """The values of a topic up to its present end, from ``start`` (offsets by partition) or from its beginning.

    ``consumer`` is a :func:`reading_consumer`. A topic that does not exist is empty. Raises KafkaException.
    """
    found = consumer.list_topics(timeout=_TIMEOUT_SECONDS).topics
    for number in found[topic].partitions if topic in found else ():
        first, end = watermarks(consumer, TopicPartition(topic, number), _TIMEOUT_SECONDS)
        begin = max(first, (start or {}).get(number, first))
        if begin < end:
            consumer.assign([TopicPartition(topic, number, begin)])
            yield from _values_before(consumer, end)


def _values_before(consumer: Consumer, end: int) -> Iterator[bytes]:
    """Of the assigned partition. The last offsets may be those of a transaction and hold no message."""
    while True:
        # Not consume(): it waits until it has as many messages as were asked for.
        message = consumer.poll(_TIMEOUT_SECONDS)
        if message is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        error = message.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        if error is not None or message.offset() >= end:
            return
        yield message.value() or b""
        if message.offset() == end - 1:
            return
