"""The configuration of a job: one YAML file, every key overridable by environment variable, checked at start.

* The variable of a key is ``AGGREGATES__`` and the key's path in capitals, joined by two underscores:
  ``AGGREGATES__KAFKA__BOOTSTRAP_SERVERS`` for ``kafka.bootstrap_servers``. Lists and maps are written as in YAML:
  ``[10.0.0.1, 10.0.0.2]``. A blank variable unsets a key that may be unset (one whose value may be null).
* Secrets come from a variable or from a file named by ``<key>_file``, never from the YAML, and are never printed.
* A key has its unit in its name: ``_ms``, ``_seconds``, ``_in_bytes``.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    Strict,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from common.group_commit import Limits

PREFIX = "AGGREGATES__"
"""Of every variable. Two underscores: Kubernetes sets ``AGGREGATES_PORT`` where a service is named ``aggregates``."""

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
    coalesce_delay_us: Positive = 5_000
    """While statements follow each other the driver sends them together, so far apart; the first one goes at once."""

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
    reader = _Reader(config_class, str(file), _read_yaml(file))
    reader.refuse_secrets_in_file()
    reader.lay_over(environ)
    reader.read_secret_files()
    try:
        config = config_class.model_validate(reader.values)
    except ValidationError as error:
        reader.problems += map(reader.explain, error.errors())
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def print_config(config: Section) -> str:
    """The configuration as YAML with secrets as ``**********``."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def parse_arguments(
    config_class: type[Config], arguments: Sequence[str], environ: Mapping[str, str] = os.environ
) -> Config:
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
    parser.add_argument(
        "--print-config", action="store_true", help="print what would be used, without secrets, and end"
    )
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
            if not isinstance(key_node, yaml.ScalarNode):
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key_node.value} is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _read_yaml(file: Traversable) -> dict[str, Any]:
    try:
        values = yaml.load(file.read_text(encoding="utf-8"), _UniqueKeyLoader)
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


def _parse(key: FieldInfo, text: str) -> Any:
    """The value of a variable: the text itself where the key takes texts, else what YAML reads in it.

    A text that the key does not take is left as it is: the check of the whole configuration says why.
    """
    if not text.strip():
        return text if _errors(key, None) else None
    errors = _errors(key, text)
    if errors and all(error["type"].endswith("_type") for error in errors):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text
    return text


def _errors(key: FieldInfo, value: Any) -> Sequence[Any]:
    try:
        TypeAdapter[Any](key.rebuild_annotation(), config=ConfigDict(strict=True)).validate_python(value)
    except ValidationError as error:
        return error.errors()
    return ()


