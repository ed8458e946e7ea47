"""A session of the driver that tests read tables with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.policies import ConstantReconnectionPolicy, RetryPolicy, RoundRobinPolicy

from local.servers import Cassandra

REQUEST_TIMEOUT_SECONDS = 60


@contextmanager
def connect(
    node: Cassandra,
    keyspace: str | None = "sunbird_courses",
    *,
    retry_policy: RetryPolicy | None = None,
    **options: Any,
) -> Iterator[Session]:
    """Connected to a node that may be killed meanwhile; `options` are those of the driver's Cluster."""
    profile = ExecutionProfile(RoundRobinPolicy(), retry_policy, request_timeout=REQUEST_TIMEOUT_SECONDS)
    with Cluster(
        node.contact_points,
        port=node.port,
        protocol_version=5,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.2, None),
        **options,
    ) as cluster:
        yield cluster.connect(keyspace)
