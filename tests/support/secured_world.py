"""Kafka, Cassandra and Redis with security switched on: passwords everywhere, TLS towards Kafka.

Kafka also wants a certificate from its clients, and permissions.

The listener of Kafka's tests and admin clients stays as it is, without a login; the job only knows the other one.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import redis
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import NoHostAvailable, Session
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from pydantic import SecretStr

from common.config.model import CassandraConfig
from local.config import Config
from local.flink import FlinkCluster
from local.kafka_broker import Kafka
from local.process import Launch
from local.servers import Cassandra, Redis
from local.world import World
from schema.apply import apply_schema
from tests.support.cassandra_session import connect
from tests.support.certificates import make_certificate
from tests.support.flink_guest import FlinkGuest

MARK = "Geheimnis"
"""In every password, so that none of them can be anywhere unseen."""

USER = "aggregates"
KAFKA_PASSWORD = f'Kafka "{MARK}" \\ 1; é'
CASSANDRA_PASSWORD = f"Cassandra '{MARK}' 2"
REDIS_PASSWORD = f"Redis {MARK} 3"

_CASSANDRA_ADMIN = ("cassandra", "cassandra")
"""The role that a fresh cluster comes with."""


class SecuredKafka(Kafka):
    """A broker with a second listener: SASL/SCRAM-SHA-512 over TLS."""

    def __init__(self, world: World, secured_port: int) -> None:
        super().__init__(world.config, world.java)
        self._ports = f"{world.config.kafka.port}", f"{secured_port}", f"{world.config.kafka.controller_port}"
        self.secured_bootstrap_servers = f"127.0.0.1:{secured_port}"
        self.ca_file = self.state_folder / "certificate.pem"
        self.client_certificate_file = self.state_folder / "client-certificate.pem"
        self.client_key_file = self.state_folder / "client-key.pem"

    def prepare(self) -> Launch:
        launch = super().prepare()
        key, certificate = make_certificate()
        self.ca_file.write_bytes(certificate)
        keystore = self.state_folder / "keystore.pem"
        keystore.write_bytes(key + certificate)
        client_key, client_certificate = make_certificate()
        self.client_key_file.write_bytes(client_key)
        self.client_certificate_file.write_bytes(client_certificate)
        port, secured_port, controller_port = self._ports
        clients = f"PLAINTEXT://127.0.0.1:{port},SECURED://127.0.0.1:{secured_port}"
        # Of a property that is there twice, the last one counts.
        lines = f"""
listeners={clients},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={clients}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,CONTROLLER:PLAINTEXT
listener.name.secured.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secured.ssl.keystore.type=PEM
listener.name.secured.ssl.keystore.location={keystore}
listener.name.secured.ssl.client.auth=required
listener.name.secured.ssl.truststore.type=PEM
listener.name.secured.ssl.truststore.location={self.client_certificate_file}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""
        with (self.state_folder / "server.properties").open("a") as properties:
            properties.write(lines)
        return launch

    def create_user(self) -> None:
        scram = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        upsertion = UserScramCredentialUpsertion(USER, scram, KAFKA_PASSWORD.encode())
        admin = self.admin()
        admin.alter_user_scram_credentials([upsertion])[USER].result()

    def allow(self, kind: ResourceType, name: str, operation: AclOperation) -> None:
        """The user may do nothing else. READ and WRITE imply DESCRIBE."""
        allowed = AclPermissionType.ALLOW
        binding = AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{USER}", "*", operation, allowed)
        admin = self.admin()  # kept until the answer is there
        admin.create_acls([binding])[binding].result()


class SecuredCassandra(Cassandra):
    """A node that asks for a password and for permissions."""

    def prepare(self) -> Launch:
        launch = super().prepare()
        yaml_file = self.state_folder / "cassandra.yaml"
        text = yaml_file.read_text()
        for kind, secured in (("authenticator", "PasswordAuthenticator"), ("authorizer", "CassandraAuthorizer")):
            text = text.replace(f"\n{kind}: AllowAll{kind.capitalize()}\n", f"\n{kind}: {secured}\n")
        yaml_file.write_text(text)
        # The first role, for which a cluster of several nodes waits 10 s.
        java, *arguments = launch.command
        return replace(launch, command=[java, "-Dcassandra.superuser_setup_delay_ms=0", *arguments])

    def is_ready(self) -> bool:
        """The first role is made when the port is open already."""
        if not super().is_ready():
            return False
        try:
            with self.admin():
                return True
        except NoHostAvailable:
            return False

    @contextmanager
    def admin(self, keyspace: str | None = None) -> Iterator[Session]:
        login = PlainTextAuthProvider(*_CASSANDRA_ADMIN)
        with connect(self, keyspace, auth_provider=login) as session:
            yield session

    def create_role(self) -> None:
        """That may do what a job does, and no more."""
        with self.admin() as session:
            session.execute(f"CREATE ROLE {USER} WITH LOGIN = true AND PASSWORD = %s", [CASSANDRA_PASSWORD])
            for permission in ("SELECT", "MODIFY"):
                session.execute(f"GRANT {permission} ON KEYSPACE sunbird_courses TO {USER}")


class SecuredRedis(Redis):
    """A server that asks for a password."""

    def client(self, **options: Any) -> "redis.Redis":
        return super().client(password=REDIS_PASSWORD, **options)

    def prepare(self) -> Launch:
        launch = super().prepare()
        return Launch([*launch.command, "--requirepass", REDIS_PASSWORD], launch.environment, launch.ports)


class SecuredWorld(FlinkGuest):
    """All servers but Flink, which runs already; a job finds the passwords in its environment."""

    kafka: SecuredKafka
    cassandra: SecuredCassandra
    redis: SecuredRedis

    def __init__(self, config: Config, flink: FlinkCluster) -> None:
        super().__init__(config, flink)
        # Free, as all of the configuration's ports are, and of a server that is not started.
        self.kafka = SecuredKafka(self, config.postgres.port)
        self.cassandra = SecuredCassandra(config, self.java)
        self.redis = SecuredRedis(config)

    def start(self) -> None:
        super().start()
        self.kafka.create_user()
        self.cassandra.create_role()

    def apply_schema(self) -> None:
        user, password = _CASSANDRA_ADMIN
        config = CassandraConfig(
            contact_points=tuple(self.cassandra.contact_points),
            port=self.cassandra.port,
            username=user,
            password=SecretStr(password),
        )
        asyncio.run(apply_schema(config, lambda _: None))

    def job_environment(self, module: str = "") -> dict[str, str]:
        return super().job_environment(module) | {
            "AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": self.kafka.secured_bootstrap_servers,
            "AGGREGATES__KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "AGGREGATES__KAFKA__SASL_USERNAME": USER,
            "AGGREGATES__KAFKA__SASL_PASSWORD": KAFKA_PASSWORD,
            "AGGREGATES__KAFKA__TLS__CA_FILE": str(self.kafka.ca_file),
            "AGGREGATES__KAFKA__TLS__CERTIFICATE_FILE": str(self.kafka.client_certificate_file),
            "AGGREGATES__KAFKA__TLS__KEY_FILE": str(self.kafka.client_key_file),
            "AGGREGATES__CASSANDRA__USERNAME": USER,
            "AGGREGATES__CASSANDRA__PASSWORD": CASSANDRA_PASSWORD,
            "AGGREGATES__REDIS__PASSWORD": REDIS_PASSWORD,
        }
