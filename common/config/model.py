"""The configuration of a job: one YAML file, every key overridable by environment variable, checked at start.

* The variable of a key is ``AGGREGATES__`` and the key's path in capitals, joined by two underscores:
  ``AGGREGATES__KAFKA__BOOTSTRAP_SERVERS`` for ``kafka.bootstrap_servers``. Lists and maps are written as in YAML:
  ``[10.0.0.1, 10.0.0.2]``. A blank variable unsets a key that may be unset (one whose value may be null).
* Secrets come from a variable or from a file named by ``<key>_file``, never from the YAML, and are never printed.
* A key has its unit in its name: ``_ms``, ``_seconds``, ``_in_bytes``.
"""

from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    Strict,
    model_validator,
)
from pydantic_core import PydanticCustomError

from common.domain import redis_databases, topics

PREFIX = "AGGREGATES__"
"""Of every variable. Two underscores: Kubernetes sets ``AGGREGATES_PORT`` where a service is named ``aggregates``."""

HIDDEN = "**********"
_LONGEST_VALUE = 100

Location = tuple[str, ...]
"""The path of a key: ``("kafka", "env")`` for ``kafka.env``."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _one_word(text: str) -> str:
    if text.split() != [text]:
        raise ValueError("must not be blank and must not hold white space")
    return text


def _servers(text: str) -> str:
    for server in text.split(","):
        host, _, port = server.rpartition(":")
        if not host or not port.isascii() or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError("must be host:port, several separated by commas, with ports from 1 to 65535")
    return text


def _base_url(text: str) -> str:
    """Without a slash at its end."""
    if "@" in text:
        raise PydanticCustomError("password_in_url", "must be a URL without a user and a password")
    try:
        url = urlsplit(text)
        is_possible = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        is_possible = False
    if not is_possible or "?" in text or "#" in text or text.split() != [text]:
        raise ValueError("must be a URL like https://host:port/path")
    return text.rstrip("/")


def _url_prefix(text: str) -> str:
    _base_url(text)
    if not text.endswith("/"):
        raise ValueError("must end with a slash, because an id is appended to it")
    return text


def _time_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown, not a relative path, a folder of zones
        raise ValueError("must be the name of a time zone like UTC or Asia/Kolkata") from None
    return text


def _no_own_key(name: str) -> str:
    # Also because a password inside sasl.jaas.config would be printed as any other value.
    if name.startswith(("sasl.", "ssl.", "security.")) or name in ("bootstrap.servers", "group.id"):
        raise ValueError("must not be set here: it has a key of its own in the section kafka")
    return name


def _property(value: Any) -> Any:
    """Numbers and booleans as the text that Kafka's clients take them from."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


