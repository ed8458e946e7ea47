"""uvicorn's HTTP protocol with bounds: on the head of a request, on its trailers, and on the time for both."""

import asyncio
import logging
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_LOG = logging.getLogger(__name__)

MAX_HEAD_IN_BYTES = 64 * 1024
"""Request line and headers, and in a body sent in chunks everything that is not data. Two tokens are 4 KB."""
HEAD_TIMEOUT_SECONDS = 10.0
"""From the first byte of a request, or from the connection, to the end of the head."""
DRAIN_TIMEOUT_SECONDS = 5.0
"""From an answer to the end of a body that was refused."""
GOODBYE_TIMEOUT_SECONDS = 1.0
"""At the end of the process, for a client to take note that its connection is closed."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Ends connections that send too large a head, or that send it too slowly.

    The parser keeps an unfinished header as one text that it copies for every piece that arrives. Without a bound, one
    connection with a header of 50 MB keeps the event loop busy for seconds.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Takes what uvicorn hands to its protocol."""
        super().__init__(*arguments, **options)
        self._head_in_bytes = 0
        self._unparsed_in_bytes = 0
        self._is_too_large = False
        self._is_in_head = True
        self._is_in_message = False
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time for the first head."""
        super().connection_made(transport)
        self._start_timer(HEAD_TIMEOUT_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the time."""
        self._stop_timer()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Ends an idle connection, at the end of the process.

        With TLS, closing waits up to 30 s for the client to say goodbye as well, and one that keeps the connection in a
        pool does not read before its next request.
        """
        super().shutdown()
        if self.transport.is_closing():
            self._start_timer(GOODBYE_TIMEOUT_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Ends the connection where what is not finished yet has become too large."""
        if self.transport.is_closing():
            return
        self._unparsed_in_bytes += len(data)
        super().data_received(data)
        if self._is_too_large or self._unparsed_in_bytes > MAX_HEAD_IN_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """Starts the time for a head."""
        super().on_message_begin()
        self._head_in_bytes = 0
        self._is_in_head = self._is_in_message = True
        if self._timer is None:
            self._start_timer(HEAD_TIMEOUT_SECONDS)

    def on_url(self, url: bytes) -> None:
        """Counts the bytes."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the bytes of a header or a trailer."""
        self._count(name, value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stops the time. The application gets neither a request with too large a head nor those behind it."""
        self._unparsed_in_bytes = 0
        self._is_in_head = False
        self._stop_timer()
        if not self._is_too_large:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The body has a bound of its own, in the application."""
        self._unparsed_in_bytes = 0
        if not self._is_too_large:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of the body."""
        self._unparsed_in_bytes = 0
        self._is_in_message = False
        self._stop_timer()
        if self._is_too_large:
            return
        super().on_message_complete()
        if self.cycle.response_complete:
            # uvicorn's own time for an idle connection has ended with the data of this body.
            self._is_in_head = True
            self._start_timer(HEAD_TIMEOUT_SECONDS)

    def on_response_complete(self) -> None:
        """Starts the time for the rest of a body that nobody reads any more."""
        super().on_response_complete()
        if self._is_in_message and not self._is_in_head and not self.transport.is_closing():
            self._start_timer(DRAIN_TIMEOUT_SECONDS)

    def _count(self, *parts: bytes) -> None:
        self._unparsed_in_bytes = 0
        self._head_in_bytes += sum(map(len, parts))
        self._is_too_large |= self._head_in_bytes > MAX_HEAD_IN_BYTES

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._time_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _time_out(self) -> None:
        self._timer = None
        if self.transport.is_closing():
            self._end()
        elif self._is_in_head and self._is_in_message:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _end(self) -> None:
        if self.transport.get_write_buffer_size():
            # The last answer is still on its way.
            self._start_timer(GOODBYE_TIMEOUT_SECONDS)
        else:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus) -> None:
        if self.transport.is_closing():
            return
        _LOG.info("ended the connection from %s: %s", self.client, status.phrase)
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode()
            )
        self.transport.close()
