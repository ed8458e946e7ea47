"""Three Cassandra nodes on 127.0.0.1, .2 and .3, for what one node cannot show: statements that go to another node."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from local.config import Config
from local.prerequisites import Java
from local.process import Launch
from local.servers import Cassandra

NODES = 3
_VNODES = 16


class CassandraNode(Cassandra):
    """One of three nodes, each with a copy of every row."""

    def __init__(self, config: Config, java: Java, number: int) -> None:
        """``number`` is 1, 2 or 3. All three take the ports of one configuration, each on an address of its own."""
        folder = config.state_folder / f"node-{number}"
        super().__init__(config.model_copy(update={"state_folder": folder}), java)
        self.address = f"127.0.0.{number}"
        self.contact_points = [self.address]
        self.name = f"Cassandra node {number}"
        self._number = number
        self._storage_port = config.cassandra.storage_port

    def prepare(self) -> Launch:
        """Writes cassandra.yaml."""
        launch = super().prepare()
        file = self.state_folder / "cassandra.yaml"
        text = file.read_text()
        for key in ("listen_address", "rpc_address"):
            text = text.replace(f"{key}: 127.0.0.1\n", f"{key}: {self.address}\n")
        seeds = ",".join(f"127.0.0.{number}:{self._storage_port}" for number in range(1, NODES + 1))
        text = re.sub(r'- seeds: ".*"', f'- seeds: "{seeds}"', text)
        text = re.sub(r"num_tokens: .*\nallocate_tokens_.*\n", f"num_tokens: {_VNODES}\n{self._tokens()}\n", text)
        # As shipped: a coordinator keeps writes for a node that is down, and reads from those that answer fast.
        for key in ("hinted_handoff_enabled", "dynamic_snitch"):
            text = text.replace(f"{key}: false", f"{key}: true")
        file.write_text(text)
        # They share their ports, which looks taken for the second one.
        return replace(launch, ports={})

    def _tokens(self) -> str:
        """Spread evenly and told from the start, so that all nodes may start at the same time."""
        step = 2**64 // (_VNODES * NODES)
        own = (-(2**63) + step * (k * NODES + self._number - 1) for k in range(_VNODES))
        return f'initial_token: "{",".join(map(str, own))}"'

    def is_ready(self) -> bool:
        """The native port accepts."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.address, self.port)) == 0


@contextmanager
def three_nodes(config: Config, java: Java) -> Iterator[list[CassandraNode]]:
    """Started, and ended afterwards. They may not know each other yet, and there are no tables."""
    nodes = [CassandraNode(config, java, number) for number in range(1, NODES + 1)]
    try:
        for node in nodes:
            node.launch()
        for node in nodes:
            node.wait_until_ready()
        yield nodes
    finally:
        for node in nodes:
            node.kill()
