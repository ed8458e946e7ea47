"""Tells a node a statement that it has forgotten, such as after a change of the table."""

import asyncio
from functools import partial
from typing import Any

from cassandra import OperationTimedOut
from cassandra.connection import ConnectionException
from cassandra.pool import HostConnection, NoConnectionsAvailable
from cassandra.protocol import PrepareMessage

from common.servers.cassandra_driver import frames
from common.servers.cassandra_driver.connection import LoopConnection


class Preparations:
    """Statements that are prepared again, each once for all requests that wait for it.

    The driver's ``Session.prepare`` is of no use here. It asks all nodes one after the other, of which one may hang or
    not have the newest schema. And its result takes the place of ours among those that the driver prepares on a node
    that comes back, and is forgotten at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        """A PREPARE without an answer for ``timeout`` seconds has failed: else all later requests would wait for it."""
        self._loop = loop
        self._timeout = timeout
        self._pending: dict[tuple[HostConnection, str], asyncio.Future[Any]] = {}

    def prepare(self, pool: HostConnection, text: str) -> "asyncio.Future[Any]":
        """On the pool's node. The result is None or the error."""
        key = (pool, text)
        if key not in self._pending:
            self._pending[key] = done = self._loop.create_future()
            timer = self._loop.call_later(self._timeout, self._time_out, pool, done)
            done.add_done_callback(lambda _: timer.cancel())
            done.add_done_callback(lambda _: self._pending.pop(key))
            self._send(pool, text, done)
        return self._pending[key]

    def _time_out(self, pool: HostConnection, done: "asyncio.Future[Any]") -> None:
        if not done.done():
            reason = f"it was not prepared within {self._timeout:g} s"
            done.set_result(OperationTimedOut({str(pool.host.endpoint): reason}))

    def _send(self, pool: HostConnection, text: str, done: "asyncio.Future[Any]") -> None:
        try:
            connection, stream = pool.borrow_connection(0)
        except (ConnectionException, NoConnectionsAvailable) as error:
            done.set_result(error)
            return
        try:
            connection.send_msg(
                PrepareMessage(text),
                stream,
                partial(self._answered, pool, connection, done),
                decoder=frames.decode_prepared,
            )
        except ConnectionException as error:
            pool.return_connection(connection)
            done.set_result(error)

    def _answered(
        self, pool: HostConnection, connection: LoopConnection, done: "asyncio.Future[Any]", answer: Any
    ) -> None:
        pool.return_connection(connection)
        if not done.done() and not self._loop.is_closed():
            done.set_result(answer)
