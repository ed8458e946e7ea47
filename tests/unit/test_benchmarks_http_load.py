"""The load generator of the benchmarks, on a real HTTP server."""

import itertools
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest

from benchmarks.http_load import Load, http_request, send


class Handler(BaseHTTPRequestHandler):
    """Refuses every second POST, and says that it is not healthy."""

    protocol_version = "HTTP/1.1"
    numbers: ClassVar[Iterator[int]]
    bodies: ClassVar[list[bytes]]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["content-length"])))
        is_refused = next(self.numbers) % 2
        self._answer(503 if is_refused else 200, {"Retry-After": "1"} if is_refused else {})

    def do_GET(self) -> None:
        self._answer(500, {})

    def _answer(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": "2"}.items():
            self.send_header(name, value)
        if self.path == "/last":
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    Handler.numbers, Handler.bodies = itertools.count(), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


REQUESTS = [http_request("POST", "/x", {"a": "b"}, b"first"), http_request("POST", "/x", {}, b"second")]


def test_requests_at_an_even_rate(url: str) -> None:
    answers = send(Load(url, REQUESTS, 0.5, per_second=100, health_url=url, health_paths=("/health",)))

    assert len(answers.accepted) == len(answers.refused) == 25
    assert len(answers.late) == 50
    assert (answers.without_retry_after, answers.failed) == (0, 0)
    assert answers.unhealthy == len(answers.health["/health"]) > 0
    assert sorted(Handler.bodies) == [b"first"] * 25 + [b"second"] * 25


def test_the_next_request_when_the_last_one_is_answered(url: str) -> None:
    answers = send(Load(url, REQUESTS, 0.3, connections=2))

    assert len(answers.accepted) + len(answers.refused) == len(Handler.bodies) > 2
    assert 0 < answers.cpu_share < 1.1


def test_a_connection_that_the_server_closes_between_requests_is_replaced(url: str) -> None:
    answers = send(Load(url, [http_request("POST", "/last", {})], 0.5, per_second=20))

    assert len(answers.accepted) + len(answers.refused) == 10


def test_a_server_that_is_gone_is_an_error() -> None:
    with pytest.raises(OSError):
        send(Load("http://127.0.0.1:1", REQUESTS, 0.1, connections=1))
