"""Sunbird's user and org service, as far as reports ask it, over real HTTP."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Self


class UserOrg:
    """A server in this process; what it knows may be changed at any time."""

    def __init__(self) -> None:
        self.organisations: dict[str, dict[str, Any]] = {}
        """By channel."""
        self.policies: dict[str, Any] = {}
        """The preference ``dataSecurityPolicy`` by the id of the organisation."""
        self.files: dict[str, bytes] = {}
        """By path."""
        self.status = 200
        """Of every answer, if it is not 200."""
        self.instead: dict[str, tuple[int, bytes]] = {}
        """Status and body of what a proxy answers in place of the service, by path."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if (proxy := service.instead.get(self.path)) is not None:
                    self._send(*proxy)
                else:
                    self._answer(*service._result(self.path, json.loads(body)["request"]))

            def do_GET(self) -> None:
                found = service.files.get(self.path)
                self._send(200 if found is not None else 404, found or b"")

            def log_message(self, *_: object) -> None:
                pass

            def _answer(self, status: int, response: Any) -> None:
                code = {200: "OK", 404: "RESOURCE_NOT_FOUND"}.get(status, "CLIENT_ERROR")
                result = {} if response is None else {"response": response}
                self._send(status, json.dumps({"responseCode": code, "params": {}, "result": result}).encode())

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, name="user and org service")

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _result(self, path: str, request: dict[str, Any]) -> tuple[int, Any]:
        if self.status != 200:
            return self.status, None
        if path == "/private/v2/org/search":
            found = self.organisations.get(request["filters"]["channel"])
            return 200, {"count": 1 if found else 0, "content": [found] if found else []}
        if path == "/private/v2/org/preferences/read" and request["key"] == "dataSecurityPolicy":
            policy = self.policies.get(request["orgId"])
            return (200, {"key": request["key"], "data": policy}) if policy else (404, None)
        return 404, None
