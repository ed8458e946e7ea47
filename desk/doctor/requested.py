"""The certificates that the generator has been asked for, as far back as Kafka keeps the requests."""

import msgspec
from confluent_kafka import KafkaException

from common.config.model import KafkaConfig
from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.servers.kafka import read_to_end, reading_consumer


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
        """Reads the topic up to its present end.

        Raises WorldFault, and TaskFault for a topic that does not exist or that this user may not see: taken for empty,
        it would make everybody look like somebody whose certificate was never requested.
        """
        consumer = reading_consumer(kafka, "support-desk")
        try:
            for value in read_to_end(consumer, kafka.topic(topics.GENERATE_CERTIFICATE_REQUEST)):
                self.add(value)
        except KafkaException as error:
            raise WorldFault(f"Kafka {kafka.bootstrap_servers}: {error.args[0]}") from error
        finally:
            consumer.close()
