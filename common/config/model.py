"""The sections of a configuration. ``loader`` reads them; ``values`` has the types of their keys.

A key carries its unit in its name: ``_ms``, ``_seconds``, ``_in_bytes``. What differs between installations (addresses,
URLs, names of containers) is required; everything else has a default, which the shipped ``config.yaml`` shows.
"""

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, Strict, model_validator

from common.config.http import BackoffConfig, JobHttpConfig
from common.config.section import PREFIX, Section, conflict, section_of_texts
from common.config.tls import CassandraTlsConfig, KafkaTlsConfig, RedisTlsConfig
from common.config.values import (
    Port,
    Positive,
    Properties,
    RedisDatabase,
    Secret,
    Servers,
    Text,
    Topic,
    Word,
)
from common.domain import redis_databases, topics
from common.domain.failing_ids import MIN_FAILURES, TIMEOUT_FACTOR


class AttemptTopicsConfig(Section):
    """Full names of the topics for attempts. Without one, the name is ``<env>.telemetry.assess`` and so on."""

    telemetry_assess: Topic | None = None
    telemetry_assess_failed: Topic | None = None


if TYPE_CHECKING:
    # A type checker knows no class that is made at run time.
    TopicsConfig = AttemptTopicsConfig
else:
    TopicsConfig = section_of_texts(
        __name__, "TopicsConfig", "Full names of all topics of the jobs.", map(topics.key, topics.ALL), Topic
    )


class KafkaConfig(Section):
    """The cluster, the login, and the names of the topics."""

    bootstrap_servers: Servers
    env: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]
    """The prefix of all topics (``dev`` gives ``dev.telemetry.assess``) and of a job's consumer group."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: Text | None = None
    sasl_password: Secret = None
    sasl_password_file: Text | None = None
    tls: KafkaTlsConfig = KafkaTlsConfig()
    topics: AttemptTopicsConfig = AttemptTopicsConfig()

    @model_validator(mode="after")
    def _login_where_sasl(self) -> Self:
        if self.security_protocol.startswith("SASL_") and (self.sasl_username is None or self.sasl_password is None):
            raise conflict(
                f"security_protocol: {self.security_protocol} needs sasl_username and sasl_password "
                f"(the variable {PREFIX}KAFKA__SASL_PASSWORD or the key sasl_password_file)",
                "security_protocol",
                "sasl_username",
                "sasl_password",
            )
        return self

    def topic(self, name: str) -> str:
        """The name in the cluster of a topic of :mod:`common.domain.topics`: ``dev.telemetry.assess``."""
        full_name: str | None = getattr(self.topics, topics.key(name))
        return full_name or f"{self.env}.{name}"


class JobKafkaConfig(KafkaConfig):
    """Kafka for a job, which also consumes."""

    group_id: Word | None = None
    """None: ``<env>-<the job's own group>``."""
    topics: TopicsConfig = TopicsConfig()
    delivery: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """``exactly_once``: messages are sent in transactions that commit with Flink's checkpoints."""
    transaction_timeout_ms: Positive = 900_000
    """For ``exactly_once``. Kafka aborts a transaction that is open for longer, and its messages are lost.

    The default is a broker's default for ``transaction.max.timeout.ms``, and more than that is refused.
    """
    consumer_properties: Properties = Field(default_factory=dict)
    producer_properties: Properties = Field(default_factory=dict)

    @model_validator(mode="after")
    def _files_that_a_property_can_name(self) -> Self:
        for key, file in (("certificate_file", self.tls.certificate_file), ("key_file", self.tls.key_file)):
            if file is not None and not {":", "}"}.isdisjoint(file):
                raise conflict("Kafka's Java clients read no file with a colon or a brace in its path", f"tls.{key}")
        return self


