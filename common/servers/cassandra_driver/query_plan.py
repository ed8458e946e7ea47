"""The order in which the nodes are tried for a request."""

import random
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from cassandra.policies import HostDistance, TokenAwarePolicy
from cassandra.pool import Host


class ShuffledTokenAwarePolicy(TokenAwarePolicy):
    """The replicas of the request's key come first, in a random order, and then the other nodes of the child policy.

    The driver's own ``shuffle_replicas`` shuffles the list in the token map, in place. Plans that were begun before
    iterate over the same list, so such a plan can return a node twice and leave out another. A second copy of a late
    request then goes to the node that does not answer.
    """

    def make_query_plan(self, working_keyspace: str | None = None, query: Any = None) -> Iterator[Host]:
        """As documented for the driver's policies. A plan may be continued much later than it was begun."""
        keyspace = query.keyspace if query and query.keyspace else working_keyspace
        child = self._child_policy
        replicas: list[Host] = []
        if query is not None and query.routing_key is not None and keyspace is not None:
            replicas = [*self._cluster_metadata.get_replicas(keyspace, query.routing_key)]
            random.shuffle(replicas)
        for replica in replicas:
            if replica.is_up and child.distance(replica) == HostDistance.LOCAL:
                yield replica
        for host in child.make_query_plan(keyspace, query):
            if host not in replicas or child.distance(host) == HostDistance.REMOTE:
                yield host


class Listener(Protocol):
    """What :class:`SilentNodes` needs to know of a connection."""

    is_closed: bool
    heard_at: float
    """When the node last sent something on it, in seconds of the loop's time."""


class _Silence(NamedTuple):
    connection: Listener
    heard_at: float


class SilentNodes:
    """Nodes that hang, as far as is known. They come last in a query plan, until they send something.

    Without this each later request would find out for itself.
    """

    def __init__(self) -> None:
        self._nodes: dict[Host, _Silence] = {}

    def note(self, node: Host, connection: Listener) -> None:
        """The node has sent nothing on this connection for long, although requests are in flight."""
        self._nodes[node] = _Silence(connection, connection.heard_at)

    def put_last(self, plan: Iterable[Host]) -> Iterable[Host]:
        """The same nodes in the same order, except that silent nodes come after the others."""
        if not self._nodes:
            return plan
        # The others send again, or the driver has given up the connection, and will tell whether there is another.
        self._nodes = {
            node: silence
            for node, silence in self._nodes.items()
            if not silence.connection.is_closed and silence.connection.heard_at == silence.heard_at
        }
        return sorted(plan, key=self._nodes.__contains__)
