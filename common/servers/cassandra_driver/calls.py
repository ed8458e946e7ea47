"""A call and the requests it consists of. Knows their bytes, but not how they are sent."""

import asyncio
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cassandra.pool import Host

from common.servers.cassandra_driver import frames
from common.servers.cassandra_driver.connection import LoopConnection
from common.servers.cassandra_driver.frames import Columns, Statement


@dataclass(frozen=True, slots=True)
class Execution:
    """A statement with its values. ``page`` is the maximum number of rows to return, and the paging state."""

    statement: Statement
    values: Sequence[Any]
    page: tuple[int, bytes | None] | None = None


class Call:
    """The requests of one call of :meth:`Requests.execute`."""

    __slots__ = ("deadline", "done", "failure", "in_flight", "is_final", "late", "requests", "results", "waiting")

    def __init__(self, requests: Sequence[Execution | Sequence[Execution]]) -> None:
        """To be created in the event loop."""
        self.requests = requests
        self.results: list[Any] = [None] * len(requests)
        self.waiting = deque(range(len(requests)))
        """Indexes of the requests that have not been sent in this round."""
        self.deadline = math.inf
        """For all requests together, in seconds of the loop's time. The first round has none."""
        self._begin_round()

    def _begin_round(self) -> None:
        self.in_flight = 0
        self.late: list[int] = []
        """Indexes of the requests that have failed in this round."""
        self.failure: Exception | None = None
        self.is_final = False
        """Whether another round would not help, or is not allowed."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin_next_round(self, deadline: float) -> None:
        """With the requests that have no result yet."""
        self.waiting.extendleft(reversed(self.late))
        self.deadline = deadline
        self._begin_round()

    def has_more(self) -> bool:
        """Whether another request is to be sent: not after a failure, nor once the caller has gone."""
        return bool(self.waiting) and self.failure is None and not self.done.done()

    def statement(self, index: int) -> Statement:
        """That of a request; the first one of a batch."""
        request = self.requests[index]
        return (request if isinstance(request, Execution) else request[0]).statement

    def is_worth_finishing(self) -> bool:
        """Whether some request has succeeded, and all failures are those of a node or a connection."""
        return not self.is_final and any(result is not None for result in self.results)


class Request:
    """An EXECUTE or BATCH. The driver's load balancing policies read its ``keyspace`` and ``routing_key``."""

    __slots__ = (
        "asked",
        "body",
        "call",
        "columns",
        "copies",
        "deadline",
        "errors",
        "heard_at",
        "index",
        "is_done",
        "is_repeatable",
        "keyspace",
        "looks",
        "nodes",
        "opcode",
        "prepared_on",
        "routing_key",
        "sent_at",
        "statements",
    )

    body: bytes
    columns: Columns | None
    is_repeatable: bool
    keyspace: str | None
    nodes: Iterator[Host]
    opcode: int
    routing_key: bytes | None
    statements: Sequence[Statement]

    def __init__(self, call: Call, index: int, sent_at: float, deadline: float) -> None:
        """``index`` is that in the call. Times are those of the loop, in seconds."""
        self.call, self.index = call, index
        self.sent_at, self.deadline = sent_at, deadline
        self.looks, self.heard_at = 0, 0.0
        """For how many looks its connection has been silent, and when the node last sent something before that."""
        self.copies = 0
        """In flight, each on another node. Not counted any more once it is done."""
        self.asked: dict[Host, LoopConnection] = {}
        """The nodes that it was sent to, in order, and on which connection."""
        self.errors: dict[Any, Exception] = {}
        self.prepared_on: tuple[Host, ...] = ()
        """The nodes that had forgotten a statement and were told it again."""
        self.is_done = self.is_repeatable = False

    @property
    def is_page(self) -> bool:
        """Whether it asks for a page of many rows."""
        request = self.call.requests[self.index]
        return isinstance(request, Execution) and request.page is not None

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
