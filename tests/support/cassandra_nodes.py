"""Connections to Cassandra nodes that a test answers, and the requests on them."""

import asyncio
import itertools
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

from cassandra.policies import HostDistance
from cassandra.protocol import PreparedQueryNotFound, PrepareMessage

from common.servers.cassandra_driver import direct
from common.servers.cassandra_driver.calls import Execution

SILENT_AFTER, LATE_AFTER = 0.2, 30.0
IN_FLIGHT = 10
PAGE: Any = ((), None)
TIMESTAMP = struct.Struct(">q")
"""It is the whole body of a request here."""


class Connection:
    """To one node. What was sent is answered when a test says so."""

    FORGOTTEN = PreparedQueryNotFound(code=0x2500, message="", info=b"")
    is_shutdown = is_closed = False
    in_flight = 0

    def __init__(self, host: "Node") -> None:
        self.host = host
        self.heard_at = 0.0
        self.sent: list[Callable[[Any], None]] = []
        self.timestamps: list[int] = []
        """That of each request in ``sent``."""
        self.prepared: list[Callable[[Any], None]] = []
        """The PREPAREs, which are not in ``sent``."""

    def send_msg(self, request: Any, _stream: int, answered: Callable[[Any], None], **_: object) -> None:
        if isinstance(request, PrepareMessage):
            self.prepared.append(answered)
            return
        self.timestamps += TIMESTAMP.unpack(request.body)
        self.sent.append(answered)

    def hear(self) -> None:
        self.heard_at = asyncio.get_running_loop().time()

    def answer(self, answer: Any = PAGE) -> None:
        """The last copy of a request."""
        self.hear()
        self.sent[-1](answer)

    async def forget(self) -> None:
        """Answers the last copy as a node that does not know the statement, and waits until it is told it."""
        self.answer(self.FORGOTTEN)
        while not self.prepared:  # noqa: ASYNC110 - the driver is another task
            await asyncio.sleep(0.001)

    async def wait_for(self, sent: int) -> None:
        while len(self.sent) < sent:  # noqa: ASYNC110 - the driver is another task
            await asyncio.sleep(0.001)

    # As the pool that it is the only connection of.

    def borrow_connection(self, _timeout: float) -> tuple["Connection", int]:
        return self, 0

    def return_connection(self, _connection: object) -> None:
        pass

    def get_connections(self) -> list["Connection"]:
        return [self]


class Node(str):
    """The driver's Host, which is also its own endpoint."""

    is_up: bool | None = True

    @property
    def endpoint(self) -> str:
        return self


class Cluster:
    """Nodes A, B and C, tried in this order, and the requests to them."""

    def __init__(self, timeout: float) -> None:
        self.nodes: dict[str, Connection] = {node: Connection(node) for node in map(Node, "ABC")}
        self.problems: dict[str, Exception] = {}
        self.a, self.b, self.c = self.nodes.values()
        self.counts: Counter[Any] = Counter()
        self.others: list[Node] = []
        """Nodes of another datacenter."""
        policy = SimpleNamespace(
            make_query_plan=lambda *_: iter(self.nodes),
            distance=lambda node: HostDistance.IGNORED if node in self.others else HostDistance.LOCAL,
        )
        profiles = SimpleNamespace(default=SimpleNamespace(load_balancing_policy=policy))
        driver = SimpleNamespace(
            profile_manager=profiles,
            metadata=SimpleNamespace(all_hosts=lambda: [*self.nodes, *self.others]),
            connection_class=SimpleNamespace(problems=self.problems),
        )
        session: Any = SimpleNamespace(cluster=driver, _pools=self.nodes)
        self.requests = direct.Requests(
            session,
            asyncio.get_running_loop(),
            clock=itertools.count(1).__next__,
            counts=self.counts,
            max_in_flight=IN_FLIGHT,
            timeout=timeout,
            late_after=LATE_AFTER,
            silent_after=SILENT_AFTER,
        )

    def execute(
        self,
        page: tuple[int, None] | None = None,
        values: Sequence[Any] = (),
        encode: Callable[[Any], list[bytes]] = lambda _: [],
    ) -> asyncio.Task[Any]:
        statement: Any = SimpleNamespace(
            is_repeatable=True,
            text="SELECT",
            columns=None,
            keyspace=None,
            encode=encode,
            execute_body=lambda _values, timestamp, _page: TIMESTAMP.pack(timestamp),
            routing_key=lambda _: None,
        )
        return asyncio.ensure_future(self.requests.execute([Execution(statement, values, page)]))

    def silent_last(self) -> str:
        """The order in which nodes are tried now."""
        return "".join(self.requests._silent_nodes.put_last(self.nodes))


@asynccontextmanager
async def cluster(request_timeout: float = 30) -> AsyncIterator[Cluster]:
    cluster = Cluster(request_timeout)
    try:
        yield cluster
    finally:
        cluster.requests.close()
