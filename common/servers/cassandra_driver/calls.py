"""What is asked of Cassandra: calls, and the requests they are made of. Knows the bytes, not how they are sent."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cassandra.pool import Host

from common.servers.cassandra_driver import frames
from common.servers.cassandra_driver.frames import Columns, Statement


@dataclass(frozen=True, slots=True)
class Execution:
    """A statement with its values; ``page`` is the number of rows to return at most, and the paging state."""

    statement: Statement
    values: Sequence[Any]
    page: tuple[int, bytes | None] | None = None


class Call:
    """The requests of one call of :meth:`Requests.execute`."""

    __slots__ = ("done", "failure", "in_flight", "next", "requests", "results")

    def __init__(self, requests: Sequence[Execution | Sequence[Execution]]) -> None:
        """In the event loop."""
        self.requests = requests
        self.results: list[Any] = [None] * len(requests)
        self.next = self.in_flight = 0
        self.failure: Exception | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def has_more(self) -> bool:
        """Whether another request is to be started: not after a failure, nor once the caller has gone."""
        return self.next < len(self.requests) and self.failure is None and not self.done.done()


class Request:
    """An EXECUTE or BATCH. ``keyspace`` and ``routing_key`` are what the driver's load balancing asks of a query."""

    __slots__ = (
        "asked",
        "body",
        "call",
        "columns",
        "copies",
        "deadline",
        "errors",
        "index",
        "is_done",
        "is_repeatable",
        "keyspace",
        "late_at",
        "nodes",
        "opcode",
        "routing_key",
        "statements",
        "was_prepared_again",
    )

    body: bytes
    columns: Columns | None
    is_repeatable: bool
    keyspace: str | None
    nodes: Iterator[Host]
    opcode: int
    routing_key: bytes | None
    statements: Sequence[Statement]

    def __init__(self, call: Call, index: int, late_at: float, deadline: float) -> None:
        """The ``index``-th of the call; times are those of the loop, in seconds."""
        self.call, self.index = call, index
        self.late_at, self.deadline = late_at, deadline
        self.copies = 0
        """That are in flight."""
        self.asked: list[Host] = []
        self.errors: dict[Any, Exception] = {}
        self.is_done = self.was_prepared_again = False

    def encode(self, timestamp_us: int) -> None:
        """Raises StatementError."""
        request = self.call.requests[self.index]
        if isinstance(request, Execution):
            statement = request.statement
            encoded = statement.encode(request.values)
            self.opcode, self.columns = frames.EXECUTE, statement.columns
            self.body = statement.execute_body(encoded, timestamp_us, request.page)
            self.statements, self.is_repeatable = (statement,), statement.is_repeatable
        else:
            parts = []
            for execution in request:
                statement = execution.statement
                encoded = statement.encode(execution.values)
                parts.append(statement.batch_part(encoded))
            self.opcode, self.columns = frames.BATCH, None
            self.body = frames.batch_body(parts, statement.batch_end(timestamp_us))
            self.statements = [execution.statement for execution in request]
            self.is_repeatable = all(statement.is_repeatable for statement in self.statements)
        self.keyspace, self.routing_key = statement.keyspace, statement.routing_key(encoded)
