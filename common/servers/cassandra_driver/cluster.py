"""Creates the driver's Cluster from a configuration."""

import logging
import ssl
import threading
import time
from typing import Any

import cassandra
from cassandra import ConsistencyLevel, UnresolvableContactPoints
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
from cassandra.connection import ConnectionException
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    FallthroughRetryPolicy,
    HostDistance,
)
from cassandra.pool import Host
from cassandra.query import tuple_factory

from common.config.model import CassandraConfig
from common.domain.faults import TaskFault
from common.servers.cassandra_driver.connection import LoopConnection
from common.servers.cassandra_driver.query_plan import ShuffledTokenAwarePolicy
from common.servers.cassandra_driver.values import PROTOCOL_VERSION

SUPPORTED_VERSION = "3.30.1"

_RECONNECTION_SECONDS = (0.2, 5.0)
"""The first and the longest wait. The driver's default is up to ten minutes, longer than a node takes to start."""

_HEARTBEAT_SECONDS = 10
"""The interval and the timeout of heartbeats on idle connections.

The driver's default is 30 for both, so a frozen node would get requests for a minute."""

_RAISED_ANYWAY = (
    "Closing connection",
    "Control connection failed to connect",
    "Error preparing query",
    "Failed connection heartbeat",
    "Failed to authenticate",
)


def check_version() -> None:
    """Raises TaskFault unless cassandra-driver has the version that this package was tested with.

    To be called before a session connects: even the connections use parts that are not documented.
    """
    if cassandra.__version__ != SUPPORTED_VERSION:
        raise TaskFault(
            f"common.servers.cassandra_driver is written for cassandra-driver {SUPPORTED_VERSION}, and this is "
            f"{cassandra.__version__}: compare cassandra/connection.py and cassandra/pool.py of both, and run "
            "the tests that docs/decisions/cassandra-driver.md names"
        )


def _is_news(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(_RAISED_ANYWAY)


# The driver warns about each lost connection. Our retries log that too, and say what it means for the batch.
logging.getLogger("cassandra").setLevel(logging.ERROR)
for _module in ("cluster", "connection"):
    logging.getLogger(f"cassandra.{_module}").addFilter(_is_news)


class Clock:
    """Timestamps of writes, in us since 1970. Each is greater than the one before, even if the clock goes back.

    Of two writes to one cell, the one with the later timestamp wins. So the clocks of the machines that write must be
    synchronised.
    """

    def __init__(self) -> None:
        self._last_us = 0
        self._lock = threading.Lock()

    def __call__(self) -> int:
        """Returns the next one. May be called from any thread."""
        with self._lock:
            self._last_us = max(time.time_ns() // 1_000, self._last_us + 1)
            return self._last_us


CLOCK = Clock()
"""One for the process, so that a session that is opened again does not go back either."""


def create_cluster(config: CassandraConfig, connection_class: type[LoopConnection]) -> Cluster:
    """Creates a Cluster that is not connected yet.

    Raises OSError if a TLS file cannot be read, ConnectionException if no contact point can be resolved.
    """
    profile = ExecutionProfile(
        load_balancing_policy=ShuffledTokenAwarePolicy(DCAwareRoundRobinPolicy(config.local_datacenter or "")),
        # The default policy sends a request again with the same timestamp when a connection is lost: lists double.
        retry_policy=FallthroughRetryPolicy(),
        consistency_level=ConsistencyLevel.name_to_value[config.consistency],
        request_timeout=config.request_timeout_ms / 1000,
        row_factory=tuple_factory,
    )
    connect_timeout = config.connect_timeout_ms / 1000
    try:
        return Cluster(
            list(config.contact_points),
            port=config.port,
            auth_provider=_login(config),
            ssl_context=_tls(config),
            protocol_version=PROTOCOL_VERSION,
            compression=False,
            connection_class=connection_class,
            execution_profiles={EXEC_PROFILE_DEFAULT: profile},
            timestamp_generator=CLOCK,
            connect_timeout=connect_timeout,
            control_connection_timeout=connect_timeout,
            reconnection_policy=ExponentialReconnectionPolicy(*_RECONNECTION_SECONDS, max_attempts=None),
            idle_heartbeat_interval=_HEARTBEAT_SECONDS,
            idle_heartbeat_timeout=_HEARTBEAT_SECONDS,
            application_name="sunbird-learner-aggregates",
        )
    except UnresolvableContactPoints as error:
        raise ConnectionException(f"no address is known of {', '.join(config.contact_points)}") from error


def _login(config: CassandraConfig) -> Any:
    if config.username is None or config.password is None:
        return None
    return PlainTextAuthProvider(config.username, config.password.get_secret_value())


def _tls(config: CassandraConfig) -> ssl.SSLContext | None:
    tls = config.tls
    if not tls.enabled:
        return None
    # Without a file: the system's authorities.
    context = ssl.create_default_context(cafile=tls.ca_file)
    context.check_hostname = tls.verify == "hostname"
    context.verify_mode = ssl.CERT_NONE if tls.verify == "none" else ssl.CERT_REQUIRED
    if tls.certificate_file:
        password = tls.key_password.get_secret_value() if tls.key_password else None
        context.load_cert_chain(tls.certificate_file, tls.key_file, password)
    return context


def is_used(cluster: Cluster, node: Host) -> bool:
    """Whether requests are sent to a node: not to those of other datacenters."""
    distance = cluster.profile_manager.default.load_balancing_policy.distance(node)
    return bool(distance != HostDistance.IGNORED)
