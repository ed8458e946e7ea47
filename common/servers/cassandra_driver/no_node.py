"""What is left to do when a request can be sent to no node."""

import asyncio
import logging
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cassandra import DriverException
from cassandra.cluster import NoHostAvailable, Session
from cassandra.connection import ConnectionException, DefaultEndPoint
from cassandra.pool import Host

from common.servers.cassandra_driver.cluster import is_used

_logger = logging.getLogger(__name__)

_SEARCH_SECONDS = 10
"""From the first request that no node took to the search, and from the end of a search to the next one at least."""


class NoNode:
    """Says why no node can be used, and looks whether the nodes have new addresses.

    The driver resolves the contact points only once. If all nodes change their addresses together, as in Kubernetes,
    nobody is left to tell it the new ones, and a service lives for weeks.
    """

    def __init__(self, session: Session, loop: asyncio.AbstractEventLoop) -> None:
        self._session = session
        self._loop = loop
        self._is_search_due = False
        self._search: threading.Thread | None = None

    def error(self, of_nodes: Mapping[Host, Exception]) -> NoHostAvailable:
        """``of_nodes`` is what has failed at the nodes that were tried."""
        if not self._is_search_due and (self._search is None or not self._search.is_alive()):
            self._is_search_due = True
            self._loop.call_later(_SEARCH_SECONDS, self._start_search)
        cluster = self._session.cluster
        errors: dict[Any, Exception] = {
            node.endpoint: ConnectionException("it is down")
            for node in cluster.metadata.all_hosts()
            if not node.is_up and is_used(cluster, node)
        }
        errors |= {node.endpoint: error for node, error in of_nodes.items()}
        # Where it is known why there is no connection, that is the better reason.
        problems = cluster.connection_class.problems
        return NoHostAvailable("no node can be used", {node: problems.get(node, errors[node]) for node in errors})

    def _start_search(self) -> None:
        self._is_search_due = False
        # Names may take minutes. Nothing else may wait for that, neither in the loop's executor nor at the exit.
        self._search = threading.Thread(target=search, args=(self._session,), name="cassandra-search", daemon=True)
        self._search.start()


def search(session: Session) -> None:
    """If still no node can be used, resolves the contact points again, and gives the driver the addresses that it does
    not know. It blocks.

    Through one of them the driver finds all other nodes, and forgets those that are gone.
    """
    cluster = session.cluster
    is_changed = False
    known = {node.endpoint for node in cluster.metadata.all_hosts()}
    for endpoint in _resolved(session) - known:
        if _is_needless(session):
            break
        try:
            # The driver would not give up an address where there never was a node.
            cluster.connection_factory(endpoint).close()
            # It may be a second address of a node that has come back meanwhile.
            if _is_needless(session):
                break
            cluster.add_host(endpoint, refresh_nodes=False)
        except Exception as error:  # noqa: BLE001 - the next search tries again
            _logger.warning("no node of Cassandra at the new address %s: %s", endpoint, error)
        else:
            is_changed = True
            _logger.warning("Cassandra has the new address %s", endpoint)
    if is_changed:
        # A control connection that is open forgets a second address again. One that is lost reads the nodes anyway when
        # it is back.
        with suppress(DriverException):
            cluster.refresh_nodes()


def _is_needless(session: Session) -> bool:
    """Whether the session has a node again, or is closed."""
    return session.cluster.is_shutdown or any(pool["open_count"] for pool in session.get_pool_state().values())


def _resolved(session: Session) -> set[DefaultEndPoint]:
    """Ends at once when no search is needed any more."""
    found = set()
    port = session.cluster.port
    for name in session.cluster.contact_points:
        if _is_needless(session):
            break
        try:
            addresses = socket.getaddrinfo(name, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
        except OSError as error:
            _logger.warning("no address is known of %s: %s", name, error)
            continue
        found |= {DefaultEndPoint(address[0], port) for *_, address in addresses}
    return found
