"""Login and TLS of the configuration, as Kafka's Java clients and librdkafka want it."""

import socket
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaException, Producer
from pydantic import SecretStr, ValidationError

from common.config.model import JobKafkaConfig, KafkaConfig
from common.config.tls import KafkaTlsConfig
from common.domain.faults import WorldFault
from common.flink import source_sink
from common.servers.kafka import check_login, client_properties

SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka.common"


def config(**values: Any) -> KafkaConfig:
    return KafkaConfig(bootstrap_servers="kafka-1:9092,kafka-2:9092", env="dev", **values)


def with_login(protocol: str = "SASL_SSL", **values: Any) -> KafkaConfig:
    return config(security_protocol=protocol, sasl_username='as"ha', sasl_password=SecretStr("back\\slash"), **values)


@pytest.fixture
def tls(tmp_path: Path) -> KafkaTlsConfig:
    for name in ("ca", "certificate", "key"):
        (tmp_path / name).write_text(f"-----BEGIN {name}-----\n", encoding="ascii")
    return KafkaTlsConfig(
        ca_file=str(tmp_path / "ca"),
        certificate_file=str(tmp_path / "certificate"),
        key_file=str(tmp_path / "key"),
        key_password=SecretStr("key password"),
    )


class TestJavaClients:
    def test_without_security(self) -> None:
        assert source_sink._security(config()) == {"security.protocol": "PLAINTEXT"}

    @pytest.mark.parametrize(
        ("mechanism", "module"),
        [
            ("PLAIN", "plain.PlainLoginModule"),
            ("SCRAM-SHA-256", "scram.ScramLoginModule"),
            ("SCRAM-SHA-512", "scram.ScramLoginModule"),
        ],
    )
    def test_login(self, mechanism: Any, module: str) -> None:
        assert source_sink._security(with_login("SASL_PLAINTEXT", sasl_mechanism=mechanism)) == {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": mechanism,
            "sasl.jaas.config": f'{SHADED}.security.{module} required username="as\\"ha" password="back\\\\slash";',
        }

    def test_tls(self, tls: KafkaTlsConfig, tmp_path: Path) -> None:
        assert source_sink._security(config(security_protocol="SSL", tls=tls)) == {
            "security.protocol": "SSL",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": tls.ca_file,
            "config.providers": "files",
            "config.providers.files.class": f"{SHADED}.config.provider.DirectoryConfigProvider",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": f"${{files:{tmp_path}:certificate}}",
            "ssl.keystore.key": f"${{files:{tmp_path}:key}}",
            "ssl.key.password": "key password",
        }

    @pytest.mark.parametrize("key", ["certificate_file", "key_file"])
    def test_a_path_that_no_property_can_name_is_refused(self, key: str) -> None:
        files: dict[str, Any] = {"certificate_file": "/certificate", "key_file": "/key", key: "/a:b"}
        with pytest.raises(ValidationError, match="read no file with a colon or a brace in its path"):
            JobKafkaConfig(bootstrap_servers="kafka-1:9092", env="dev", tls=KafkaTlsConfig(**files))

    def test_tls_without_a_host_name(self) -> None:
        properties = source_sink._security(config(security_protocol="SSL", tls=KafkaTlsConfig(verify="certificate")))
        assert properties == {"security.protocol": "SSL", "ssl.endpoint.identification.algorithm": ""}


class TestLibrdkafka:
    def test_without_security(self) -> None:
        assert client_properties(config()) == {
            "bootstrap.servers": "kafka-1:9092,kafka-2:9092",
            "security.protocol": "PLAINTEXT",
        }

    def test_login_over_tls(self) -> None:
        properties = client_properties(with_login())
        assert properties == {
            "bootstrap.servers": "kafka-1:9092,kafka-2:9092",
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": 'as"ha',
            "sasl.password": "back\\slash",
            "ssl.endpoint.identification.algorithm": "https",
        }
        # It refuses properties and values that it does not know.
        Producer({**properties, "log_level": 0})

    def test_tls(self, tls: KafkaTlsConfig) -> None:
        properties = client_properties(config(security_protocol="SSL", tls=tls))
        assert properties == {
            "bootstrap.servers": "kafka-1:9092,kafka-2:9092",
            "security.protocol": "SSL",
            "ssl.endpoint.identification.algorithm": "https",
            "ssl.ca.location": tls.ca_file,
            "ssl.certificate.location": tls.certificate_file,
            "ssl.key.location": tls.key_file,
            "ssl.key.password": "key password",
        }
        with pytest.raises(KafkaException, match=r"ssl\.certificate\.location failed|ssl\.ca\.location failed"):
            Producer({**properties, "log_level": 0})

    def test_tls_without_a_host_name(self) -> None:
        properties = client_properties(config(security_protocol="SSL", tls=KafkaTlsConfig(verify="certificate")))
        assert properties["ssl.endpoint.identification.algorithm"] == "none"
        Producer({**properties, "log_level": 0})


class TestLogin:
    """With brokers that refuse: tests/integration/test_security.py."""

    def test_without_a_broker(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            silent = f"127.0.0.1:{server.getsockname()[1]}"
            with pytest.raises(WorldFault, match=f"^Kafka {silent}: "):
                check_login(KafkaConfig(bootstrap_servers=silent, env="dev"), timeout_seconds=0.2)

    def test_without_the_authorities(self, tmp_path: Path) -> None:
        tls = KafkaTlsConfig(ca_file=str(tmp_path / "missing"))
        with pytest.raises(WorldFault, match=r"^Kafka kafka-1:9092,kafka-2:9092: .*ssl\.ca\.location failed"):
            check_login(config(security_protocol="SSL", tls=tls))