class _Reader:
    """Gathers the values of a configuration in ``values``, and what is wrong with them in ``problems``."""

    def __init__(self, config_class: type[Section], file: str, values: dict[str, Any]) -> None:
        self.values = values
        self.problems: list[str] = []
        self._config_class = config_class
        self._file = file
        self._keys = dict(_keys(config_class))
        self._given: dict[Location, str] = {}
        """The texts of the variables."""

    def refuse_secrets_in_file(self) -> None:
        for location, key in self._keys.items():
            if _is_secret(key) and _take(self.values, location) is not None:
                self.problems.append(
                    f"{self._place(location)} = {HIDDEN}: a secret must not be in the file; give it as the variable "
                    f"{variable(location)} or name a file that holds it with {_dotted(_file_key(location))}"
                )

    def lay_over(self, environ: Mapping[str, str]) -> None:
        for name, text in sorted(environ.items()):
            if not name.startswith(PREFIX):
                continue
            location = tuple(name.removeprefix(PREFIX).lower().split("__"))
            if location in self._keys and name == variable(location):
                self._given[location] = text
                _put(self.values, location, _parse(self._keys[location], text))
            else:
                allowed = _allowed(self._config_class, location, variable)
                self.problems.append(f"environment: {name} is unknown; allowed: {allowed}")

    def read_secret_files(self) -> None:
        for location, key in self._keys.items():
            file_location = _file_key(location)
            name = _get(self.values, file_location) if _is_secret(key) else None
            if not isinstance(name, str) or not name.strip():
                continue  # not given, or a value that the key itself will be charged with
            try:
                if _get(self.values, location) is not None:
                    raise ValueError(f"only one of it and the variable {variable(location)} must be set")
                _put(self.values, location, _read_secret(Path(name)))
            except ValueError as error:
                self.problems.append(f"{self._place(file_location)} = {_show(name)}: {error}")

    def explain(self, problem: Any) -> str:
        """One line for one of pydantic's errors."""
        location = tuple(str(part) for part in problem["loc"] if part != "[key]")
        place = self._place(location)
        match problem["type"]:
            case "missing":
                return f"{place} is missing; set it there or as the variable {variable(location)}"
            case "extra_forbidden":
                # Without its value: it may be that of a misspelt secret.
                return f"{place} is unknown; allowed: {_allowed(self._config_class, location, _dotted)}"
            case "value_error" if isinstance(problem["input"], dict):
                return f"{place}: {_said(problem)}"  # of keys that do not go together
            case "dict_type" | "password_in_url":
                return f"{place} = {HIDDEN}: {_said(problem)}"  # a text that may have a secret somewhere
            case _:
                return f"{place} = {_show(self._given.get(location, problem['input']))}: {_said(problem)}"

    def _place(self, location: Location) -> str:
        """Where the value at ``location`` comes from."""
        for end in range(len(location), 0, -1):
            if location[:end] in self._given:
                return f"environment: {variable(location[:end])}"
        return f"{self._file}: {_dotted(location)}"


def _file_key(location: Location) -> Location:
    return (*location[:-1], f"{location[-1]}_file")


def _read_secret(file: Path) -> str:
    """Without the newline at its end. Raises ValueError that says what is wrong."""
    try:
        secret = file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("cannot be read: it is not UTF-8") from None
    if not secret.strip():
        raise ValueError("the file is empty")
    return secret


def _said(problem: Any) -> str:
    """Pydantic's message in the words of this file: a key must be something, and YAML has lists, maps and texts."""
    said: str = problem["msg"]
    for theirs, ours in (
        ("Value error, ", ""),
        ("Input should", "must"),
        ("String should", "must"),
        ("Tuple should", "must"),
        (" after validation, not 0", ""),
        ("valid tuple", "list"),
        ("valid dictionary", "map"),
        ("valid string", "text"),
    ):
        said = said.replace(theirs, ours)
    return said


def _show(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return "a map" if isinstance(value, dict) else "a list"
    text = repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"


def _allowed(config_class: type[Section], location: Location, name: Callable[[Location], str]) -> str:
    """The keys of the section that ``location`` leads to as far as it is known."""
    section = config_class
    known: Location = ()
    for part in location[:-1]:
        inner = _section(section.model_fields.get(part))
        if inner is None:
            break
        section, known = inner, (*known, part)
    return ", ".join(
        name((*known, key, "…") if _section(field) else (*known, key)) for key, field in section.model_fields.items()
    )


def _keys(section: type[Section], above: Location = ()) -> Iterator[tuple[Location, FieldInfo]]:
    """Every key that is no section, with its path."""
    for name, field in section.model_fields.items():
        if inner := _section(field):
            yield from _keys(inner, (*above, name))
        else:
            yield (*above, name), field


def _section(field: FieldInfo | None) -> type[Section] | None:
    annotation = field.annotation if field else None
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def _is_secret(key: FieldInfo) -> bool:
    return key.annotation == Secret


def _dotted(location: Location) -> str:
    return ".".join(location)


def _get(values: Any, location: Location) -> Any:
    for part in location:
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _put(values: dict[str, Any], location: Location, value: Any) -> None:
    """Sets a value; where a section on its path is no map, nothing: the section will be charged with that."""
    for part in location[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            return
    values[location[-1]] = value


def _take(values: dict[str, Any], location: Location) -> Any:
    section = _get(values, location[:-1])
    return section.pop(location[-1], None) if isinstance(section, dict) else None
