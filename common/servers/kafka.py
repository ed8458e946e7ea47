"""librdkafka's connection properties, for the programs that run without Flink, and a first login.

The properties of the jobs' sources and sinks, which use Kafka's Java client, are in :mod:`common.flink.source_sink`.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource

from common.config.model import KafkaConfig
from common.domain.faults import TaskFault, WorldFault

_POLL_SECONDS = 0.05
_READ_SECONDS = 30.0
_MAX_TRANSACTION_TIMEOUT = "transaction.max.timeout.ms"
_LEADER_CHANGES = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    # librdkafka's own, when the request waited for a broker that has gone.
    KafkaError._DESTROY_BROKER,
)
"""What is said while a partition gets a leader: after the topic was created, or a broker has stopped."""


def check_login(kafka: KafkaConfig, timeout_seconds: float = 5.0) -> None:
    """Connects once. Raises TaskFault if the login or TLS fails, WorldFault if no broker answers in time.

    A client by itself would try for ever: librdkafka reconnects after a wrong password, too.
    """
    refusals: list[KafkaError] = []

    def note(error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            refusals.append(error)

    name = f"Kafka {kafka.bootstrap_servers}"
    try:
        # Its log would repeat the error several times.
        client = AdminClient({**client_properties(kafka), "error_cb": note, "log_level": 0})
        answer: Future[Any] = client.describe_cluster(request_timeout=timeout_seconds)
        while not answer.done() and not refusals:
            client.poll(_POLL_SECONDS)
        if refusals:
            raise TaskFault(f"{name}: no login with this user, password or certificate: {refusals[0].str()}")
        answer.result()
    except KafkaException as error:
        # For instance, a PEM file is missing or no broker answers.
        raise WorldFault(f"{name}: {error.args[0].str()}") from error


def check_transaction_timeout(kafka: KafkaConfig, timeout_ms: int, timeout_seconds: float = 5.0) -> None:
    """Raises TaskFault if a broker accepts no transaction that may be open for ``timeout_ms``.

    Raises WorldFault if no broker says what it accepts: because none answers, or because this user may not ask.
    """
    name = f"Kafka {kafka.bootstrap_servers}"
    try:
        client = AdminClient({**client_properties(kafka), "log_level": 0})
        brokers = client.list_topics(timeout=timeout_seconds).brokers
        resources = [ConfigResource(ConfigResource.Type.BROKER, str(broker)) for broker in brokers]
        for answer in client.describe_configs(resources, request_timeout=timeout_seconds).values():
            maximum = answer.result()[_MAX_TRANSACTION_TIMEOUT].value
            if timeout_ms > int(maximum):
                raise TaskFault(
                    f"kafka.transaction_timeout_ms ({timeout_ms}) must not be more than {_MAX_TRANSACTION_TIMEOUT} of "
                    f"{name} ({maximum})"
                )
    except KafkaException as error:
        raise WorldFault(f"{name}: {error.args[0].str()}") from error


def watermarks(consumer: Consumer, partition: TopicPartition, timeout_seconds: float) -> tuple[int, int]:
    """The first offset of a partition, and the offset after the last one, from its leader.

    Waits while the partition gets a leader: librdkafka repeats this request only for other errors. Raises
    KafkaException, for these errors after ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            first, end = consumer.get_watermark_offsets(partition, timeout_seconds)
            return int(first), int(end)
        except KafkaException as error:
            if error.args[0].code() not in _LEADER_CHANGES or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SECONDS)


def partitions_of(consumer: Consumer, topic: str, timeout_seconds: float) -> list[TopicPartition]:
    """The partitions of a topic.

    Raises TaskFault if it does not exist, or if this user may not describe it, and KafkaException.
    """
    # By its name: in a list of all topics, one that this user may not describe is missing as if it did not exist.
    found = consumer.list_topics(topic, timeout_seconds).topics[topic]
    if found.error is None:
        return [TopicPartition(topic, number) for number in found.partitions]
    if found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise TaskFault(f"Kafka: this user may not describe the topic {topic}, so nobody knows what it holds")
    if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
        # At once, although watermarks() waits for the same code: there a broker does not have the partition yet. The
        # topic itself stays in the metadata while leaders change. It is missing there only for a moment: while it is
        # created or, with ZooKeeper, at a broker that starts. Commands and pages ask, which can be begun again.
        raise TaskFault(f"Kafka: the topic {topic} does not exist: create it, or check kafka.env and kafka.topics")
    raise KafkaException(found.error)


def reading_consumer(kafka: KafkaConfig, group: str) -> Consumer:
    """A consumer that commits nothing, and is told where a partition ends."""
    settings = {"group.id": group, "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
    return Consumer({**client_properties(kafka), **settings})


def read_to_end(
    consumer: Consumer, topic: str, start: Mapping[int, int] | None = None, ends: Mapping[int, int] | None = None
) -> Iterator[bytes]:
    """The values of a topic from ``start`` or its beginning up to ``ends`` or its present end (offsets by partition).

    ``consumer`` is a :func:`reading_consumer`. Raises KafkaException, and TaskFault as :func:`partitions_of` does.
    """
    for partition in partitions_of(consumer, topic, _READ_SECONDS):
        first, end = watermarks(consumer, partition, _READ_SECONDS)
        begin = max(first, (start or {}).get(partition.partition, first))
        end = min(end, (ends or {}).get(partition.partition, end))
        if begin < end:
            consumer.assign([TopicPartition(topic, partition.partition, begin)])
            yield from _values_before(consumer, end)


def _values_before(consumer: Consumer, end: int) -> Iterator[bytes]:
    """Of the assigned partition. The last offsets may be those of a transaction and hold no message."""
    while True:
        # Not consume(): it waits until it has as many messages as were asked for.
        message = consumer.poll(_READ_SECONDS)
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


def client_properties(kafka: KafkaConfig) -> dict[str, str]:
    """Address, login and TLS of ``kafka`` as confluent-kafka takes them."""
    properties = {"bootstrap.servers": kafka.bootstrap_servers, "security.protocol": kafka.security_protocol}
    if kafka.security_protocol.startswith("SASL_"):
        assert kafka.sasl_username is not None and kafka.sasl_password is not None  # the configuration checks it
        properties |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": kafka.sasl_username,
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    if kafka.security_protocol.endswith("SSL"):
        tls = kafka.tls
        properties["ssl.endpoint.identification.algorithm"] = "https" if tls.verify == "hostname" else "none"
        if tls.ca_file:
            properties["ssl.ca.location"] = tls.ca_file
        if tls.certificate_file and tls.key_file:
            properties |= {"ssl.certificate.location": tls.certificate_file, "ssl.key.location": tls.key_file}
        if tls.key_password:
            properties["ssl.key.password"] = tls.key_password.get_secret_value()
    return properties
