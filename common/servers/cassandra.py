"""Executes prepared statements on Cassandra, many at a time, and tells apart whose fault a failure is.

The driver is cassandra-driver. Only this module and the package ``cassandra_driver`` import it. Why it was chosen and
how it is used: docs/decisions/cassandra-driver.md.

**Repeated requests.** A request that fails or is late is sent to another node, each time with a newer timestamp. With
the same timestamp, two executions that set a list would leave the elements of both. A statement that sets a list and
takes its timestamp as a parameter is sent only once.

**Times.** A ``timestamp`` is read as ms since 1970. It is written from ms or from an aware datetime.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from cassandra.cluster import Cluster, Session
from cassandra.query import SimpleStatement

from common.config.model import CassandraConfig
from common.domain.events import MAX_TIME_MS, MIN_TIME_MS, to_datetime, to_time_ms
from common.domain.faults import WorldFault
from common.domain.native_protocol import UserTypeEncoder
from common.metrics import Metrics
from common.servers.cassandra_driver.calls import Execution
from common.servers.cassandra_driver.cluster import CLOCK, check_version, create_cluster, is_used
from common.servers.cassandra_driver.connection import DirectConnection, LoopConnection, bound_to
from common.servers.cassandra_driver.direct import Requests
from common.servers.cassandra_driver.errors import REFUSED_STATEMENT, StatementError, fault, fault_without_event
from common.servers.cassandra_driver.frames import Column, Row, Statement

__all__ = ["Cassandra", "Column", "Row", "Statement", "StatementError", "Write", "next_timestamp_us", "token_ranges"]

Write = Execution
"""One statement with its parameters."""

next_timestamp_us = CLOCK
"""Returns the next timestamp for a statement that takes one as a parameter, in us since 1970. It never goes back."""

_CONNECTED_POLL_SECONDS = 0.05

_FIRST_TOKEN, _LAST_TOKEN = -(2**63), 2**63 - 1
"""The tokens of the Murmur3 partitioner. No row has the first one."""


class Cassandra:
    """A session, which is opened, used and closed in one event loop."""

    def __init__(self, config: CassandraConfig, metrics: Metrics, clock: Callable[[], int] = CLOCK) -> None:
        """``clock`` gives the timestamp of each request, in us since 1970. What it raises ends the request unsent."""
        self._config = config
        self._clock = clock
        self._counts = metrics.counts
        self._cluster: Cluster | None = None
        self._session: Session | None = None
        self._requests: Requests | None = None

    async def open(self, keyspace: str | None = None) -> None:
        """Connects. ``keyspace`` is for statements that name a table without its keyspace.

        Raises WorldFault if no node answers, TaskFault if the nodes refuse this user or certificate, or if the driver
        has another version.
        """
        check_version()
        loop = asyncio.get_running_loop()
        connection_class = bound_to(loop, DirectConnection)
        try:
            # In a thread, because creating the driver's Cluster already resolves host names.
            self._session = await loop.run_in_executor(None, self._connect, connection_class, keyspace)
        except Exception as error:
            raise fault_without_event(error, "Cassandra cannot be used") from error
        self._requests = Requests(
            self._session,
            loop,
            clock=self._clock,
            counts=self._counts,
            max_in_flight=self._config.max_concurrent_statements,
            timeout=self._config.request_timeout_ms / 1000,
            late_after=self._config.speculative_delay_ms / 1000,
            silent_after=self._config.silent_after_ms / 1000,
        )

    def _connect(self, connection_class: type[LoopConnection], keyspace: str | None) -> Session:
        self._cluster = create_cluster(self._config, connection_class)
        return self._cluster.connect(keyspace)

    async def prepare(self, statement: str, encoders: Mapping[str, UserTypeEncoder] | None = None) -> Statement:
        """Prepares a statement for this session.

        ``encoders`` replace the encoders of parameters, by column name. Raises WorldFault, or TaskFault if the table, a
        column, a field or the permission is missing.
        """
        session, _ = self._opened()
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(None, session.prepare, statement)
        except Exception as error:
            raise fault_without_event(error, REFUSED_STATEMENT) from error
        profile = session.cluster.profile_manager.default
        return Statement.of(prepared, encoders or {}, profile.consistency_level)

    async def read(self, statement: Statement, parameters: Sequence[Sequence[Any]]) -> list[list[Row]]:
        """Executes a statement with each list of parameters, and returns the rows of each, in that order.

        Raises WorldFault, TaskFault or StatementError.
        """
        _, requests = self._opened()
        pages = await requests.execute([Execution(statement, values) for values in parameters])
        rows = [rows for rows, _ in pages]
        self._counts["rows_read"] += sum(map(len, rows))
        return rows

    async def pages(self, statement: Statement, parameters: Sequence[Any], page_size: int) -> AsyncIterator[list[Row]]:
        """The rows of one statement, in pages of 1 to ``page_size`` rows. Raises as :meth:`read` does."""
        _, requests = self._opened()
        state: bytes | None = None
        while True:
            ((rows, state),) = await requests.execute([Execution(statement, parameters, (page_size, state))])
            self._counts["rows_read"] += len(rows)
            if rows:
                yield rows
            if state is None:
                return

    async def scan(
        self, statement: Statement, parameters: Sequence[Any], ranges: int, page_size: int
    ) -> AsyncIterator[list[Row]]:
        """The rows of a whole table, in pages. Each query reads one token range, so that none takes too long.

        The last two parameters of the statement are the bounds of a range: ``token(key) > ? AND token(key) <= ?``.
        Raises as :meth:`read` does, and then some rows have not been returned.
        """
        for bounds in token_ranges(ranges):
            async for rows in self.pages(statement, (*parameters, *bounds), page_size):
                yield rows

    async def write(self, partitions: Iterable[Sequence[Write]]) -> None:
        """Executes all writes. Those of one partition go in one unlogged batch, which a replica applies as a whole.

        Raises as :meth:`read` does, and then some of the writes may have been applied.
        """
        _, requests = self._opened()
        batches = [writes for writes in partitions if writes]
        await requests.execute([writes[0] if len(writes) == 1 else writes for writes in batches])
        self._counts["rows_written"] += sum(map(len, batches))

    async def nodes(self) -> list[str]:
        """The addresses of the nodes that the session uses, when it is connected to all of them.

        It waits for that no longer than a connection may take. Some nodes of the list may be down.
        """
        session, _ = self._opened()
        nodes = {node for node in session.cluster.metadata.all_hosts() if is_used(session.cluster, node)}
        deadline = time.monotonic() + self._config.connect_timeout_ms / 1000
        # The driver's threads go on connecting after the session has been opened with the first node.
        while nodes - session.get_pool_state().keys() and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_CONNECTED_POLL_SECONDS)
        return sorted(str(node.endpoint) for node in nodes)

    async def execute(self, statement: str, timeout_seconds: float | None = None, node: str | None = None) -> list[Row]:
        """Executes a statement without preparing it, such as one that changes the schema, and returns its rows.

        ``node`` is one of :meth:`nodes`, or None for any. The driver converts the values, in a thread. Raises as
        :meth:`read` does, and WorldFault if the session is not connected to ``node`` any more.
        """
        session, _ = self._opened()
        # With an unknown node the driver would choose one itself.
        host = next((host for host in session.get_pool_state() if str(host.endpoint) == node), None)
        if node is not None and host is None:
            raise WorldFault(f"Cassandra: no connection to {node}")
        execute = partial(
            session.execute, SimpleStatement(statement), timeout=timeout_seconds or session.default_timeout, host=host
        )
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, execute)
        except Exception as error:
            raise fault(error, statement) from error
        return list(result)

    def usable_time_ms(self, column: str, time_ms: int | None) -> int | None:
        """A ``timestamp`` in ms; None if it is unset, or a time that no datetime can hold.

        Such a time is that of a writer who wrote us instead of ms, for example. The metric ``unusable_times`` counts
        them by ``column``.
        """
        if time_ms is None or MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
            return time_ms
        self._counts["unusable_times", "column", column] += 1
        return None

    def usable_json_time_ms(self, column: str, time: str) -> int | None:
        """The same of a ``timestamp`` as Cassandra's ``toJson`` writes it: ``2024-05-14 03:32:40.002Z``.

        ``toJson`` leaves the era out, so some times before the year 1 look like times after it.
        """
        try:
            return to_time_ms(datetime.fromisoformat(time))
        except ValueError:
            # Of a year that does not have four digits.
            self._counts["unusable_times", "column", column] += 1
            return None

    def to_datetime(self, column: str, time_ms: int | None) -> datetime | None:
        """The same as an aware datetime in UTC."""
        usable_ms = self.usable_time_ms(column, time_ms)
        return None if usable_ms is None else to_datetime(usable_ms)

    async def close(self) -> None:
        """Closes the session if it is open."""
        cluster, self._cluster, self._session = self._cluster, None, None
        requests, self._requests = self._requests, None
        if requests is not None:
            requests.close()
        if cluster is not None:
            await asyncio.get_running_loop().run_in_executor(None, cluster.shutdown)

    def _opened(self) -> tuple[Session, Requests]:
        if self._session is None or self._requests is None:
            raise RuntimeError("the Cassandra session is not open")
        return self._session, self._requests


def token_ranges(count: int) -> list[tuple[int, int]]:
    """Divides the ring into ``count`` ranges of equal size, for ``token(...) > ? AND token(...) <= ?``."""
    span = _LAST_TOKEN - _FIRST_TOKEN
    bounds = [_FIRST_TOKEN + span * number // count for number in range(count + 1)]
    return list(pairwise(bounds))
