"""Concurrent reads and writes on Cassandra: prepared statements, bounded concurrency, faults told apart.

The driver is acsylla (C++, asyncio): 60 to 75 us of CPU a statement, where cassandra-driver takes 160 to 240.

Every statement of the suite is an upsert that may be repeated, so all are marked idempotent and the driver may try
another node by itself. The driver gives each write a timestamp from this machine's clock that never goes back while the
session lives, even if the clock does. Of two writes to one cell the later wins, so the clocks of the workers' machines
have to agree as well as those of Cassandra's nodes.
"""

import asyncio
import logging
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import acsylla
from acsylla import errors

from common.config.model import CassandraConfig
from common.domain.events import to_time_ms
from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics

Row = tuple[Any, ...]


def _is_news(record: logging.LogRecord) -> bool:
    """Not that Cassandra has no shards, an error for a driver that is ScyllaDB's too, nor what is raised anyway."""
    message = record.getMessage()
    is_refusal = "establish a control connection" in message and "Received error response" in message
    return "sharding info" not in message and not is_refusal


logging.getLogger("acsylla").addFilter(_is_news)

# Told by the driver before or instead of an answer, or by a node about itself: the statement may work later.
_WORLD = (
    errors.CassExceptionConnectionError,
    errors.CassErrorLibHostResolution,
    errors.CassErrorLibNoAvailableIoThread,
    errors.CassErrorLibNoHostsAvailable,
    errors.CassErrorLibNoStreams,
    errors.CassErrorLibRequestQueueFull,
    errors.CassErrorLibRequestTimedOut,
    errors.CassErrorLibUnableToConnect,
    errors.CassErrorLibUnexpectedResponse,
    errors.CassErrorLibWriteError,
    errors.CassErrorServerIsBootstrapping,
    errors.CassErrorServerOverloaded,
    errors.CassErrorServerReadFailure,
    errors.CassErrorServerReadTimeout,
    errors.CassErrorServerServerError,
    errors.CassErrorServerTruncateError,
    errors.CassErrorServerUnavailable,
    errors.CassErrorServerUnprepared,
    errors.CassErrorServerWriteFailure,
    errors.CassErrorServerWriteTimeout,
    errors.CassErrorSslClosed,
)
# Will be the same however often it is tried and whichever event it is tried with.
_TASK = (
    errors.CassErrorServerBadCredentials,
    errors.CassErrorServerConfigError,
    errors.CassErrorServerUnauthorized,
    errors.CassErrorSourceSsl,
)

_VERIFY_FLAGS = {"none": 0, "certificate": 1, "hostname": 1 | 2}
"""CassSslVerifyFlags of the C++ driver: PEER_CERT is 1, PEER_IDENTITY 2."""


Encoder = Callable[[Any], bytes]
"""Makes a parameter what stands on the wire, without its length. Raises an error for a value of another type."""

TEXT: Encoder = str.encode
DOUBLE: Encoder = struct.Struct(">d").pack
BIGINT: Encoder = struct.Struct(">q").pack


def timestamp(moment: datetime) -> bytes:
    """The encoder of a ``timestamp``, from an aware datetime."""
    return BIGINT(to_time_ms(moment))


@dataclass(frozen=True, slots=True)
class Unprepared:
    """A statement with a value that the driver cannot bind to a prepared one.

    ``encoders`` has one for each parameter; they are called when the statement is about to leave. ``partition_key`` are
    the indexes of the partition key's parameters: of a prepared statement the driver knows them by itself.
    """

    text: str
    partition_key: Sequence[int]
    encoders: Sequence[Encoder]


@dataclass(frozen=True, slots=True)
class Write:
    """One statement with its parameters."""

    statement: acsylla.PreparedStatement | Unprepared
    parameters: Sequence[Any]


