"""The connection properties of librdkafka's clients, for the commands that need no Flink.

The Java twin, for the jobs' sources and sinks, is in :mod:`common.kafka`.
"""

from common.config import KafkaConfig


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
