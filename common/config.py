"""The configuration of a job: one YAML file, every key overridable by an environment variable, checked before it starts.

* The variable of a key is ``AGGREGATES__`` and the key's path in capitals, joined by two underscores:
  ``AGGREGATES__KAFKA__BOOTSTRAP_SERVERS`` for ``kafka.bootstrap_servers``. Lists and maps are written as in YAML:
  ``[10.0.0.1, 10.0.0.2]``. A blank variable unsets a key that may be unset (one whose value may be null).
* Secrets come from a variable or from a file named by ``<key>_file``, never from the YAML, and are never printed.
* A key has its unit in its name: ``_ms``, ``_seconds``, ``_in_bytes``.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from common.group_commit import Limits

PREFIX = "AGGREGATES__"
"""Of every variable. Two underscores: Kubernetes itself sets ``AGGREGATES_PORT`` where a service is named ``aggregates``."""

HIDDEN = "**********"
_LONGEST_VALUE = 100

Location = tuple[str, ...]
"""The path of a key: ``("kafka", "env")`` for ``kafka.env``."""


class ConfigError(ValueError):
    """The configuration cannot be used; ``problems`` has one line for each key at fault. Holds no secret."""

    def __init__(self, problems: Sequence[str]) -> None:
        """``problems`` name the file or variable, the key, its value and what is allowed."""
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


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
    allowed = ValueError("must be a URL like https://host:port/path without user, password, query and fragment")
    try:
        url = urlsplit(text)
        port_is_possible = url.port != 0
    except ValueError:
        raise allowed from None
    if url.scheme not in ("http", "https") or not url.hostname or not port_is_possible or "@" in url.netloc:
        raise allowed
    if "?" in text or "#" in text or text.split() != [text]:
        raise allowed
    return text.rstrip("/")


def _url_prefix(text: str) -> str:
    _base_url(text)
    if not text.endswith("/"):
        raise ValueError("must end with a slash, because an id is appended to it")
    return text


def _time_zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ValueError("must be the name of a time zone like UTC or Asia/Kolkata") from None
    except KeyError:
        raise ValueError("must be the name of a time zone like UTC or Asia/Kolkata") from None
    return text


def _no_own_key(name: str) -> str:
    # Also because a password inside sasl.jaas.config would be printed as any other value.
    if name.startswith(("sasl.", "ssl.", "security.")) or name in ("bootstrap.servers", "group.id"):
        raise ValueError("must not be set here: it has a key of its own in the section kafka")
    return name


Text = Annotated[str, AfterValidator(_not_blank)]
Word = Annotated[str, AfterValidator(_one_word)]
Port = Annotated[int, Field(ge=1, le=65535)]
Positive = Annotated[int, Field(gt=0)]
RedisDatabase = Annotated[int, Field(ge=0)]
Texts = Annotated[tuple[Text, ...], Strict(False), Field(min_length=1)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
UrlPrefix = Annotated[str, AfterValidator(_url_prefix)]
TimeZone = Annotated[str, AfterValidator(_time_zone)]
Properties = dict[Annotated[str, AfterValidator(_no_own_key)], str]
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
    """TLS towards Cassandra. ``verify: hostname`` compares the certificate with the node's IP address."""

    enabled: bool = False
    key_password: Secret = None
    key_password_file: Text | None = None
    verify: Literal["hostname", "certificate", "none"] = "hostname"

    @model_validator(mode="after")
    def _something_to_verify_with(self) -> Self:
        if self.enabled and self.verify != "none" and self.ca_file is None:
            raise ValueError(f"verify: {self.verify} needs ca_file, the driver knows no system-wide authorities")
        return self


class RedisTlsConfig(TlsFiles):
    """TLS towards Redis. Without ``ca_file`` the system's authorities are trusted."""

    enabled: bool = False
    verify: Literal["hostname", "certificate", "none"] = "hostname"


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
        """The name in the cluster of a topic: ``dev.telemetry.assess`` of ``telemetry.assess``."""
        return f"{self.env}.{name}"