class Cassandra:
    """One session. Created, used and closed in one event loop."""

    def __init__(self, config: CassandraConfig, metrics: Metrics) -> None:
        """Connects to nothing yet."""
        self._config = config
        self._counts = metrics.counts
        self._session: acsylla.Session | None = None
        self._slots = asyncio.Semaphore(config.max_concurrent_statements)

    async def open(self) -> None:
        """Connects. Raises WorldFault if no node answers, TaskFault if they refuse this user or certificate."""
        try:
            self._session = await create_cluster(self._config).create_session()
        except errors.CassException as error:
            raise _fault(error) or TaskFault(f"Cassandra cannot be used: {error}") from error

    async def prepare(self, statement: str) -> acsylla.PreparedStatement:
        """Raises WorldFault, or TaskFault if the table, a column or the permission is missing."""
        try:
            return await self._open_session().create_prepared(statement)
        except errors.CassException as error:
            raise _fault(error) or TaskFault(f"Cassandra refuses a statement: {error}: {statement}") from error

    async def read(self, statement: acsylla.PreparedStatement, parameters: Sequence[Sequence[Any]]) -> list[list[Row]]:
        """The rows of each parameter list, in their order. Raises WorldFault, TaskFault, or the driver's own error."""
        results = await self._execute_all([Write(statement, values) for values in parameters])
        rows = [[row.as_tuple() for row in result] for result in results]
        self._counts["rows_read"] += sum(map(len, rows))
        return rows

    async def write(self, partitions: Iterable[Sequence[Write]]) -> None:
        """Executes all; the writes of one partition in one unlogged batch, which a replica applies as a whole.

        Raises as :meth:`read` does. Some of the writes may have been applied then.
        """
        requests = [writes[0] if len(writes) == 1 else writes for writes in partitions if writes]
        await self._execute_all(requests)
        self._counts["rows_written"] += sum(1 if isinstance(request, Write) else len(request) for request in requests)

    async def close(self) -> None:
        """Closes the session, if there is one."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _execute_all(self, requests: Sequence[Write | Sequence[Write]]) -> list[Any]:
        """Executes all with bounded concurrency.

        At the first error no further request is started, and those under way are waited for: a write that is still
        on its way when its batch is tried again could otherwise overtake the newer one.
        """
        session = self._open_session()
        results: list[Any] = [None] * len(requests)
        remaining = iter(enumerate(requests))
        failures: list[Exception] = []

        async def work() -> None:
            # One task for many requests: a task per request costs as much as the driver's share of it.
            for index, request in remaining:
                try:
                    async with self._slots:
                        if failures:
                            return
                        if isinstance(request, Write):
                            results[index] = await session.execute(_bind(request))
                        else:
                            results[index] = await session.execute_batch(_bind_batch(request))
                except Exception as error:  # noqa: BLE001 - raised below, when nothing is under way any more
                    failures.append(error)
                if failures:
                    return

        await asyncio.gather(*(work() for _ in range(min(len(requests), self._config.max_concurrent_statements))))
        if failures:
            raise _fault(failures[0]) or failures[0]
        return results

    def _open_session(self) -> acsylla.Session:
        if self._session is None:
            raise RuntimeError("the Cassandra session is not open")
        return self._session


def _bind(write: Write) -> acsylla.Statement:
    if isinstance(write.statement, Unprepared):
        statement = acsylla.create_statement(write.statement.text, len(write.parameters))
        encoders = write.statement.encoders
        statement.bind_list([encode(value) for encode, value in zip(encoders, write.parameters, strict=True)])
        for index in write.statement.partition_key:
            statement.add_key_index(index)
    else:
        statement = write.statement.bind()
        statement.bind_list(list(write.parameters))
    statement.set_is_idempotent(True)
    return statement


def _bind_batch(writes: Sequence[Write]) -> acsylla.Batch:
    batch = acsylla.create_batch_unlogged()
    for write in writes:
        batch.add_statement(_bind(write))
    batch.set_is_idempotent(True)
    return batch


def _fault(error: Exception) -> WorldFault | TaskFault | None:
    """None for an error that the statement itself has caused, such as a value that is too large."""
    if isinstance(error, _WORLD):
        return WorldFault(f"Cassandra: {error}")
    if isinstance(error, _TASK):
        return TaskFault(f"Cassandra refuses this user or connection: {error}")
    return None


def create_cluster(config: CassandraConfig) -> acsylla.Cluster:
    """The driver's cluster of a configuration, not connected yet. Raises OSError if a file for TLS cannot be read."""
    cluster = acsylla.create_cluster(
        list(config.contact_points),
        port=config.port,
        username=config.username,
        password=config.password.get_secret_value() if config.password else None,
        connect_timeout=config.connect_timeout_ms / 1000,
        request_timeout=config.request_timeout_ms / 1000,
        coalesce_delay_us=config.coalesce_delay_us,
        consistency=config.consistency,
        load_balance_dc_aware=config.local_datacenter,
        # The default waits up to a minute after a long outage, which is longer than most nodes take to restart.
        exponential_reconnect_base_delay_ms=200,
        exponential_reconnect_max_delay_ms=5_000,
        application_name="sunbird-learner-aggregates",
        log_level="error",
    )
    tls = config.tls
    if tls.enabled:
        cluster.set_ssl(
            True,
            _read(tls.certificate_file),
            _read(tls.key_file),
            tls.key_password.get_secret_value() if tls.key_password else "",
            _read(tls.ca_file),
            _VERIFY_FLAGS[tls.verify],
        )
    return cluster


def _read(file: str | None) -> str | None:
    return Path(file).read_text(encoding="ascii") if file else None
