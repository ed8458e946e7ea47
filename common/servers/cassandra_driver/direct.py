"""Sends requests on the driver's connections without its ``Session.execute_async``.

``execute_async`` creates a future with a lock and an event, a timer and callbacks for each statement. Here all requests
of a call share one future, and one timer watches everything that is in flight.

The driver still discovers nodes, connects, authenticates, reconnects, prepares, and chooses the nodes for a request.
Some of its parts that are used here and in :mod:`connection` are not documented: the pools of a session (``_pools``,
``borrow_connection``, ``return_connection``), ``Connection.send_msg``, ``process_msg`` and ``error_all_requests``. They
may differ in another version, so :func:`cluster.check_version` accepts only the one that was tested.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import cassandra
from cassandra.cluster import Session
from cassandra.connection import ConnectionException, ConnectionShutdown
from cassandra.pool import Host, HostConnection, NoConnectionsAvailable
from cassandra.protocol import PreparedQueryNotFound

from common.domain.faults import TaskFault, WorldFault
from common.metrics import Key
from common.servers.cassandra_driver import errors, frames
from common.servers.cassandra_driver.calls import Call, Execution, Request
from common.servers.cassandra_driver.connection import LoopConnection
from common.servers.cassandra_driver.frames import Page
from common.servers.cassandra_driver.no_node import NoNode
from common.servers.cassandra_driver.preparations import Preparations
from common.servers.cassandra_driver.query_plan import SilentNodes

MAX_UNANSWERED = 8_192
"""A connection with more requests in flight is replaced when one of them times out. The protocol has 32,768 stream ids
per connection, and a stream id is not free before its answer has come."""

MAX_NODES, MAX_COPIES_IN_FLIGHT = 3, 2
"""For one request. More would only add load to a cluster that is already too slow."""

_SHARE_OF_REPEATS = 0.05
"""Of all requests, so many may go to one more node because they are late. Where all are slow, more would not help."""
_RESERVE = 10
"""So many times as many as may be in flight may beside them. When a node hangs, others wait for it at first, too."""

_NO_NODES: Iterator[Host] = iter(())

_LOOK_SECONDS = 0.05
"""The interval at which the deadlines are checked, so a timeout may come this much late."""

_FIRST_PAUSE_SECONDS = 0.1
"""Before failed requests are sent again. It doubles each time."""


class Requests:
    """Sends the requests of one session, in its event loop."""

    def __init__(
        self,
        session: Session,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], int],
        counts: Counter[Key],
        max_in_flight: int,
        timeout: float,
        late_after: float,
        silent_after: float,
    ) -> None:
        """``clock`` gives the timestamp of a request and of each repeat, or raises what fails it. ``counts`` gets
        ``requests_repeated``. Times are in seconds: after ``timeout`` a request has failed; after ``late_after``, or
        once its node has sent nothing for ``silent_after``, it is sent to one more node if it may be.
        """
        self._session = session
        self._loop = loop
        self._clock = clock
        self._counts = counts
        self._timeout, self._late_after, self._silent_after = timeout, late_after, silent_after
        self._make_query_plan = session.cluster.profile_manager.default.load_balancing_policy.make_query_plan
        self._silent_nodes = SilentNodes()
        self._free = max_in_flight
        self._reserve = self._spare_repeats = float(_RESERVE * max_in_flight)
        self._calls: deque[Call] = deque()
        self._is_start_scheduled = self._is_closed = False
        self._in_flight: set[Request] = set()
        self._look_handle: asyncio.TimerHandle | None = None
        self._preparations = Preparations(loop, timeout)
        self._no_node = NoNode(session, loop)

    async def execute(self, requests: Sequence[Execution | Sequence[Execution]]) -> list[Page]:
        """Returns the result of each request. A request of several executions goes as an unlogged batch.

        At the first failure no further request is started, and those in flight are waited for. If only nodes and
        connections have failed, and some requests have succeeded, the others are sent again until the timeout of the
        first ones is over. Otherwise the first failure is raised, as :func:`errors.fault` makes it.
        """
        if not requests:
            return []
        call = Call(requests)
        deadline = self._loop.time() + self._timeout
        pause = _FIRST_PAUSE_SECONDS
        while True:
            self._calls.append(call)
            self._start_requests()
            await call.done
            if call.failure is None:
                return call.results
            if self._is_closed or not call.is_worth_finishing() or self._loop.time() + pause >= deadline:
                failure, call.failure = call.failure, None
                try:
                    raise failure
                finally:
                    del failure  # see errors.without_frames
            await asyncio.sleep(pause)
            pause *= 2
            self._counts["requests_repeated"] += len(call.late)
            call.begin_next_round(deadline)

    def close(self) -> None:
        """Fails everything in flight. Nothing is sent again."""
        self._is_closed = True
        if self._look_handle is not None:
            self._look_handle.cancel()
            self._look_handle = None
        for request in tuple(self._in_flight):
            self._fail(request, _closed())

    def _start_requests(self) -> None:
        self._is_start_scheduled = False
        now = self._loop.time()
        while self._calls and self._free:
            call = self._calls[0]
            if not call.has_more():
                self._calls.popleft()
                continue
            deadline = min(now + self._timeout, call.deadline)
            request = Request(call, call.waiting.popleft(), now, deadline)
            call.in_flight += 1
            self._free -= 1
            self._in_flight.add(request)
            try:
                if self._is_closed:
                    raise _closed()
                request.encode(self._clock())
                request.nodes = iter(self._silent_nodes.put_last(self._make_query_plan(None, request)))
                if not self._send_to_next(request):
                    raise self._no_node.error(request.errors)
            except Exception as error:  # noqa: BLE001 - it is raised in the call
                self._fail(request, error)
        if self._in_flight and self._look_handle is None:
            self._look_handle = self._loop.call_later(_LOOK_SECONDS, self._look)

    def _send_to_next(self, request: Request) -> bool:
        """Sends it to the next node of its query plan that accepts it. Returns False if there is none."""
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
            request.errors[node] = errors.without_frames(error)
            return False
        try:
            connection.send_msg(
                request,
                stream,
                partial(self._answered, request, node, pool, connection),
                encoder=frames.encode,
                decoder=frames.decode,
                result_metadata=request.columns,
            )
        except ConnectionException as error:
            request.errors[node] = errors.without_frames(error)
            pool.return_connection(connection)
            return False
        request.copies += 1
        request.asked[node] = connection
        request.looks, request.heard_at = 0, connection.heard_at
        return True

    def _answered(
        self, request: Request, node: Host, pool: HostConnection, connection: LoopConnection, answer: Any
    ) -> None:
        """Called in the loop with a Page or an error."""
        pool.return_connection(connection)
        if request.is_done or self._loop.is_closed():
            return
        if type(answer) is tuple:
            request.copies -= 1
            request.call.results[request.index] = answer
            self._end(request)
        elif isinstance(answer, PreparedQueryNotFound) and node not in request.prepared_on:
            # The copy stays in flight while its node prepares the statement.
            request.prepared_on += (node,)
            self._loop.create_task(self._prepare_again(request, node, pool))
        else:
            request.copies -= 1
            self._not_done(request, node, frames.error_of(answer))

    def _not_done(self, request: Request, node: Host, error: Exception) -> None:
        """After one copy failed: sends it to another node, waits for the other copy, or fails the request."""
        request.errors[node] = errors.without_frames(error)
        if errors.is_of_the_world(error) and (self._repeat(request) or request.copies):
            return
        self._fail(request, error)

    def _repeat(self, request: Request) -> bool:
        """Sends it to another node, with a newer timestamp; fails it if the clock gives none.

        Returns False if it may not or cannot be sent.
        """
        if not request.is_repeatable or len(request.asked) >= MAX_NODES or request.copies >= MAX_COPIES_IN_FLIGHT:
            return False
        nodes = list(self._silent_nodes.put_last(request.nodes))
        request.nodes = iter(nodes)
        if not nodes:
            return False
        try:
            request.body = frames.with_timestamp(request.body, self._clock())
        except TaskFault as error:
            self._fail(request, error)
            return True
        if not self._send_to_next(request):
            return False
        self._counts["requests_repeated"] += 1
        return True

    async def _prepare_again(self, request: Request, node: Host, pool: HostConnection) -> None:
        """A node that does not know the statement has not executed it, so its copy may be sent again."""
        texts = {one.text for one in request.statements}
        answers = await asyncio.gather(*(self._preparations.prepare(pool, text) for text in texts))
        request.copies -= 1
        if request.is_done:
            return
        error = next((frames.error_of(answer) for answer in answers if answer is not None), None)
        if error is not None:
            # Not the fault of an event, but of the schema.
            found = (
                error if errors.is_of_the_world(error) else errors.fault_without_event(error, errors.REFUSED_STATEMENT)
            )
            self._not_done(request, node, found)
            return
        del request.asked[node]
        try:
            if request.asked:
                # Another node may execute the same bytes, and no two copies may have one timestamp.
                request.body = frames.with_timestamp(request.body, self._clock())
            if not self._send(request, node) and not self._send_to_next(request) and not request.copies:
                raise self._no_node.error(request.errors)
        except Exception as problem:  # noqa: BLE001 - it is raised in the call
            self._fail(request, problem)

    def _look(self) -> None:
        """Fails requests whose deadline has passed, and sends others to another node: late ones, and those on a node
        that is silent.
        """
        now = self._loop.time()
        late: list[Request] = []
        try:
            for request in tuple(self._in_flight):
                try:
                    if now >= request.deadline:
                        self._fail(request, self._timed_out(request))
                    elif len(request.asked) == 1 and (
                        self._is_silent(request) or now >= request.sent_at + self._late_after
                    ):
                        late.append(request)
                except Exception as error:  # noqa: BLE001 - it is raised in the call
                    self._fail(request, errors.defect(error))
            # Now all silent nodes are known.
            for request in late:
                try:
                    # A connection that is lost while another request is sent can end this one.
                    if self._spare_repeats >= 1 and not request.is_done and self._repeat(request):
                        self._spare_repeats -= 1
                except Exception as error:  # noqa: BLE001 - it is raised in the call
                    self._fail(request, errors.defect(error))
        finally:
            # Whatever happens: without the next look nothing would ever time out again.
            self._look_handle = self._loop.call_later(_LOOK_SECONDS, self._look) if self._in_flight else None

    def _is_silent(self, request: Request) -> bool:
        """Whether its only node has sent nothing for so long. If so, the node is noted. Not for a page, which may take
        longer.

        Counted in looks: while something else keeps the loop busy, nothing is received, and that is one look.
        """
        if request.is_page:
            return False
        ((node, connection),) = request.asked.items()
        if request.heard_at != connection.heard_at:
            request.looks, request.heard_at = 0, connection.heard_at
        request.looks += 1
        # The first look may come at once.
        if (request.looks - 1) * _LOOK_SECONDS < self._silent_after:
            return False
        self._silent_nodes.note(node, connection)
        return True

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
        call = request.call
        failure = errors.fault(error, call.statement(request.index).text)
        if isinstance(failure, WorldFault) and request.is_repeatable:
            call.late.append(request.index)
        else:
            call.is_final = True
        call.failure = call.failure or errors.without_frames(failure)
        self._end(request)

    def _end(self, request: Request) -> None:
        request.is_done = True
        request.body = b""  # another copy may stay in flight for long
        # The plan refers to its request. Together they would keep the values of the whole call until the garbage
        # collector comes, which is rare in a worker.
        request.nodes = _NO_NODES
        self._in_flight.discard(request)
        self._spare_repeats = min(self._reserve, self._spare_repeats + _SHARE_OF_REPEATS)
        self._free += 1
        call = request.call
        call.in_flight -= 1
        if not call.in_flight and not call.has_more() and not call.done.done():
            call.done.set_result(None)
        if self._calls and not self._is_start_scheduled:
            # After all answers that arrived together, so that the next requests leave together.
            self._is_start_scheduled = True
            self._loop.call_soon(self._start_requests)


def _closed() -> ConnectionShutdown:
    return ConnectionShutdown("the session is closed")
