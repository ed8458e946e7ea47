"""Configuration of the local world: `config.yaml`, overridden by the environment, checked before anything starts."""

import os
import random
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from local.errors import LocalWorldError

REPOSITORY = Path(__file__).resolve().parent.parent
CONFIG_FILE = Path(__file__).with_name("config.yaml")
ENVIRONMENT_PREFIX = "SUNBIRD_LOCAL_"

# Below the range from which Linux takes the ports of outgoing connections (32768 and up by default): a port found free
# there cannot be taken by a client while its server restarts.
_FREE_PORTS = range(20_000, 32_000)

LOOPBACK = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
"""The addresses of node 1, 2 and 3 of a cluster. The nodes share their ports: Cassandra's drivers expect that."""


def _one_or_three(number: int) -> int:
    if number not in (1, len(LOOPBACK)):
        raise ValueError(f"Input should be 1 or {len(LOOPBACK)}")
    return number


ClusterSize = Annotated[int, AfterValidator(_one_or_three)]
Port = Annotated[int, Field(ge=1024, le=65535)]
Mebibytes = Annotated[int, Field(ge=64, le=65536)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaConfig(_Section):
    """The brokers, each of which is a controller, too."""

    brokers: ClusterSize
    port: Port
    controller_port: Port
    heap_mib: Mebibytes
    partitions: Annotated[int, Field(ge=1, le=1000)]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the brokers, broker 1 first."""
        return LOOPBACK[: self.brokers]


class CassandraConfig(_Section):
    """The nodes. Each of three has a copy of every row."""

    nodes: ClusterSize
    port: Port
    storage_port: Port
    heap_mib: Mebibytes
    direct_memory_mib: Mebibytes
    jit_level: Annotated[int, Field(ge=1, le=4)]
    commitlog_sync: Literal["batch", "periodic"]

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of the nodes, node 1 first."""
        return LOOPBACK[: self.nodes]


class RedisConfig(_Section):
    """The Redis server."""

    port: Port


class PostgresConfig(_Section):
    """The PostgreSQL server, which only the reports' job requests need."""

    port: Port


class ServicesConfig(_Section):
    """The read APIs, as the demo starts them."""

    port: Port
    internal_port: Port


class DeskConfig(_Section):
    """The support desk, as the demo starts it."""

    port: Port


class HttpServicesConfig(_Section):
    """The stand-in for Sunbird's own services, `python -m local.http_services`."""

    port: Port


class FlinkConfig(_Section):
    """The standalone cluster: one JobManager and its TaskManagers."""

    rest_port: Port
    rpc_port: Port
    task_managers: Annotated[int, Field(ge=1, le=16)]
    slots_per_task_manager: Annotated[int, Field(ge=1, le=64)]
    parallelism: Annotated[int, Field(ge=1, le=1024)]
    job_manager_memory_mib: Annotated[int, Field(ge=768, le=65536)]
    task_manager_memory_mib: Annotated[int, Field(ge=1024, le=262144)]
    task_manager_managed_memory_mib: Annotated[int, Field(ge=64, le=131072)]


class Config(_Section):
    """Everything about the local world that can be chosen."""

    state_folder: Path
    start_timeout_seconds: Seconds
    stop_timeout_seconds: Seconds
    kafka: KafkaConfig
    cassandra: CassandraConfig
    redis: RedisConfig
    postgres: PostgresConfig
    services: ServicesConfig
    desk: DeskConfig
    http_services: HttpServicesConfig
    flink: FlinkConfig

    @model_validator(mode="after")
    def _each_port_once(self) -> "Config":
        keys: dict[int, str] = {}
        for key, port in self.ports():
            if port in keys:
                raise ValueError(f"{keys[port]} and {key} are both {port}: every port must be another")
            keys[port] = key
        return self

    def ports(self) -> Iterator[tuple[str, int]]:
        """Every port with its key, such as `("kafka.port", 19092)`."""
        for name in type(self).model_fields:
            section = getattr(self, name)
            if isinstance(section, BaseModel):
                for field in type(section).model_fields:
                    if field.endswith("port"):
                        yield f"{name}.{field}", getattr(section, field)

    def isolated(self, state_folder: Path) -> "Config":
        """The same sizes in another folder and on free ports: a world of its own beside one that runs."""
        values = self.model_dump() | {"state_folder": state_folder}
        keys = [key for key, _ in self.ports()]
        for key, port in zip(keys, _free_ports(len(keys)), strict=True):
            section, field = key.split(".")
            values[section][field] = port
        return Config.model_validate(values)

    def with_nodes(self, number: int) -> "Config":
        """The same with `number` Cassandra nodes and Kafka brokers, 1 or 3. Each of three has a smaller heap."""
        values = self.model_dump()
        for section, size, heap_mib in (("cassandra", "nodes", 512), ("kafka", "brokers", 320)):
            values[section][size] = number
            if number > 1:
                values[section]["heap_mib"] = min(values[section]["heap_mib"], heap_mib)
        return Config.model_validate(values)


def environment_name(key: str) -> str:
    """The environment variable of a key: `SUNBIRD_LOCAL_KAFKA_PORT` for `kafka.port`."""
    return ENVIRONMENT_PREFIX + key.replace(".", "_").upper()


def load_config(
    environment: Mapping[str, str] = os.environ,
    file: Path = CONFIG_FILE,
    sizes: Mapping[str, object] = MappingProxyType({}),
) -> Config:
    """Reads `file` and lays `sizes`, by key, and then `environment` over it.

    A relative state folder is taken from the repository. Raises LocalWorldError with one line for each key that is
    unknown, missing or wrong.
    """
    values: dict[str, Any] = yaml.safe_load(file.read_text())
    overrides = {environment_name(key): str(size) for key, size in sizes.items()}
    overrides |= {name: text for name, text in environment.items() if name.startswith(ENVIRONMENT_PREFIX)}
    for key in _keys(Config):
        if (text := overrides.pop(environment_name(key), None)) is not None:
            *sections, field = key.split(".")
            target = values
            for section in sections:
                target = target.setdefault(section, {})
            target[field] = text
    if overrides:
        known = ", ".join(map(environment_name, _keys(Config)))
        raise LocalWorldError(f"unknown environment variables {', '.join(sorted(overrides))}; there are {known}")
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise LocalWorldError("\n".join(_explain(file, problem) for problem in error.errors())) from None
    return config.model_copy(update={"state_folder": REPOSITORY / config.state_folder})


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _keys(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name


def _explain(file: Path, problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    if not key:
        return f"{file.name}: {problem['msg']}"
    if problem["type"] == "extra_forbidden":
        return f"{file.name}: {key} is unknown; there are {', '.join(_keys(Config))}"
    if problem["type"] == "missing":
        return f"{file.name}: {key} is missing"
    return f"{file.name}: {key} (or {environment_name(key)}) is {problem['input']!r}: {problem['msg']}"


def is_free(port: int, address: str = LOOPBACK[0]) -> bool:
    """Whether a server could listen on this port now. Lingering connections of an earlier server do not matter."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(_FREE_PORTS, len(_FREE_PORTS)):
        if len(found) == count:
            return found
        if all(is_free(port, address) for address in LOOPBACK):
            found.append(port)
    raise LocalWorldError(f"no {count} free ports between {_FREE_PORTS.start} and {_FREE_PORTS.stop}")
