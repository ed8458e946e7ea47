"""The Kafka source and sink of a job, made from its configuration. Runs in the program that submits the job."""

from collections.abc import Sequence
from pathlib import Path

from pyflink.datastream.connectors import DeliveryGuarantee
from pyflink.datastream.connectors.kafka import (
    KafkaOffsetResetStrategy,
    KafkaOffsetsInitializer,
    KafkaSink,
    KafkaSource,
)
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import to_jarray

from common.config.model import JobConfig, KafkaConfig

_KAFKA = "org.apache.flink.kafka.shaded.org.apache.kafka.common"
"""The package of Kafka's client in the connector's jar."""
_FILES = "files"


def source(
    config: JobConfig, topics: Sequence[str], user_id_path: Sequence[str], *, bounded: bool = False
) -> KafkaSource:
    """Emits the values of topics with user id and timestamp, from the group's committed offsets, else the earliest.

    ``user_id_path`` is where an event has its user id. Null values (tombstones) are passed over. A ``bounded`` source
    ends at the last record that each topic has when the job starts.
    """
    builder = (
        KafkaSource.builder()
        .set_bootstrap_servers(config.kafka.bootstrap_servers)
        .set_topics(*topics)
        .set_group_id(config.group_id)
        .set_client_id_prefix(config.group_id)
        .set_starting_offsets(KafkaOffsetsInitializer.committed_offsets(KafkaOffsetResetStrategy.EARLIEST))
        # Another job may send in transactions. Without any, nothing differs.
        .set_property("isolation.level", "read_committed")
        # New partitions of the topics are discovered without a restart.
        .set_property("partition.discovery.interval.ms", "60000")
        # With the default, it fetches again for every few events: at 700 events/s that costs 0.4 CPU-ms per event.
        .set_property("fetch.min.bytes", "65536")
        .set_property("fetch.max.wait.ms", "25")
        # From one broker at a time. With the default of 50 MB, a backlog in many partitions may fill the heap.
        .set_property("fetch.max.bytes", "2097152")
        # A fetch is compressed. What is not are the records of four polls: two wait, one is being read, one is being
        # passed on. With the default of 500, records of a megabyte fill the heap.
        .set_property("max.poll.records", "10")
    )
    for key, value in {**_security(config.kafka), **config.kafka.consumer_properties}.items():
        builder.set_property(key, value)
    names = to_jarray(get_gateway().jvm.java.lang.String, user_id_path)
    builder._j_builder.setDeserializer(get_gateway().jvm.org.sunbird.aggregates.UserKeySchema(names))
    if bounded:
        builder.set_bounded(KafkaOffsetsInitializer.latest())
    return builder.build()


def sink(config: JobConfig) -> KafkaSink:
    """Accepts Rows of topic, key and value. Every record is acknowledged before a checkpoint completes.

    With ``kafka.delivery: exactly_once``, records are sent in transactions that commit with the checkpoint.
    """
    builder = KafkaSink.builder().set_bootstrap_servers(config.kafka.bootstrap_servers)
    transactions: dict[str, str] = {}
    if config.kafka.delivery == "exactly_once":
        # Unique per job and environment, as the group id is: jobs with the same prefix would end each other's
        # transactions.
        builder.set_delivery_guarantee(DeliveryGuarantee.EXACTLY_ONCE).set_transactional_id_prefix(config.group_id)
        transactions["transaction.timeout.ms"] = str(config.kafka.transaction_timeout_ms)
    else:
        builder.set_delivery_guarantee(DeliveryGuarantee.AT_LEAST_ONCE)
    # set_record_serializer needs a private field of Flink's own serializers.
    builder._j_builder.setRecordSerializer(get_gateway().jvm.org.sunbird.aggregates.TopicKeyValueSchema())
    properties = {
        "acks": "all",
        "enable.idempotence": "true",
        "linger.ms": "5",
        # A completion is answered by several AUDIT events of 1 KB that differ little. By default the broker would get
        # them in portions of 16 KB, uncompressed. Kafka's Java client, which Sunbird's consumers use, reads LZ4.
        "batch.size": "65536",
        "compression.type": "lz4",
        # The failed topic must accept whatever the input topic accepted, and base64 makes it longer.
        "max.request.size": str(16 * 1024 * 1024),
    }
    for key, value in {
        **properties,
        **transactions,
        **_security(config.kafka),
        **config.kafka.producer_properties,
    }.items():
        builder.set_property(key, value)
    return builder.build()


def _security(kafka: KafkaConfig) -> dict[str, str]:
    """The connection properties of Kafka's Java clients."""
    properties: dict[str, str] = {"security.protocol": kafka.security_protocol}
    if kafka.security_protocol.startswith("SASL_"):
        assert kafka.sasl_username is not None and kafka.sasl_password is not None  # the configuration checks it
        module = "plain.PlainLoginModule" if kafka.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
        properties["sasl.mechanism"] = kafka.sasl_mechanism
        properties["sasl.jaas.config"] = (
            f"{_KAFKA}.security.{module} required "
            f"username={_quoted(kafka.sasl_username)} password={_quoted(kafka.sasl_password.get_secret_value())};"
        )
    if kafka.security_protocol.endswith("SSL"):
        tls = kafka.tls
        if tls.verify != "hostname":
            properties["ssl.endpoint.identification.algorithm"] = ""
        if tls.ca_file:
            properties |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": tls.ca_file}
        if tls.certificate_file and tls.key_file:
            # Kafka accepts a certificate and its key from separate files only as text. Its clients read that text from
            # the files when they connect; read here, the key would travel in the job graph.
            properties |= {
                "config.providers": _FILES,
                f"config.providers.{_FILES}.class": f"{_KAFKA}.config.provider.DirectoryConfigProvider",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.certificate.chain": _text_of(tls.certificate_file),
                "ssl.keystore.key": _text_of(tls.key_file),
            }
        if tls.key_password:
            properties["ssl.key.password"] = tls.key_password.get_secret_value()
    return properties


def _text_of(file: str) -> str:
    """A property's value for which Kafka's client takes the text of a file (KIP-421)."""
    path = Path(file)
    return f"${{{_FILES}:{path.parent}:{path.name}}}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
