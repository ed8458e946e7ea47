"""A Kafka broker, alone or one of three. Its data on disk survives kill -9."""

import base64
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from local import jars
from local.cluster_node import QUICK_START, ClusterNode, render
from local.config import Config
from local.errors import LocalWorldError
from local.prerequisites import Java
from local.process import POLL_SECONDS, Launch

_HERE = Path(__file__).parent


class Kafka(ClusterNode):
    """A broker of the KRaft cluster and one of its controllers. Clients may use any broker for the whole cluster."""

    def __init__(self, config: Config, java: Java, number: int = 1) -> None:
        """Broker `number`, counted from 1. Its data is in the state folder."""
        super().__init__(config, "Kafka", number, config.kafka.addresses)
        self._config = config.kafka
        if self._config.brokers > 1:
            # To stop cleanly, a broker needs most of the others, which stop too. What is acknowledged is in the log.
            self.stop_signal = signal.SIGKILL
        # The same for all brokers, and another one for every state folder.
        self._cluster_id = uuid.uuid5(uuid.NAMESPACE_URL, f"{config.state_folder.as_uri()} {config.kafka.brokers}")
        self._java = java

    @property
    def bootstrap_servers(self) -> str:
        """The value of `bootstrap.servers` for clients: all brokers of the cluster."""
        return ",".join(f"{address}:{self._config.port}" for address in self._config.addresses)

    @property
    def _own_address(self) -> str:
        return f"{self.address}:{self._config.port}"

    def admin(self) -> AdminClient:
        """A new client for topics and groups of the cluster.

        Do not use it again after a broker was killed: librdkafka 2.16 may then abort this process.
        """
        return AdminClient({"bootstrap.servers": self.bootstrap_servers})

    def prepare(self) -> Launch:
        """Writes server.properties, and formats the log folder of a new broker."""
        properties = self.state_folder / "server.properties"
        size = self._config.brokers
        voters = enumerate(self._config.addresses, 1)
        render(
            _HERE / "kafka" / "server.properties",
            properties,
            number=self.number,
            address=self.address,
            port=self._config.port,
            controller_port=self._config.controller_port,
            voters=",".join(f"{number}@{address}:{self._config.controller_port}" for number, address in voters),
            replication_factor=size,
            min_insync_replicas=size // 2 + 1,
            session_timeout_ms=3_000 if size == 1 else 9_000,
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
                *QUICK_START,
                "-Djava.awt.headless=true",
                f"-Djava.io.tmpdir={self.temporary_folder}",
                f"-Dlog4j2.configurationFile={_HERE / 'kafka' / 'log4j2.xml'}",
                "-cp",
                jars.KAFKA.classpath,
                "kafka.Kafka",
                str(properties),
            ],
            ports={"kafka.port": self._config.port, "kafka.controller_port": self._config.controller_port},
            address=self.address,
        )

    def _format(self, properties: Path) -> None:
        cluster_id = base64.urlsafe_b64encode(self._cluster_id.bytes).rstrip(b"=").decode()
        # Written with "=", because one id in 64 begins with "-" and would be read as an option.
        command = [
            str(self._java.executable),
            "-Xmx128m",
            *QUICK_START,
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
        """Whether the broker is part of the cluster and the coordinator of consumer groups is loaded.

        The first consumer group of a new broker waits about 3 s for the topic of offsets. Fetching the committed
        offsets of a group that does not exist makes the broker create and load that topic now.
        """
        if not self.accepts(self._config.port):
            return False
        # The check is repeated, so the client's log lines about a broker that is still starting would only confuse.
        consumer = Consumer({"bootstrap.servers": self._own_address, "group.id": "warm-up", "log_level": 0})
        try:
            if self.number not in consumer.list_topics(timeout=2).brokers:
                return False
            consumer.committed([TopicPartition("warm-up", 0)], timeout=10)
        except KafkaException:
            return False
        finally:
            consumer.close()
        return True

    def create_topics(
        self, names: Iterable[str], partitions: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        """Creates the topics that do not exist yet and waits until every broker knows them.

        `partitions` defaults to the configured number. The replication is the brokers' default. `settings` are the
        topics' own, such as `retention.ms`; a topic that exists already keeps those that it has. Raises LocalWorldError
        if the time runs out, KafkaException if the cluster refuses a topic or a broker does not answer.
        """
        wanted = [NewTopic(name, partitions or self._config.partitions, config=dict(settings or {})) for name in names]
        # The requests end with the client, so it needs a name.
        admin = self.admin()
        for future in admin.create_topics(wanted).values():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        # The answer comes from the controller. The brokers learn of new topics a moment later.
        deadline = time.monotonic() + self.start_timeout_seconds
        for address in self._config.addresses:
            while not {topic.topic for topic in wanted} <= _topics_at(f"{address}:{self._config.port}"):
                if time.monotonic() > deadline:
                    raise LocalWorldError(
                        f"these topics were created, but are still missing in the metadata of {address}: {wanted}"
                    )
                time.sleep(POLL_SECONDS)

    def has_all_replicas(self) -> bool:
        """Whether every replica of every partition is in sync, so that another broker may be stopped."""
        try:
            topics = self.admin().list_topics(timeout=10).topics.values()
        except KafkaException:
            return False
        partitions = [partition for topic in topics for partition in topic.partitions.values()]
        return all(len(partition.isrs) == len(partition.replicas) for partition in partitions)


def _topics_at(broker: str) -> set[str]:
    """The topics in the metadata of one broker. A new client asks the only broker that it knows."""
    return set(AdminClient({"bootstrap.servers": broker}).list_topics(timeout=10).topics)
