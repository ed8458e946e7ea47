"""Heads of requests are bounded in size and time, on a real server."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services import protocol
from services.protocol import MAX_HEAD_IN_BYTES, BoundedHttpProtocol
from tests.support.certificates import make_certificate
from tests.support.waiting import wait_until


async def echo(request: Request) -> Response:
    return Response(str(len(await request.body())))


async def refuse(_: Request) -> Response:
    """Answers without reading the body."""
    return Response(status_code=401)


APP = Starlette(routes=[Route("/", echo, methods=["POST"]), Route("/refuse", refuse, methods=["POST"])])
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n"


class Connection:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def send_until_closed(self, piece: bytes, most: int) -> int:
        """Sends the piece again and again; how many bytes the server took."""
        sent = 0
        try:
            while sent < most:
                self._socket.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
        return sent

    def received(self, ends_with: bytes | None = None) -> bytes:
        """Everything until the server closes, or until ``ends_with``."""
        data = b""
        try:
            while piece := self._socket.recv(65_536):
                data += piece
                if ends_with is not None and data.endswith(ends_with):
                    break
        except ConnectionResetError:
            pass
        return data


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "DRAIN_TIMEOUT_SECONDS", 0.5)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(APP, http=BoundedHttpProtocol, ws="none", loop="uvloop", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server._serve([listener])))
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


def test_requests_within_the_bounds_are_answered(port: int) -> None:
    connection = Connection(port)
    for head in (b"", b"x-long: " + b"x" * (MAX_HEAD_IN_BYTES - 200) + b"\r\n"):
        for pieces in ([REQUEST + head + b"\r\nab"], [REQUEST, head + b"\r", b"\na", b"b"]):
            for piece in pieces:
                connection.send(piece)
            assert connection.received(b"\r\n\r\n2").startswith(b"HTTP/1.1 200 ")
    # Chunks with a body that is larger than any head may be.
    connection.send(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(40):
        connection.send(b"1000\r\n" + b"x" * 0x1000 + b"\r\n")
    connection.send(b"0\r\nx-trailer: 1\r\n\r\n")
    assert connection.received(b"163840").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "start",
    [
        b"POST / HTTP/1.1\r\nx-unfinished: ",
        b"POST /",
        REQUEST + b"transfer-encoding: ",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;extension=",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-trailer: ",
    ],
)
def test_what_never_ends_is_ended_early(port: int, start: bytes) -> None:
    connection = Connection(port)
    connection.send(start)

    sent = connection.send_until_closed(b"x" * 4_096, 50_000_000)

    # Beside the bound: what fits into the buffers of both sides of the connection.
    assert sent < 10_000_000
    assert b"HTTP/1.1 200" not in connection.received()


def test_many_small_headers_are_bounded_together(port: int) -> None:
    connection = Connection(port)
    connection.send(b"POST / HTTP/1.1\r\n")

    assert connection.send_until_closed(b"x: y\r\n" * 1_000, 50_000_000) < 10_000_000

    # At once, and with a second request behind it that must not be answered instead.
    connection = Connection(port)
    connection.send(REQUEST + b"x-large: " + b"x" * MAX_HEAD_IN_BYTES + b"\r\n\r\nab" + REQUEST + b"\r\nab")
    assert connection.received().startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("start", [b"", b"P", b"POST / HTTP/1.1\r\nhost: x", REQUEST])
def test_a_head_that_takes_too_long_ends_the_connection(port: int, start: bytes) -> None:
    connection = Connection(port)
    connection.send(start)

    answer = connection.received()

    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert bool(answer) == bool(start)


def test_a_head_that_trickles_in_is_ended_as_well(port: int) -> None:
    connection = Connection(port)
    started = time.monotonic()
    sent = 0
    try:
        while time.monotonic() < started + 20:
            connection.send(b"POST / HTTP/1.1\r\nx: "[sent : sent + 1] or b"x")
            sent += 1
            time.sleep(0.05)
    except OSError:
        pass

    assert time.monotonic() < started + 15


def test_a_second_request_on_a_connection_has_its_own_time(port: int) -> None:
    connection = Connection(port)
    connection.send(REQUEST + b"\r\nab")
    assert connection.received(b"\r\n\r\n2").startswith(b"HTTP/1.1 200 ")
    connection.send(b"POST / HTTP/1.1\r\n")

    assert connection.received().startswith(b"HTTP/1.1 408 ")


def test_a_body_that_was_refused_cannot_keep_the_connection(port: int) -> None:
    connection = Connection(port)
    connection.send(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 100000000\r\n\r\n")
    assert connection.received(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    started = time.monotonic()
    try:
        while time.monotonic() < started + 20:
            connection.send(b"x")
            time.sleep(0.05)
    except OSError:
        pass

    assert time.monotonic() < started + 15


def test_after_a_refused_body_the_connection_goes_on(port: int) -> None:
    connection = Connection(port)
    connection.send(b"POST /refuse HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n")
    assert connection.received(b"\r\n\r\n").startswith(b"HTTP/1.1 401 ")
    connection.send(b"late" + REQUEST + b"\r\nab")

    assert connection.received(b"\r\n\r\n2").startswith(b"HTTP/1.1 200 ")


def test_an_idle_tls_client_does_not_hold_up_the_end(tmp_path: Path) -> None:
    """It keeps its connection in a pool, where it does not read that the server says goodbye."""
    key, certificate = make_certificate()
    key_file, certificate_file = tmp_path / "key.pem", tmp_path / "certificate.pem"
    key_file.write_bytes(key)
    certificate_file.write_bytes(certificate)
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        APP,
        http=BoundedHttpProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        ssl_keyfile=key_file,
        ssl_certfile=certificate_file,
        timeout_keep_alive=600,
    )
    server = uvicorn.Server(config)

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server._serve([listener]))

    thread = threading.Thread(target=serve)
    thread.start()
    wait_until(lambda: server.started, "the server listens")
    context = ssl.create_default_context(cadata=certificate.decode())
    with (
        socket.create_connection(listener.getsockname(), timeout=30) as connection,
        context.wrap_socket(connection, server_hostname="127.0.0.1") as idle,
    ):
        idle.sendall(REQUEST + b"\r\n{}")
        assert idle.recv(65_536).startswith(b"HTTP/1.1 200 OK\r\n")
        started = time.monotonic()
        server.should_exit = True
        thread.join()
        # The loop would wait 30 s for the client's goodbye.
        assert time.monotonic() - started < 25
