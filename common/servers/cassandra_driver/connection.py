"""The driver's connections, read and written in the caller's event loop.

The class of the driver's connections can be replaced (``Cluster.connection_class``). Its own class for asyncio runs
another event loop in another thread, so that each answer has to wake the caller's loop. Here the caller's loop reads
the answers itself.

Connecting and the TLS handshake block. The driver does both in its own threads.
"""

import asyncio
import logging
import ssl
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from cassandra import AuthenticationFailed
from cassandra.connection import Connection, ConnectionException, ConnectionShutdown, EndPoint, _Frame

from common.servers.cassandra_driver.errors import TLS_CUT_SHORT, Refused, is_refusal
from common.servers.cassandra_driver.frames import HEADER

_logger = logging.getLogger(__name__)

_READ_BYTES = 256 * 1024
_VERSION_MASK = 0x7F

_TRY_LATER = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Timer:
    """A timeout of the driver's own requests. Ours share one timer: see :mod:`direct`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float, callback: Callable[[], None]) -> None:
        """Starts the timer, from any thread. ``timeout`` is in seconds."""
        self._is_cancelled = False
        self._callback = callback
        loop.call_soon_threadsafe(loop.call_later, timeout, self._end)

    def cancel(self) -> None:
        """May be called from any thread. The callback may be running already."""
        self._is_cancelled = True

    def _end(self) -> None:
        if not self._is_cancelled:
            self._callback()


class LoopConnection(Connection):
    """A connection that belongs to one event loop. :func:`bound_to` binds the class to it."""

    is_closed: bool
    loop: ClassVar[asyncio.AbstractEventLoop]
    thread: ClassVar[int]
    problems: ClassVar[dict[EndPoint, Exception]]
    """Why the last connection to a node failed or was lost. A successful connection removes the entry."""

    @classmethod
    def factory(cls, endpoint: EndPoint, *args: Any, **kwargs: Any) -> "LoopConnection":
        """Connects, in one of the driver's threads. Raises OSError, ConnectionException or Refused."""
        try:
            connection: LoopConnection = super().factory(endpoint, *args, **kwargs)
        except Exception as error:
            cls.problems[endpoint] = reason = _reason(endpoint, error)
            if reason is error:
                raise
            raise reason from error
        cls.problems.pop(endpoint, None)
        return connection

    @classmethod
    def create_timer(cls, timeout: float, callback: Callable[[], None]) -> Timer:
        """Called by the driver."""
        return Timer(cls.loop, timeout, callback)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connects, in one of the driver's threads."""
        super().__init__(*args, **kwargs)
        self._handshake_error: ssl.SSLError | None = None
        self.heard_at = 0.0
        """When the node last sent something, in seconds of the loop's time."""
        self._unsent: list[bytes] = []
        self._is_flush_scheduled = False
        self._is_blocked = False
        try:
            self._connect_socket()
        except OSError:
            # The driver has replaced it by an OSError whose number means something else.
            if self._handshake_error is not None:
                raise self._handshake_error from None
            raise
        self._socket.setblocking(False)
        self.loop.call_soon_threadsafe(self._start)
        self._send_options_message()

    def _initiate_connection(self, address: Any) -> None:
        try:
            super()._initiate_connection(address)
        except ssl.SSLError as error:
            self._handshake_error = error
            raise

    def _start(self) -> None:
        if not self.is_closed:
            self.loop.add_reader(self._socket.fileno(), self._read)

    def push(self, data: bytes) -> None:
        """Sends data, together with all other data pushed in the same iteration of the loop."""
        self._unsent.append(data)
        if not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            if threading.get_ident() == self.thread:
                self.loop.call_soon(self._flush)
            else:
                self.loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        if self.is_closed or self._is_blocked or not self._unsent:
            return
        unsent, self._unsent = self._unsent, []
        self._send(memoryview(b"".join(unsent)))

    def _send(self, data: memoryview) -> None:
        while data:
            try:
                data = data[self._socket.send(data) :]
            except _TRY_LATER:
                self._is_blocked = True
                self.loop.add_writer(self._socket.fileno(), self._send_rest, data)
                return
            except OSError as error:
                self.defunct(self._refusal() or error)
                return

    def _refusal(self) -> ssl.SSLError | None:
        """The TLS alert that a node sent before it closed the connection, if it has sent one.

        In TLS 1.3 a node checks our certificate when our side of the handshake is over. So the first thing to fail may
        be a write, whose error does not say why.
        """
        try:
            self._socket.recv(_READ_BYTES)
        except ssl.SSLError as error:
            return None if isinstance(error, TLS_CUT_SHORT + _TRY_LATER) else error
        except OSError:
            return None
        return None

    def _send_rest(self, data: memoryview) -> None:
        self.loop.remove_writer(self._socket.fileno())
        self._is_blocked = False
        self._send(data)
        self._flush()

    def _read(self) -> None:
        while not self.is_closed:
            try:
                data = self._socket.recv(_READ_BYTES)
            except _TRY_LATER:
                return
            except OSError as error:
                self.defunct(error)
                return
            if not data:
                self.defunct(ConnectionShutdown(f"{self.endpoint} has closed the connection"))
                return
            self.heard_at = self.loop.time()
            self._take(data)
            # select() does not know of data that the TLS socket has already decrypted.
            if self.ssl_context is None:
                return

    def _take(self, data: bytes) -> None:
        self._iobuf.write(data)
        self.process_io_buffer()

    def defunct(self, error: Exception) -> Any:
        """Closes the connection after an error. Also called by the driver."""
        self.problems[self.endpoint] = _reason(self.endpoint, error)
        return super().defunct(error)

    def close(self) -> None:
        """May be called from any thread."""
        with self.lock:
            if self.is_closed:
                return
            self.is_closed = True
        self._in_loop(self._close)
        if not self.is_defunct:
            self.error_all_requests(ConnectionShutdown("it was closed"))
            self.connected_event.set()

    def _close(self) -> None:
        file = self._socket.fileno()
        if file >= 0 and not self.loop.is_closed():
            self.loop.remove_reader(file)
            self.loop.remove_writer(file)
        self._socket.close()

    def _in_loop(self, function: Callable[..., None], *args: Any) -> None:
        if threading.get_ident() == self.thread or self.loop.is_closed():
            function(*args)
        else:
            self.loop.call_soon_threadsafe(function, *args)