class CassandraConfig(Section):
    """The cluster and the login."""

    contact_points: Annotated[tuple[Word, ...], Strict(False), Field(min_length=1)]
    port: Port = 9042
    keyspace: Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,47}$")] = "sunbird_courses"
    local_datacenter: Text | None = None
    """None: the one of the contact point that answers first."""
    consistency: Literal["ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"] = (
        "LOCAL_QUORUM"
    )
    """For reads and writes alike, so neither ANY (reads cannot have it) nor a SERIAL level (writes cannot)."""
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    tls: CassandraTlsConfig = CassandraTlsConfig()
    connect_timeout_ms: Positive = 5_000
    request_timeout_ms: Positive = 12_000
    max_concurrent_statements: Positive = 128
    speculative_delay_ms: Positive = 1_000
    """After this time without an answer, a request is also sent to another node. The first answer counts."""
    silent_after_ms: Positive = 200
    """A node with requests in flight that sends nothing for this time is taken to hang. They go to another node as
    well, and it comes last for all others until it sends something. Pages do not count: they may take longer."""

    @model_validator(mode="after")
    def _username_with_password(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise conflict(
                "username and password must be set together "
                f"(the password as the variable {PREFIX}CASSANDRA__PASSWORD or with the key password_file)",
                "username",
                "password",
            )
        return self


class RedisConfig(Section):
    """The server, the login, and the number of the database that everybody reads."""

    host: Word
    port: Port = 6379
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    tls: RedisTlsConfig = RedisTlsConfig()
    relation_database: RedisDatabase = redis_databases.RELATIONS
    connect_timeout_ms: Positive = 2_000
    request_timeout_ms: Positive = 2_000

    @model_validator(mode="after")
    def _username_with_password(self) -> Self:
        if self.username is not None and self.password is None:
            raise conflict(
                f"username needs a password (the variable {PREFIX}REDIS__PASSWORD or the key password_file)",
                "username",
                "password",
            )
        return self


class JobRedisConfig(RedisConfig):
    """Redis for a job, with the databases of the metadata."""

    content_database: RedisDatabase = redis_databases.CONTENTS
    collection_database: RedisDatabase = redis_databases.COLLECTIONS


class BatchConfig(Section):
    """The limits of the batched stage. The names are those of Flink's AsyncSink."""

    max_batch_size: Positive = 100
    max_batch_size_in_bytes: Positive = 8 * 1024 * 1024
    max_in_flight_requests: Positive = 3
    """Batches per subtask. While one reads or waits for an API, another can write."""
    max_buffered_requests: Positive = 500
    """Events per subtask inside the stage. More wait in Flink, which slows the source down."""
    max_buffered_in_bytes: Positive = 16 * 1024 * 1024
    """Bytes of these events, as they are in Kafka. Decoded they take several times as much."""

    @model_validator(mode="after")
    def _a_batch_fits_the_buffer(self) -> Self:
        if self.max_batch_size_in_bytes > self.max_buffered_in_bytes:
            raise conflict(
                "max_batch_size_in_bytes must not be greater than max_buffered_in_bytes",
                "max_batch_size_in_bytes",
                "max_buffered_in_bytes",
            )
        if self.max_batch_size > self.max_buffered_requests:
            raise conflict(
                "max_batch_size must not be greater than max_buffered_requests",
                "max_batch_size",
                "max_buffered_requests",
            )
        return self


class RetryConfig(BackoffConfig):
    """How a batch is retried while a server is down."""

    patience_ms: Positive = 450_000
    """After this time the task fails, and Flink restarts it from the last checkpoint.

    The last try may begin just before that, and a checkpoint waits for it. It makes up to three calls one after the
    other (the certificate job: for contents, courses and users), and then up to four requests to see whether others are
    answered. So this, three times ``http.call_timeout_ms`` and four times ``http.request_timeout_ms`` together must be
    less than Flink's ``execution.checkpointing.timeout``, which is 10 minutes by default.
    """
    max_pause_ms: Annotated[int, Field(ge=1_000)] = 20_000
    """The longest time that a worker or its TaskManager may stand still. After a longer one the task fails before it
    writes anything more, and Flink restarts it from the last checkpoint.

    It must be less than Flink's ``heartbeat.timeout`` minus its ``heartbeat.interval`` (50 s and 10 s by default). A
    task that stands still for longer than that may have a successor, beside which it must not write when it goes on:
    the timeout begins with the last heartbeat before the pause. At least 1 s: the watch of pauses ticks every 200 ms,
    and on a busy machine it is late by more than that although nothing has stood still.
    """


class CacheConfig(Section):
    """A cache in the memory of a worker."""

    ttl_ms: Positive = 300_000
    empty_ttl_ms: Positive = 5_000
    """For an empty answer, because what is missing now may exist soon."""
    max_size_in_bytes: Positive = 32 * 1024 * 1024
    """Of all keys and values. The least recently used ones are evicted."""


class JobConfig(Section):
    """The keys that all jobs share (``jobs/config.yaml``). A subclass adds the keys of one job."""

    consumer_group: ClassVar[str]
    """Without the environment: ``assessment-aggregator-group``."""
    input_topic: ClassVar[str]
    """Without the environment: ``telemetry.assess``. Failed events are replayed to it."""
    more_input_topics: ClassVar[tuple[str, ...]] = ()
    """Topics that the job reads beside ``input_topic``. The job tells their events apart by content, not by topic."""
    failed_topic: ClassVar[str]
    """Without the environment: ``telemetry.assess.failed``."""
    share_of_patience: ClassVar[tuple[int, str]] = (1, "retry.patience_ms")
    """An id at fault must be known within this part (1/n) of the patience, and how the error says that."""

    kafka: JobKafkaConfig
    cassandra: CassandraConfig
    redis: JobRedisConfig
    http: JobHttpConfig = JobHttpConfig()
    batch: BatchConfig = BatchConfig()
    retry: RetryConfig = RetryConfig()

    @model_validator(mode="after")
    def _a_try_fits_the_patience(self) -> Self:
        for key, timeout_ms in (
            ("http.call_timeout_ms", self.http.call_timeout_ms),
            ("cassandra.request_timeout_ms", self.cassandra.request_timeout_ms),
            ("redis.request_timeout_ms", self.redis.request_timeout_ms),
        ):
            if timeout_ms >= self.retry.patience_ms:
                raise conflict(f"{key} must be less than retry.patience_ms", key, "retry.patience_ms")
        # A task that restarts does not know any more which ids have failed before: within the patience they must fail
        # often enough, and for long enough. The last try of a call is cut off. Controls take little in comparison.
        http, retry = self.http, self.retry
        tries = 1 + (http.call_timeout_ms - http.request_timeout_ms) // (http.request_timeout_ms + http.max_backoff_ms)
        next_call_ms = http.call_timeout_ms + retry.max_backoff_ms
        if math.ceil(MIN_FAILURES / tries) * next_call_ms >= retry.patience_ms:
            raise conflict(
                "http.request_timeout_ms and http.call_timeout_ms leave no time for eight tries within "
                "retry.patience_ms",
                "http.request_timeout_ms",
                "http.call_timeout_ms",
                "retry.max_backoff_ms",
                "retry.patience_ms",
            )
        # A call may end just before the limit. The next one must begin within the patience.
        ids, limit = self.share_of_patience
        if ids * (TIMEOUT_FACTOR * http.poison_after_ms + next_call_ms) >= retry.patience_ms:
            raise conflict(
                "twice http.poison_after_ms, http.call_timeout_ms and retry.max_backoff_ms together must be less than "
                f"{limit}",
                "http.poison_after_ms",
                "http.call_timeout_ms",
                "retry.max_backoff_ms",
                "retry.patience_ms",
            )
        return self

    @classmethod
    def inputs(cls) -> tuple[str, ...]:
        """All topics that the job reads, without the environment."""
        return (cls.input_topic, *cls.more_input_topics)

    @property
    def input_topics(self) -> list[str]:
        """The names in the cluster of all topics that the job reads: ``dev.telemetry.assess``."""
        return [self.kafka.topic(topic) for topic in self.inputs()]

    @property
    def group_id(self) -> str:
        """The Kafka consumer group: the configured one, else ``<env>-<consumer_group>``."""
        return self.kafka.group_id or f"{self.kafka.env}-{self.consumer_group}"
