"""The order in which the nodes are tried for a request."""

import random
from collections.abc import Iterator
from typing import Any

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
