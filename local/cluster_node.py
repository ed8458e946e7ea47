"""What a Kafka broker and a Cassandra node have in common: they are one of one or of three."""

import socket
import string
from collections.abc import Sequence
from pathlib import Path

from local.config import Config
from local.process import Server

# With C1 only, a start takes less than half the CPU time. On two cores Cassandra's writes are as fast as with C2.
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class ClusterNode(Server):
    """One node of a cluster. The nodes have the same ports on different addresses."""

    def __init__(self, config: Config, name: str, number: int, addresses: Sequence[str]) -> None:
        """Node `number`, counted from 1, of a cluster with one node on each of the `addresses`.

        Its data is in the state folder. A cluster of another size has other data, because no node can be told to forget
        its peers.
        """
        is_alone = len(addresses) == 1
        folder = name.lower() if is_alone else f"{name.lower()}-{number}-of-{len(addresses)}"
        super().__init__(config.state_folder / folder)
        self.name = name if is_alone else f"{name} {number}"
        self.number = number
        self.address = addresses[number - 1]
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def accepts(self, port: int) -> bool:
        """Whether something listens on the port. The kernel also accepts for a process that is stopped."""
        with socket.socket() as probe:
            return probe.connect_ex((self.address, port)) == 0


def render(template: Path, target: Path, **values: object) -> None:
    """Writes the template with its `${name}` replaced. Raises KeyError if a value is missing."""
    target.write_text(string.Template(template.read_text()).substitute(values))
