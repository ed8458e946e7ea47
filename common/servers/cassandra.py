"""Statements on Cassandra: prepared, many at a time, with the failures told apart.

The driver is cassandra-driver. Only this module and the package ``cassandra_driver`` know it;
docs/decisions/cassandra-driver.md says why it was chosen and how it is used.

**What is sent twice.** A statement whose node goes away, fails or is late is sent to one more node, with a newer
timestamp.
So where both executions set a list, the elements of the newer one remain. A statement that sets a list and has its
timestamp as a parameter is sent only once.

**Times.** A ``timestamp`` is read as ms since 1970. It is written from ms or from an aware datetime.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Any

from cassandra.cluster import Cluster, Session
from cassandra.query import SimpleStatement

from common.config.model import CassandraConfig
from common.domain.events import MAX_TIME_MS, to_datetime
from common.domain.faults import TaskFault
from common.domain.native_protocol import Encoder
from common.metrics import Metrics
from common.servers.cassandra_driver.calls import Execution
from common.servers.cassandra_driver.cluster import CLOCK, create_cluster
from common.servers.cassandra_driver.connection import LoopConnection, bound_to
from common.servers.cassandra_driver.direct import DirectConnection, Requests
from common.servers.cassandra_driver.errors import StatementError, fault
from common.servers.cassandra_driver.frames import Column, Row, Statement

__all__ = ["Cassandra", "Column", "Row", "Statement", "StatementError", "Write", "next_timestamp_us", "token_ranges"]

Write = Execution
"""One statement with its parameters."""

next_timestamp_us = CLOCK
"""The next timestamp for a statement that has one as a parameter, in us since 1970. It never goes back."""

MIN_TIME_MS = -62_135_510_400_000
"""First ms of 2 January of the year 1 in UTC, which has begun everywhere: the counterpart of ``MAX_TIME_MS``."""

_FIRST_TOKEN, _LAST_TOKEN = -(2**63), 2**63 - 1
"""Of the Murmur3 partitioner. No row has the first one."""


class Cassandra:
    """One session. Created, used and closed in one event loop."""

    def __init__(self, config: CassandraConfig, metrics: Metrics) -> None:
        """Connects to nothing yet."""
        self._config = config
        self._counts = metrics.counts
        self._cluster: Cluster | None = None
        self._session: Session | None = None
        self._requests: Requests | None = None

    async def open(self, keyspace: str | None = None) -> None:
        """Connects; ``keyspace`` is that of tables which statements name without one.

        Raises WorldFault if no node answers, TaskFault if they refuse this user or certificate.
        """
        loop = asyncio.get_running_loop()
        connection_class = bound_to(loop, DirectConnection)
        try:
            # In a thread, because the driver asks the DNS already when the cluster is made.
            self._session = await loop.run_in_executor(None, self._connect, connection_class, keyspace)
        except Exception as error:
            raise _fault_of_the_start(error, "Cassandra cannot be used") from error
        self._requests = Requests(
            self._session,
            loop,
            clock=CLOCK,
            max_in_flight=self._config.max_concurrent_statements,
            timeout=self._config.request_timeout_ms / 1000,
            late_after=self._config.speculative_delay_ms / 1000,
        )

    def _connect(self, connection_class: type[LoopConnection], keyspace: str | None) -> Session:
        self._cluster = create_cluster(self._config, connection_class)
        return self._cluster.connect(keyspace)

    async def prepare(self, statement: str, encoders: Mapping[str, Encoder] | None = None) -> Statement:
        """Prepares a statement for this session.

        ``encoders`` are for parameters, by column, that the caller has a faster way to encode for than their type's.
        Raises WorldFault, or TaskFault if the table, a column or the permission is missing.
        """
        session, _ = self._opened()
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(None, session.prepare, statement)
        except Exception as error:
            raise _fault_of_the_start(error, "Cassandra refuses a statement") from error
        profile = session.cluster.profile_manager.default
        return Statement.of(prepared, tuple((encoders or {}).items()), profile.consistency_level)

    async def read(self, statement: Statement, parameters: Sequence[Sequence[Any]]) -> list[list[Row]]:
        """The rows of each parameter list, in their order. Raises WorldFault, TaskFault or StatementError."""
        _, requests = self._opened()
        pages = await requests.execute([Execution(statement, values) for values in parameters])
        rows = [rows for rows, _ in pages]
        self._counts["rows_read"] += sum(map(len, rows))
        return rows

    async def pages(self, statement: Statement, parameters: Sequence[Any], page_size: int) -> AsyncIterator[list[Row]]:
        """The rows of one statement, at most ``page_size`` at a time, no page empty. Raises as :meth:`read` does."""
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
        """The pages of a whole table, token range by token range, so that no query reads too much at once.

        The last two parameters of the statement are the bounds: ``token(key) > ? AND token(key) <= ?``.
        """
        for bounds in token_ranges(ranges):
            async for rows in self.pages(statement, (*parameters, *bounds), page_size):
                yield rows

    async def write(self, partitions: Iterable[Sequence[Write]]) -> None:
        """Executes all; the writes of one partition in one unlogged batch, which a replica applies as a whole.

        Raises as :meth:`read` does. Some of the writes may have been applied then.
        """
        _, requests = self._opened()
        batches = [writes for writes in partitions if writes]
        await requests.execute([writes[0] if len(writes) == 1 else writes for writes in batches])
        self._counts["rows_written"] += sum(map(len, batches))

    async def execute(self, statement: str, timeout_seconds: float | None = None) -> list[Row]:
        """Executes a statement that is not prepared, such as one that changes the schema, and returns its rows.

        It runs in a thread, and the driver converts the values. Raises as :meth:`read` does.
        """
        session, _ = self._opened()
        execute = partial(
            session.execute, SimpleStatement(statement), timeout=timeout_seconds or session.default_timeout
        )
        try:
            result = await asyncio.get_running_loop().run_in_executor(None, execute)
        except Exception as error:
            raise fault(error, statement) from error
        return list(result)

    def to_datetime(self, column: str, time_ms: int | None) -> datetime | None:
        """A ``timestamp`` as an aware datetime in UTC.

        None if it is unset, or outside of what a datetime can hold in every time zone: somebody wrote us instead of ms.
        Such times are counted by ``column`` in the metric ``unusable_times``.
        """
        if time_ms is None:
            return None
        if MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
            return to_datetime(time_ms)
        self._counts["unusable_times", "column", column] += 1
        return None

    async def close(self) -> None:
        """Closes the session, if there is one."""
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
    """The ring in ``count`` parts of the same size, for ``token(...) > ? AND token(...) <= ?``."""
    span = _LAST_TOKEN - _FIRST_TOKEN
    bounds = [_FIRST_TOKEN + span * number // count for number in range(count + 1)]
    return list(pairwise(bounds))


def _fault_of_the_start(error: Exception, what: str) -> Exception:
    """Without the right answer nothing can begin, so what is no fault of the world is one of the task."""
    found = fault(error)
    return TaskFault(f"{what}: {error}") if isinstance(found, StatementError) else found
