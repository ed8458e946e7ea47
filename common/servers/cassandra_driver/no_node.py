"""What is left to do when a request can be sent to no node."""

import asyncio
import logging
import socket
from collections.abc import Mapping
from typing import Any

from cassandra.cluster import Cluster, NoHostAvailable
from cassandra.connection import ConnectionException, DefaultEndPoint
from cassandra.pool import Host

from common.servers.cassandra_driver.cluster import is_used

_logger = logging.getLogger(__name__)

_SEARCH_SECONDS = 10
"""Between two searches."""


class NoNode:
    """Says why no node can be used, and looks whether the nodes have new addresses.

    The driver resolves the contact points only once. If all nodes change their addresses together, as in Kubernetes,
    nobody is left to tell it the new ones, and a service lives for weeks.
    """

    def __init__(self, cluster: Cluster, loop: asyncio.AbstractEventLoop) -> None:
        self._cluster = cluster
        self._loop = loop
        self._next_search = 0.0

    def error(self, of_nodes: Mapping[Host, Exception]) -> NoHostAvailable:
        """``of_nodes`` is what has failed at the nodes that were tried."""
        now = self._loop.time()
        if now >= self._next_search:
            self._next_search = now + _SEARCH_SECONDS
            self._loop.run_in_executor(None, search, self._cluster)
        errors: dict[Any, Exception] = {
            node.endpoint: ConnectionException("it is down")
            for node in self._cluster.metadata.all_hosts()
            if not node.is_up and is_used(self._cluster, node)
        }
        errors |= {node.endpoint: error for node, error in of_nodes.items()}
        # Where it is known why there is no connection, that is the better reason.
        problems = self._cluster.connection_class.problems
        return NoHostAvailable("no node can be used", {node: problems.get(node, errors[node]) for node in errors})


def search(cluster: Cluster) -> None:
    """Resolves the contact points again, and gives the driver the addresses that it does not know. It blocks.

    Through one of them the driver finds all other nodes, and forgets those that are gone.
    """
    known = {node.endpoint for node in cluster.metadata.all_hosts()}
    for endpoint in _resolved(cluster) - known:
        if cluster.is_shutdown:
            return
        try:
            # The driver would not give up an address where there never was a node.
            cluster.connection_factory(endpoint).close()
            cluster.add_host(endpoint, refresh_nodes=False)
        except Exception as error:  # noqa: BLE001 - the next search tries again
            _logger.warning("no node of Cassandra at the new address %s: %s", endpoint, error)
        else:
            _logger.warning("Cassandra has the new address %s", endpoint)


def _resolved(cluster: Cluster) -> set[DefaultEndPoint]:
    found = set()
    for name in cluster.contact_points:
        try:
            addresses = socket.getaddrinfo(name, cluster.port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except OSError as error:
            _logger.warning("no address is known of %s: %s", name, error)
            continue
        found |= {DefaultEndPoint(address[0], cluster.port) for *_, address in addresses}
    return found