class CassandraConfig(Section):
    """The cluster and how to log in to it."""

    contact_points: Annotated[tuple[Word, ...], Strict(False), Field(min_length=1)]
    port: Port = 9042
    keyspace: Annotated[str, Field(pattern=r"^[a-zA-Z][a-zA-Z0-9_]{0,47}$")] = "sunbird_courses"
    local_datacenter: Text | None = None
    """None: that of the contact point which answers first."""
    consistency: Literal[
        "ONE", "TWO", "THREE", "QUORUM", "ALL", "LOCAL_QUORUM", "EACH_QUORUM", "LOCAL_ONE"
    ] = "LOCAL_QUORUM"
    """Of reads and writes alike, hence without ANY, which no read can have, and the SERIAL ones, which no write can."""
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    tls: CassandraTlsConfig = CassandraTlsConfig()
    connect_timeout_ms: Positive = 5_000
    request_timeout_ms: Positive = 12_000
    max_concurrent_statements: Positive = 128

    @model_validator(mode="after")
    def _username_with_password(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError(
                f"username and password (variable {PREFIX}CASSANDRA__PASSWORD or key password_file) must be set together"
            )
        return self


class RedisConfig(Section):
    """The server and the numbers of the databases in it."""

    host: Word
    port: Port = 6379
    username: Text | None = None
    password: Secret = None
    password_file: Text | None = None
    tls: RedisTlsConfig = RedisTlsConfig()
    relation_database: RedisDatabase = 10
    content_database: RedisDatabase = 5
    collection_database: RedisDatabase = 0
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


class BatchConfig(Section):
    """Bounds of the batched stage, named as in Flink's AsyncSink."""

    max_batch_size: Positive = 256
    max_batch_size_in_bytes: Positive = 8 * 1024 * 1024
    max_in_flight_requests: Positive = 1
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

    @property
    def limits(self) -> Limits:
        """``batch`` and ``retry`` in the form that the stage takes."""
        return Limits(**self.batch.model_dump(exclude={"max_buffered_requests"}), **self.retry.model_dump())


Config = TypeVar("Config", bound=Section)


def load(config_class: type[Config], path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Reads ``path``, or without one the ``config.yaml`` beside ``config_class``, and lays the environment over it.

    Raises ConfigError that names every problem at once.
    """
    file = resources.files(config_class.__module__.rpartition(".")[0]) / "config.yaml" if path is None else path
    values = _read_yaml(file)
    keys = dict(_keys(config_class))
    problems = [
        f"{file}: {_dotted(location)} = {HIDDEN}: a secret must not be in the file; give it as the variable "
        f"{variable(location)} or name a file that holds it with {_dotted(location)}_file"
        for location, key in keys.items()
        if _is_secret(key) and _take(values, location) is not None
    ]
    given: dict[Location, str] = {}
    for name, text in sorted(environ.items()):
        if name.startswith(PREFIX):
            location = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if location in keys and name == variable(location):
                given[location] = text
                _put(values, location, _parse(keys[location], text))
            else:
                problems.append(f"environment: {name} is unknown; allowed: {_allowed(config_class, location, variable)}")
    problems += _read_secret_files(values, keys)
    try:
        config = config_class.model_validate(values)
    except ValidationError as error:
        problems += [_explain(config_class, str(file), given, problem) for problem in error.errors()]
    if problems:
        raise ConfigError(problems)
    return config


def print_config(config: Section) -> str:
    """The configuration as YAML with secrets as ``**********``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_arguments(config_class: type[Config], arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration that a job's command line asks for.

    Ends the program with code 0 after ``--print-config`` and ``--help``, with code 2 and the problems on stderr where
    the arguments or the configuration cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {config_class.__module__.rpartition('.')[0]}",
        description=config_class.__doc__,
        epilog=f"Every key can be overridden by a variable, such as {PREFIX}KAFKA__ENV for kafka.env.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file instead of the job's own config.yaml")
    parser.add_argument("--print-config", action="store_true", help="print what would be used, without secrets, and end")
    options = parser.parse_args(arguments)
    try:
        config = load(config_class, options.config, environ)
    except ConfigError as error:
        parser.exit(2, f"{error}\n")
    if options.print_config:
        sys.stdout.write(print_config(config))
        parser.exit()
    return config


def variable(location: Sequence[str]) -> str:
    """The environment variable of a key: ``AGGREGATES__KAFKA__ENV`` of ``("kafka", "env")``."""
    return PREFIX + "__".join(location).upper()


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML's loader would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key_node.value} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _read_yaml(file: Traversable) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeyLoader)  # noqa: S506 - it is a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    except yaml.MarkedYAMLError as error:
        # Not the whole text of the error: it quotes the lines around, and one may hold a secret.
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError([f"{file}, line {line}: not YAML: {error.problem}"]) from None
    except yaml.YAMLError:
        raise ConfigError([f"{file}: not YAML: it holds characters that are not allowed"]) from None
    if not isinstance(values, dict):
        raise ConfigError([f"{file}: must hold a map of keys"])
    return values


def _read_secret_files(values: dict[str, Any], keys: Mapping[Location, FieldInfo]) -> Iterator[str]:
    """Puts the secrets of ``<key>_file`` into ``values``; what is wrong with them comes out."""
    for location, key in keys.items():
        file_location = (*location[:-1], f"{location[-1]}_file")
        name = _get(values, file_location) if _is_secret(key) else None
        if not isinstance(name, str) or not name.strip():
            continue  # not given, or an error that the key itself will be charged with
        where = f"{_dotted(file_location)} = {name}"
        if _get(values, location) is not None:
            yield f"{where}: only one of it and the variable {variable(location)} must be set"
            continue
        try:
            secret = Path(name).read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            yield f"{where}: cannot be read: {error.strerror}"
        except UnicodeDecodeError:
            yield f"{where}: cannot be read: it is not UTF-8"
        else:
            if secret.strip():
                _put(values, location, secret)
            else:
                yield f"{where}: the file is empty"


def _parse(key: FieldInfo, text: str) -> Any:
    """The value of a variable: the text itself where the key takes a text, else what YAML reads in it."""
    adapter = TypeAdapter[Any](key.annotation, config=ConfigDict(strict=True))
    try:
        adapter.validate_python(None if not text.strip() else text)
    except ValidationError as error:
        # A key that takes texts complains about this text, any other one about its type.
        if text.strip() and all(problem["type"].endswith("_type") for problem in error.errors()):
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError:
                return text  # which the key will be charged with
        return text
    return text if text.strip() else None


def _explain(config_class: type[Section], file: str, given: Mapping[Location, str], problem: Any) -> str:
    location = problem["loc"]
    key = _dotted(part for part in location if part != "[key]")
    if problem["type"] == "missing":
        return f"{file}: {key} is missing; set it there or as the variable {variable(location)}"
    if problem["type"] == "extra_forbidden":
        # Without its value: it may be that of a misspelt secret.
        return f"{file}: {key} is unknown; allowed: {_allowed(config_class, location, _dotted)}"
    said = problem["msg"].removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")
    said = said.replace("valid tuple", "list").replace("valid dictionary", "map").replace("valid string", "text")
    owner = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in given), None)
    where = f"environment: {variable(owner)}" if owner else f"{file}: {key}"
    shown = given[owner] if owner else problem["input"]
    if isinstance(shown, Section) or problem["type"] == "model_type":
        return f"{where}: {said}"
    return f"{where} = {_show(shown)}: {said}"


def _show(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return "a map" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
