"""Executes statements on the driver's connections without its ``Session.execute_async``.

``execute_async`` makes a future with a lock and an event, a timer and a set of callbacks for each statement. Here all
statements of a call share one future, and one timer looks after everything that is in flight.

The driver still finds the nodes, connects, logs in, reconnects, prepares, and says which node a statement should go to.
Its parts that are used here are not documented: the pools of a session (``_pools``, ``borrow_connection``,
``return_connection``), ``Connection.send_msg``, ``process_msg`` and ``error_all_requests``. Another version may have
changed them, so :func:`check_version` refuses any other.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cassandra
from cassandra.cluster import NoHostAvailable, Session
from cassandra.connection import ConnectionException, ConnectionShutdown, _Frame
from cassandra.pool import Host, HostConnection, NoConnectionsAvailable
from cassandra.protocol import PreparedQueryNotFound

from common.servers.cassandra_driver import frames
from common.servers.cassandra_driver.calls import Call, Execution, Request
from common.servers.cassandra_driver.connection import LoopConnection
from common.servers.cassandra_driver.errors import fault, is_of_the_world
from common.servers.cassandra_driver.frames import HEADER, Page, Undecodable
from common.servers.cassandra_driver.values import PROTOCOL_VERSION

SUPPORTED_VERSION = "3.30.1"

MAX_UNANSWERED = 8_192
"""Requests of one connection whose callers have given up. The protocol has numbers for 32,768 in flight, and a number
is free only once its answer has come."""

MAX_COPIES, MAX_COPIES_IN_FLIGHT = 3, 2
"""Of one request: more would only add to the load of a cluster that is too slow already."""

_LOOK_SECONDS = 0.05
"""Between two looks at what is in flight, so a timeout may be so much late."""

_VERSION_MASK = 0x7F

_logger = logging.getLogger(__name__)


def check_version() -> None:
    """Raises RuntimeError if cassandra-driver is another version than the one this was written and tested for."""
    if cassandra.__version__ != SUPPORTED_VERSION:
        raise RuntimeError(
            f"common.servers.cassandra_driver is written for cassandra-driver {SUPPORTED_VERSION}, and this is "
            f"{cassandra.__version__}: compare cassandra/connection.py and cassandra/pool.py of both, and run "
            "the tests that docs/decisions/cassandra-driver.md names"
        )


class DirectConnection(LoopConnection):
    """Cuts frames without a copy of all that follows, and fails requests in the loop where they were made."""

    _requests: dict[int, tuple[Callable[[Any], None], Any, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connects, in a thread of the driver's."""
        self._rest = b""
        super().__init__(*args, **kwargs)

    def _take(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        position, end = 0, len(data)
        while end - position >= HEADER.size:
            version, flags, stream, opcode, length = HEADER.unpack_from(data, position)
            body = position + HEADER.size
            if end - body < length:
                break
            position = body + length
            frame = _Frame(version & _VERSION_MASK, flags, stream, opcode, HEADER.size, HEADER.size + length)
            self.process_msg(frame, data[body:position])
            if self.is_closed:
                return
        self._rest = data[position:]

    def error_all_requests(self, error: Exception) -> None:
        """Fails all that is in flight, whichever thread has noticed that the connection is lost."""
        self._in_loop(self._error_all_requests, ConnectionShutdown(f"{self.endpoint}: {error}"))

    def _error_all_requests(self, error: ConnectionShutdown) -> None:
        requests, self._requests = self._requests, {}
        for callback, _, _ in requests.values():
            try:
                callback(error)
            except Exception:
                _logger.exception("a request could not be told that its connection is lost")


class Requests:
    """Executes statements of one session, in its event loop."""

    def __init__(
        self,
        session: Session,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], int],
        max_in_flight: int,
        timeout: float,
        late_after: float,
    ) -> None:
        """``clock`` gives the timestamps. ``timeout`` and ``late_after`` are in seconds: after the one a request has
        failed, after the other it is sent to one more node if it may be.
        """
        check_version()
        self._session = session
        self._loop = loop
        self._clock = clock
        self._timeout, self._late_after = timeout, late_after
        self._make_query_plan = session.cluster.profile_manager.default.load_balancing_policy.make_query_plan
        self._free = max_in_flight
        self._calls: deque[Call] = deque()
        self._is_start_scheduled = False
        self._in_flight: set[Request] = set()
        self._look_handle: asyncio.TimerHandle | None = None
        self._preparations: dict[str, asyncio.Future[Any]] = {}

    async def execute(self, requests: Sequence[Execution | Sequence[Execution]]) -> list[Page]:
        """The result of each; several executions in one request go as an unlogged batch.

        At the first failure no further request is started, and those in flight are waited for. Then that failure is
        raised, as :func:`errors.fault` makes it.
        """
        if not requests:
            return []
        call = Call(requests)
        self._calls.append(call)
        self._start_requests()
        await call.done
        if call.failure is not None:
            raise call.failure
        return call.results

    def close(self) -> None:
        """Fails what is in flight."""
        if self._look_handle is not None:
            self._look_handle.cancel()
            self._look_handle = None
        for request in tuple(self._in_flight):
            self._fail(request, ConnectionShutdown("the session is closed"))

    def _start_requests(self) -> None:
        self._is_start_scheduled = False
        now = self._loop.time()
        while self._calls and self._free:
            call = self._calls[0]
            if not call.has_more():
                self._calls.popleft()
                continue
            request = Request(call, call.next, now + self._late_after, now + self._timeout)
            call.next += 1
            call.in_flight += 1
            self._free -= 1
            self._in_flight.add(request)
            try:
                request.encode(self._clock())
                request.nodes = self._make_query_plan(None, request)
                if not self._send_to_next(request):
                    raise self._no_node(request)
            except Exception as error:  # noqa: BLE001 - it is raised in the call
                self._fail(request, error)
        if self._in_flight and self._look_handle is None:
            self._look_handle = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _send_to_next(self, request: Request) -> bool:
        """Sends it to the next node of its plan that takes it; False if there is none."""
        for node in request.nodes:  # noqa: SIM110 - it is called for each statement, and a generator costs more
            if self._send(request, node):
                return True
        return False

    def _send(self, request: Request, node: Host) -> bool:
        pool: HostConnection | None = self._session._pools.get(node)
        if pool is None or pool.is_shutdown:
            request.errors.setdefault(node, ConnectionException("no connection is open"))
            return False
        try:
            connection, stream = pool.borrow_connection(0)
        except (ConnectionException, NoConnectionsAvailable) as error:
            request.errors[node] = error
            return False
        try:
            connection.send_msg(
                request,
                stream,
                partial(self._answered, request, node, pool, connection),
                encoder=_encode,
                decoder=frames.decode,
                result_metadata=request.columns,
            )
        except ConnectionException as error:
            request.errors[node] = error
            pool.return_connection(connection)
            return False
        request.copies += 1
        request.asked.append(node)
        return True

    def _no_node(self, request: Request) -> NoHostAvailable:
        cluster = self._session.cluster
        errors: dict[Any, Exception] = {
            node.endpoint: ConnectionException("it is down") for node in cluster.metadata.all_hosts() if not node.is_up
        }
        errors |= {node.endpoint: error for node, error in request.errors.items()}
        # Why there is no connection, where that is known.
        errors |= dict(cluster.connection_class.problems)
        return NoHostAvailable("no node can be used", errors)

    def _answered(
        self, request: Request, node: Host, pool: HostConnection, connection: LoopConnection, answer: Any
    ) -> None:
        """Called in the loop, with a Page, or with what went wrong."""
        pool.return_connection(connection)
        request.copies -= 1
        if request.is_done or self._loop.is_closed():
            return
        if type(answer) is tuple:
            request.call.results[request.index] = answer
            self._end(request)
        elif isinstance(answer, PreparedQueryNotFound) and not request.was_prepared_again:
            request.was_prepared_again = True
            request.asked.remove(node)
            self._loop.create_task(self._prepare_again(request, node))
        else:
            self._not_done(request, node, _error(answer))

    def _not_done(self, request: Request, node: Host, error: Exception) -> None:
        """After the failure of one copy: sends it to another node, waits for the other copy, or fails the request."""
        request.errors[node] = error
        if is_of_the_world(error) and (self._repeat(request) or request.copies):
            return
        self._fail(request, error)

    def _repeat(self, request: Request) -> bool:
        """Sends it to one more node, with a newer timestamp."""
        if not request.is_repeatable or len(request.asked) >= MAX_COPIES or request.copies >= MAX_COPIES_IN_FLIGHT:
            return False
        request.body = frames.with_timestamp(request.body, self._clock())
        return self._send_to_next(request)

    async def _prepare_again(self, request: Request, node: Host) -> None:
        """A node that has forgotten a statement has not executed it, so it may be sent as it is."""
        try:
            await asyncio.gather(*(self._prepare(text) for text in {one.text for one in request.statements}))
        except Exception as error:  # noqa: BLE001 - it is raised in the call
            self._fail(request, error)
            return
        if not request.is_done and not self._send(request, node) and not self._send_to_next(request):
            self._fail(request, self._no_node(request))

    async def _prepare(self, text: str) -> None:
        """On all nodes, once for all who wait for it."""
        if text not in self._preparations:
            self._preparations[text] = self._loop.run_in_executor(None, self._session.prepare, text)
        try:
            await self._preparations[text]
        finally:
            self._preparations.pop(text, None)

    def _look(self) -> None:
        """Fails what has had its time, and sends what is late to one more node."""
        now = self._loop.time()
        for request in tuple(self._in_flight):
            if now >= request.deadline:
                self._fail(request, self._timed_out(request))
            elif now >= request.late_at and len(request.asked) == 1:
                self._repeat(request)
        self._look_handle = self._loop.call_later(_LOOK_SECONDS, self._look) if self._in_flight else None

    def _timed_out(self, request: Request) -> cassandra.OperationTimedOut:
        waited = f"no answer within {self._timeout:g} s"
        for pool in tuple(self._session._pools.values()):
            for connection in pool.get_connections():
                if connection.in_flight > MAX_UNANSWERED:
                    connection.defunct(ConnectionShutdown(f"{connection.in_flight} requests are without an answer"))
        return cassandra.OperationTimedOut(
            {str(node.endpoint): request.errors.get(node, waited) for node in request.asked}
        )

    def _fail(self, request: Request, error: Exception) -> None:
        if request.is_done:
            return
        if request.call.failure is None:
            statements = request.call.requests[request.index]
            first = statements if isinstance(statements, Execution) else statements[0]
            request.call.failure = fault(error, first.statement.text)
        self._end(request)

    def _end(self, request: Request) -> None:
        request.is_done = True
        request.body = b""  # a copy that is late may be in flight for long
        self._in_flight.discard(request)
        self._free += 1
        call = request.call
        call.in_flight -= 1
        if not call.in_flight and not call.has_more() and not call.done.done():
            call.done.set_result(None)
        if self._calls and not self._is_start_scheduled:
            # After all answers that have come together, so that what follows leaves together.
            self._is_start_scheduled = True
            self._loop.call_soon(self._start_requests)


def _encode(request: Request, stream: int, version: int, **_: Any) -> bytes:
    """As the driver calls its ``ProtocolHandler.encode_message``."""
    return HEADER.pack(PROTOCOL_VERSION, 0, stream, request.opcode, len(request.body)) + request.body


def _error(answer: Any) -> Exception:
    if isinstance(answer, Undecodable):
        return answer.error
    if hasattr(answer, "to_exception"):
        error: Exception = answer.to_exception()
        return error
    return answer if isinstance(answer, Exception) else ConnectionException(f"unexpected answer {answer!r}")
