"""The configuration of the services; what each key means is in ``config.yaml``."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from common.config.model import CassandraConfig, KafkaConfig, RedisConfig, Section, conflict
from common.config.values import BaseUrl, Port, Positive, RedisDatabase, Text, TimeZone, Word

MESSAGE_OVERHEAD_IN_BYTES = 200_000
"""By which an event may exceed the body that it came in: ids of up to 64 KB each are there twice."""


class ServerConfig(Section):
    """Where requests are taken, and how many, how large and for how long."""

    host: Word = "127.0.0.1"
    port: Port = 19185
    private_routes: bool = True
    max_body_in_bytes: Positive = 800_000
    max_concurrent_requests: Positive = 256
    request_timeout_ms: Positive = 30_000
    shutdown_timeout_seconds: Positive = 35

    @model_validator(mode="after")
    def _requests_end_before_the_server(self) -> Self:
        if self.request_timeout_ms >= self.shutdown_timeout_seconds * 1000:
            raise conflict(
                "request_timeout_ms must be less than shutdown_timeout_seconds",
                "request_timeout_ms",
                "shutdown_timeout_seconds",
            )
        return self


class TokenConfig(Section):
    """How users' tokens are verified."""

    public_keys_folder: Text
    issuer: Text | None = None
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 0


class GroupServiceConfig(Section):
    """The service that knows a group's members."""

    base_url: BaseUrl
    request_timeout_ms: Positive = 5_000
    max_connections: Positive = 100


class ServicesRedisConfig(RedisConfig):
    """Redis, with the databases that are the services' own."""

    group_cache_database: RedisDatabase = 0
    assessment_score_database: RedisDatabase = 0


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