class DirectConnection(LoopConnection):
    """Splits frames without copying the rest of the data, and fails requests in the loop that sent them."""

    _requests: dict[int, tuple[Callable[[Any], None], Any, Any]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Connects, in one of the driver's threads."""
        self._pieces: list[bytes] = []
        self._missing = 0
        super().__init__(*args, **kwargs)

    def _take(self, data: bytes) -> None:
        if self._pieces:
            self._pieces.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data, self._pieces = b"".join(self._pieces), []
        position, end, size = 0, len(data), HEADER.size
        while end - position >= HEADER.size:
            version, flags, stream, opcode, length = HEADER.unpack_from(data, position)
            body = position + HEADER.size
            if end - body < length:
                size += length
                break
            position = body + length
            frame = _Frame(version & _VERSION_MASK, flags, stream, opcode, HEADER.size, HEADER.size + length)
            self.process_msg(frame, data[body:position])
            if self.is_closed:
                return
        if position < end:
            # Joined once: an answer of megabytes comes in hundreds of pieces, with TLS in thousands.
            self._pieces = [data[position:]]
            self._missing = size - (end - position)

    def error_all_requests(self, error: Exception) -> None:
        """Fails everything in flight. Called in whichever thread notices that the connection is lost."""
        self._in_loop(self._error_all_requests, ConnectionShutdown(f"{self.endpoint}: {error}"))

    def _error_all_requests(self, error: ConnectionShutdown) -> None:
        requests, self._requests = self._requests, {}
        for callback, _, _ in requests.values():
            try:
                callback(error)
            except Exception:
                _logger.exception("a request could not be failed after its connection was lost")


def _reason(endpoint: EndPoint, error: Exception) -> Exception:
    """Why there is no connection. What counts as a refusal for the driver may be none."""
    if isinstance(error, ssl.SSLError):
        kind = Refused if is_refusal(error) else ConnectionShutdown
        return kind(f"TLS with {endpoint}: {error}")
    if isinstance(error, AuthenticationFailed):
        kind = Refused if is_refusal(error) else ConnectionException
        return kind(f"{endpoint}: {error}")
    return error


def bound_to(loop: asyncio.AbstractEventLoop, connection_class: type[LoopConnection]) -> type[LoopConnection]:
    """Returns the class to give to the driver's Cluster. Must be called in the loop's own thread."""
    attributes = {"loop": loop, "thread": threading.get_ident(), "problems": {}}
    return type(connection_class.__name__, (connection_class,), attributes)
