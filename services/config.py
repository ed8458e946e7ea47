"""The configuration of the services. ``config.yaml`` says what each key means."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from common.config.model import CassandraConfig, KafkaConfig, RedisConfig
from common.config.section import Section, conflict
from common.config.tls import EncryptedCertificateFiles
from common.config.values import BaseUrl, Port, Positive, RedisDatabase, Text, TimeZone, Word

MESSAGE_OVERHEAD_IN_BYTES = 200_000
"""By how much an event may exceed the body that it came in. It holds ids of up to 64 KB twice, and on the failed topic
the reason."""


class ServerConfig(Section):
    """Where requests are taken, and how many, how large and for how long."""

    host: Word = "127.0.0.1"
    port: Port = 19185
    internal_host: Word = "127.0.0.1"
    internal_port: Port = 19186
    private_routes: bool = False
    tls: EncryptedCertificateFiles = EncryptedCertificateFiles()
    """Towards clients. The files are read at start."""
    max_body_in_bytes: Positive = 800_000
    max_assessments_per_request: Positive = 100
    max_concurrent_requests: Positive = 256
    latency_tolerance: Annotated[float, Field(gt=1)] = 2.0
    request_timeout_ms: Positive = 30_000
    shutdown_timeout_seconds: Positive = 35
    access_log: bool = False

    @model_validator(mode="after")
    def _requests_end_before_the_server(self) -> Self:
        if self.request_timeout_ms >= self.shutdown_timeout_seconds * 1000:
            raise conflict(
                "request_timeout_ms must be less than shutdown_timeout_seconds",
                "request_timeout_ms",
                "shutdown_timeout_seconds",
            )
        return self

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.port == self.internal_port:
            raise conflict("port and internal_port must differ", "port", "internal_port")
        return self


class TokenConfig(Section):
    """How users' tokens are verified."""

    public_keys_folder: Text
    issuer: Word
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 0
    reload_interval_seconds: Positive = 5


class GroupServiceConfig(Section):
    """The service that holds the members of groups."""

    base_url: BaseUrl
    request_timeout_ms: Positive = 5_000
    max_connections: Positive = 100


class ServicesRedisConfig(RedisConfig):
    """Redis, with the database that only the services use."""

    group_cache_database: RedisDatabase = 0


class ServicesConfig(Section):
    """The read APIs: content state, group aggregates, assessments."""

    assess_topic: ClassVar[str] = "telemetry.assess"
    failed_topic: ClassVar[str] = "telemetry.assess.failed"
    """Without the environment."""

    server: ServerConfig = ServerConfig()
    tokens: TokenConfig
    cassandra: CassandraConfig
    redis: ServicesRedisConfig
    kafka: KafkaConfig
    publish_timeout_ms: Positive = 10_000
    group_service: GroupServiceConfig
    group_activity_agg_cache_enable: bool = False
    group_activity_agg_cache_ttl: Positive = 60
    assessment_attempts_limit: Positive = 25
    time_zone: TimeZone = "Asia/Kolkata"
