"""Servers whose jobs run on a Flink cluster that is there already: a session starts one for all of its worlds."""

from pathlib import Path

from local.config import Config
from local.flink import FlinkCluster
from local.world import CASSANDRA, KAFKA, REDIS, World


class FlinkGuest(World):
    """Kafka, Cassandra and Redis of its own."""

    def __init__(self, config: Config, flink: FlinkCluster) -> None:
        """`flink` is left running at the end."""
        super().__init__(config, {KAFKA, CASSANDRA, REDIS})
        self.flink.client.close()
        self.flink = flink

    @property
    def flink_folder(self) -> Path:
        """With the logs of Flink's processes and clients."""
        return self.flink.checkpoint_folder.parent

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()