Text = Annotated[str, AfterValidator(_not_blank)]
Word = Annotated[str, AfterValidator(_one_word)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]
RedisDatabase = Annotated[int, Field(ge=0)]
Texts = Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
UrlPrefix = Annotated[str, AfterValidator(_url_prefix)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Topic = Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
Properties = dict[Annotated[str, AfterValidator(_no_own_key)], Annotated[str, BeforeValidator(_property)]]
Secret = SecretStr | None
"""A key of this type has a twin ``<key>_file``. Only :func:`load` knows where its value came from."""


class Section(BaseModel):
    """A part of a configuration: frozen, without unknown keys, without conversions between types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class TlsFiles(Section):
    """PEM files for TLS. They are opened by the workers, on whose machines they have to be."""

    ca_file: Text | None = None
    certificate_file: Text | None = None
    key_file: Text | None = None

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file must be set together")
        return self


class KafkaTlsConfig(TlsFiles):
    """TLS towards Kafka; ``security_protocol`` switches it on."""

    key_password: Secret = None
    key_password_file: Text | None = None
    verify: Literal["hostname", "certificate"] = "hostname"


class CassandraTlsConfig(TlsFiles):
    """TLS towards Cassandra. Without ``ca_file`` the system's authorities are trusted.

    ``verify: hostname`` compares the certificate with the node's IP address.
    """

    enabled: bool = False
    key_password: Secret = None
    key_password_file: Text | None = None
    verify: Literal["hostname", "certificate", "none"] = "hostname"


class RedisTlsConfig(TlsFiles):
    """TLS towards Redis. Without ``ca_file`` the system's authorities are trusted."""

    enabled: bool = False
    verify: Literal["hostname", "certificate", "none"] = "hostname"


class TopicsConfig(Section):
    """Whole names of single topics; None: ``<env>.<the topic's own name>``."""

    telemetry_assess: Topic | None = None
    telemetry_assess_failed: Topic | None = None
    coursebatch_job_request: Topic | None = None
    activity_agg_failed: Topic | None = None
    telemetry_raw: Topic | None = None
    issue_certificate_request: Topic | None = None
    issue_certificate_failed: Topic | None = None
    generate_certificate_request: Topic | None = None


class KafkaConfig(Section):
    """The cluster, how to log in to it, and the prefix of topics and consumer group."""

    bootstrap_servers: Annotated[Word, AfterValidator(_servers)]
    env: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,100}$")]
    """Prefix of all topics (``dev`` gives ``dev.telemetry.assess``) and of the consumer group."""
    group_id: Word | None = None
    """None: ``<env>-<the job's own group>``."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    sasl_username: Text | None = None
    sasl_password: Secret = None
    sasl_password_file: Text | None = None
    tls: KafkaTlsConfig = KafkaTlsConfig()
    topics: TopicsConfig = TopicsConfig()
    consumer_properties: Properties = {}
    producer_properties: Properties = {}

    @model_validator(mode="after")
    def _login_where_sasl(self) -> Self:
        if self.security_protocol.startswith("SASL_") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password "
                f"(variable {PREFIX}KAFKA__SASL_PASSWORD or key sasl_password_file)"
            )
        return self

    def topic(self, name: str) -> str:
        """The name that a topic of :mod:`common.domain.topics` has in the cluster: ``dev.telemetry.assess``."""
        own: str | None = getattr(self.topics, topics.key(name))
        return own or f"{self.env}.{name}"


class CassandraConfig(Section):
    """The cluster and how to log in to it."""

    contact_points: Annotated[tuple[Word, ...], Strict(False), Field(min_length=1)]
    port: Port
    keyspace: Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,47}$")] = "sunbird_courses"
    local_datacenter: Text | None = None
    """None: that of the contact point which answers first."""
    consistency: Literal["ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"] = (
        "LOCAL_QUORUM"
    )
    """Of reads and writes alike, hence without ANY, which no read can have, and the SERIAL ones, which no write can."""
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    tls: CassandraTlsConfig = CassandraTlsConfig()
    connect_timeout_ms: Positive = 5_000
    request_timeout_ms: Positive = 12_000
    max_concurrent_statements: Positive = 128
    speculative_delay_ms: Positive = 1_000
    """After so long without an answer a statement is sent to one more node; the first answer counts."""

    @model_validator(mode="after")
    def _username_with_password(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError(
                f"username and password (variable {PREFIX}CASSANDRA__PASSWORD or key password_file) go together"
            )
        return self


class RedisConfig(Section):
    """The server and the numbers of the databases in it."""

    host: Word
    port: Port
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    tls: RedisTlsConfig = RedisTlsConfig()
    relation_database: RedisDatabase = redis_databases.RELATIONS
    content_database: RedisDatabase = redis_databases.CONTENTS
    collection_database: RedisDatabase = redis_databases.COLLECTIONS
    connect_timeout_ms: Positive = 2_000
    request_timeout_ms: Positive = 2_000

    @model_validator(mode="after")
    def _username_with_password(self) -> Self:
        if self.username is not None and self.password is None:
            raise ValueError(f"username needs password (variable {PREFIX}REDIS__PASSWORD or key password_file)")
        return self


class BackoffConfig(Section):
    """The wait between two tries: it doubles from the initial to the greatest."""

    initial_backoff_ms: Positive = 100
    max_backoff_ms: Positive = 10_000

    @model_validator(mode="after")
    def _initial_is_not_above_max(self) -> Self:
        if self.initial_backoff_ms > self.max_backoff_ms:
            raise ValueError("initial_backoff_ms must not be greater than max_backoff_ms")
        return self


class HttpConfig(BackoffConfig):
    """Calls of Sunbird's APIs, each service by itself."""

    connect_timeout_ms: Positive = 2_000
    request_timeout_ms: Positive = 5_000
    """Of one request, from its first byte sent to its answer's last byte."""
    call_timeout_ms: Positive = 30_000
    """Of a call with all its retries and the waiting for a service that is down."""
    max_connections: Positive = 100
    breaker_failures: Positive = 5
    """This many failures in a row make the others wait until one probe has gone well."""
    breaker_delay_ms: Positive = 1_000
    """Between the last failure and the probe."""
    max_backoff_ms: Positive = 2_000

    @model_validator(mode="after")
    def _a_request_fits_a_call(self) -> Self:
        if self.request_timeout_ms >= self.call_timeout_ms:
            raise ValueError("request_timeout_ms must be less than call_timeout_ms")
        return self


class BatchConfig(Section):
    """Bounds of the batched stage, named as in Flink's AsyncSink."""

    max_batch_size: Positive = 100
    max_batch_size_in_bytes: Positive = 8 * 1024 * 1024
    max_in_flight_requests: Positive = 3
    """Batches of one subtask: while one reads or waits for an API, another can write."""
    max_buffered_requests: Positive = 1_000
    """Events of one subtask that are inside the stage at a time; more wait in Flink."""

    @model_validator(mode="after")
    def _a_batch_fits_the_buffer(self) -> Self:
        if self.max_batch_size > self.max_buffered_requests:
            raise ValueError("max_batch_size must not be greater than max_buffered_requests")
        return self


class RetryConfig(BackoffConfig):
    """How a batch is tried again while a server is down."""

    patience_ms: Positive = 600_000
    """After this the task fails and Flink restarts it from the last checkpoint."""


class CacheConfig(Section):
    """A cache in a worker's memory."""

    ttl_ms: Positive = 300_000
    empty_ttl_ms: Positive = 5_000
    """Of an empty answer: what is missing now may be there soon."""
    max_entries: Positive = 100_000


class JobConfig(Section):
    """What all jobs are configured with. A subclass adds its own keys and lies next to its ``config.yaml``."""

    consumer_group: ClassVar[str]
    """Without the environment: ``assessment-aggregator-group``."""
    input_topic: ClassVar[str]
    failed_topic: ClassVar[str]
    """Without the environment, as the topic that the job reads: ``telemetry.assess``."""

    kafka: KafkaConfig
    cassandra: CassandraConfig
    redis: RedisConfig
    http: HttpConfig = HttpConfig()
    batch: BatchConfig = BatchConfig()
    retry: RetryConfig = RetryConfig()

    @property
    def group_id(self) -> str:
        """Of the Kafka consumer: the configured one, else ``<env>-<consumer_group>``."""
        return self.kafka.group_id or f"{self.kafka.env}-{self.consumer_group}"
