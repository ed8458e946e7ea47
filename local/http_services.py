"""A real HTTP server in place of the Sunbird services: user read, content read, search and group read.

Tests and the demo run it in their own process. The benchmarks run it as a separate one (`python -m local.http_services
--port 19180`). Responses have Sunbird's envelope, and each route can be made to misbehave. The server uses plain
sockets because no HTTP framework can send a truncated response.

    GET  /private/user/v1/read/<id>       a user with `status` 0 is blocked
    GET  /content/v3/read/<id>?fields=…   contents and courses
    POST /v3/search                       contents by objectType, identifier, status
    GET  /private/v1/group/read/<id>?fields=members

    PUT  /admin/users, /admin/contents    JSON {id: {field: value}}, added to the known ones
    PUT  /admin/groups                    JSON {id: [member]}, added to the known ones
    PUT  /admin/switches                  JSON {route: fields of Switch}
    PUT  /admin/refused                   JSON {"for_ms": 5000}: refuses connections for that time
    GET  /admin/requests                  JSON {route: number of requests since the start}
"""

import argparse
import asyncio
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from jobs import JOBS

HOST = "127.0.0.1"
USER, CONTENT, SEARCH, GROUP = ROUTES = ("user", "content", "search", "group")


@dataclass(frozen=True, slots=True)
class Switch:
    """How a route misbehaves: for the next `times` requests, or until the next switch if `times` is None."""

    delay_ms: int = 0
    """The delay before the response."""
    status: int | None = None
    """Send an error with this status instead of the normal response."""
    is_half: bool = False
    """Close the connection in the middle of the response body."""
    is_not_json: bool = False
    """Send an HTML page with status 200."""
    times: int | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    body: bytes
    is_half: bool = False


class HttpServices:
    """All services on one port, in a separate thread. Users, contents and groups may be changed at any time."""

    def __init__(self, port: int = 0) -> None:
        """`port` 0 stands for a free port, which stays the same for the life of the object."""
        self.users: dict[str, dict[str, Any]] = {}
        self.contents: dict[str, dict[str, Any]] = {}
        self.groups: dict[str, list[dict[str, Any]]] = {}
        """The members by group id."""
        self.failing: set[str] = set()
        """Users and contents that are answered with 500, in a search too, while all others are answered as usual."""
        self.group_tokens: list[str | None] = []
        """The user token of each request for a group."""
        self.requests: Counter[str] = Counter()
        """The number of requests by route, whatever the response."""
        self._switches: dict[str, Switch] = {}
        self._port = port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="http services")

    @property
    def base_url(self) -> str:
        """`http://127.0.0.1:<port>`, with the real port only after the start."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        """Starts the server. Raises OSError if the port is in use."""
        self._thread.start()
        try:
            self.accept()
        except OSError:
            self._end_thread()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the server. The connections of requests in flight are closed."""
        self.refuse()
        self._end_thread()

    def switch(self, route: str, switch: Switch) -> None:
        """Changes how a route behaves, from the next request on. Raises ValueError for an unknown route."""
        if route not in ROUTES:
            raise ValueError(f"unknown route {route!r}: choose from {', '.join(ROUTES)}")
        self._switches[route] = switch

    def refuse(self) -> None:
        """Closes all connections and refuses new ones until :meth:`accept` is called."""
        self._run(self._close())

    def accept(self) -> None:
        """Accepts connections again, on the same port. Raises OSError if the port is in use."""
        self._run(self._listen())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, HOST, self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        # Not the connection of the request that is being handled.
        connections = self._connections - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while True:
                response = await self._answer(await _read_request(reader))
                head = (
                    f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n"
                    f"Content-Type: application/json\r\nContent-Length: {len(response.body)}\r\n\r\n"
                )
                end = len(response.body) // 2 if response.is_half else None
                writer.write(head.encode() + response.body[:end])
                await writer.drain()
                if response.is_half:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has closed the connection
        except asyncio.CancelledError:
            return  # closed by _close; not re-raised, because asyncio's streams would log it as an error
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, request: _Request) -> _Response:
        match request.method, request.path.split("/")[1:]:
            case "PUT" | "GET", ["admin", what]:
                return await self._administer(what, request)
            case "GET", ["private", "user", "v1", "read", user_id]:
                return await self._misbehave(USER, lambda: self._read_user(unquote(user_id)))
            case "GET", ["content", "v3", "read", content_id]:
                return await self._misbehave(CONTENT, lambda: self._read_content(unquote(content_id), request.query))
            case "POST", ["v3", "search"]:
                return await self._misbehave(SEARCH, lambda: self._search(request.json()["request"]))
            case "GET", ["private", "v1", "group", "read", group_id]:
                self.group_tokens.append(request.headers.get("x-authenticated-user-token"))
                return await self._misbehave(GROUP, lambda: self._read_group(unquote(group_id), request.query))
            case _:
                return _error(404, "", "NOT_FOUND", f"unknown route {request.method} {request.path}")

    async def _misbehave(self, route: str, answer: Callable[[], _Response]) -> _Response:
        self.requests[route] += 1
        switch = self._switches.get(route, Switch())
        if switch.times == 0:
            switch = Switch()
        elif switch.times is not None:
            self._switches[route] = replace(switch, times=switch.times - 1)
        # No sleep(0) without a delay: it would let other requests overtake this one.
        if switch.delay_ms:
            await asyncio.sleep(switch.delay_ms / 1000)
        if switch.status is not None:
            return _error(switch.status, route, "SERVER_ERROR", "switched to misbehave")
        if switch.is_not_json:
            return _Response(200, b"<html><body>Service temporarily unavailable</body></html>")
        return replace(answer(), is_half=switch.is_half)

    def _read_user(self, user_id: str) -> _Response:
        if user_id in self.failing:
            return _error(500, "api.user.read", "SERVER_ERROR", "this user cannot be read")
        user = self.users.get(user_id)
        if user is None:
            return _error(404, "api.user.read", "UOS_USRRED0013", "Requested user resource not found.")
        if user.get("status") == 0:
            return _error(400, "api.user.read", "UOS_USRRED0006", "User account has been blocked .")
        return _success("api.user.read", {"response": {"id": user_id, "userId": user_id, **user}})

    def _read_content(self, content_id: str, query: Mapping[str, list[str]]) -> _Response:
        if content_id in self.failing:
            return _error(500, "api.content.read", "SERVER_ERROR", "this content cannot be read")
        content = self.contents.get(content_id)
        if content is None:
            message = f"Error! Node(s) doesn't Exists. | [Invalid Node Id.]: {content_id}"
            return _error(404, "api.content.read", "NOT_FOUND", message)
        fields = {name for text in query.get("fields", []) for name in text.split(",")}
        chosen = {name: value for name, value in content.items() if not fields or name in fields}
        return _success("api.content.read", {"content": {"identifier": content_id, **chosen}})

    def _read_group(self, group_id: str, query: Mapping[str, list[str]]) -> _Response:
        members = self.groups.get(group_id)
        if members is None:
            return _error(404, "api.group.read", "GS_RED01", f"group does not exist with this group Id {group_id}.")
        return _success(
            "api.group.read", {"id": group_id, **({"members": members} if "members" in query.get("fields", []) else {})}
        )

    def _search(self, request: Mapping[str, Any]) -> _Response:
        filters = {name: value if isinstance(value, list) else [value] for name, value in request["filters"].items()}
        if not self.failing.isdisjoint(filters.get("identifier", ())):
            return _error(500, "api.v1.search", "SERVER_ERROR", "this content cannot be searched for")
        fields = request.get("fields", [])
        found = []
        for content_id, content in self.contents.items():
            node = {"identifier": content_id, "objectType": "Content", **content}
            if all(node.get(name) in allowed for name, allowed in filters.items()):
                found.append({name: node[name] for name in ("identifier", "objectType", *fields) if name in node})
        # The real service omits the list if it is empty.
        return _success("api.v1.search", {"count": len(found), **({"content": found} if found else {})})

    async def _administer(self, what: str, request: _Request) -> _Response:
        match request.method, what:
            case "GET", "requests":
                return _Response(200, msgspec.json.encode(self.requests))
            case "PUT", "users" | "contents":
                nodes: dict[str, dict[str, Any]] = msgspec.json.decode(request.body, type=dict[str, dict[str, Any]])
                (self.users if what == "users" else self.contents).update(nodes)
            case "PUT", "groups":
                self.groups.update(msgspec.json.decode(request.body, type=dict[str, list[dict[str, Any]]]))
            case "PUT", "switches":
                for route, switch in msgspec.json.decode(request.body, type=dict[str, Switch]).items():
                    self.switch(route, switch)
            case "PUT", "refused":
                await self._close()
                self._loop.call_later(request.json()["for_ms"] / 1000, lambda: self._loop.create_task(self._listen()))
            case _:
                return _error(404, "", "NOT_FOUND", f"unknown route {request.method} {request.path}")
        return _Response(200, b"{}")


async def _read_request(reader: asyncio.StreamReader) -> _Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    url = urlsplit(target)
    return _Request(method, _without_dot_segments(url.path), parse_qs(url.query), headers, body)


def _without_dot_segments(path: str) -> str:
    """The path as a proxy passes it on (RFC 3986, 5.2.4): `/a/b/../c` and `/a/b/%2E%2E/c` are `/a/c`."""
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        match segment.upper().replace("%2E", "."):
            case ".":
                pass
            case "..":
                del segments[-1:]
            case _:
                segments.append(segment)
    return "/" + "/".join(segments)


def _success(api: str, result: Mapping[str, Any]) -> _Response:
    return _Response(200, _envelope(api, "OK", None, "successful", None, result))


def _error(status: int, api: str, code: str, message: str) -> _Response:
    response_code = {400: "CLIENT_ERROR", 404: "RESOURCE_NOT_FOUND"}.get(status, "SERVER_ERROR")
    return _Response(status, _envelope(api, response_code, code, "failed", message, {}))


def _envelope(
    api: str, response_code: str, code: str | None, status: str, message: str | None, result: Mapping[str, Any]
) -> bytes:
    params = {"resmsgid": None, "msgid": None, "err": code, "status": status, "errmsg": message}
    ts = datetime.now(UTC).isoformat()
    return msgspec.json.encode(
        {"id": api, "ver": "v1", "ts": ts, "params": params, "responseCode": response_code, "result": result}
    )


def job_settings(base_url: str) -> dict[str, dict[str, str]]:
    """The variables of each job in `jobs.JOBS` that no default fits: where these services are, and the addresses in
    certificates.
    """
    settings = {
        "assessment_aggregator": {"AGGREGATES__CONTENT_READ_API": f"{base_url}/content/v3/read/"},
        "activity_aggregate_updater": {"AGGREGATES__SEARCH_API": f"{base_url}/v3/search"},
        "collection_cert_pre_processor": {
            "AGGREGATES__LEARNER_BASE_URL": base_url,
            "AGGREGATES__CONTENT_BASE_URL": base_url,
            "AGGREGATES__CLOUD_STORAGE_BASE_URL": "https://storage.example.org",
            "AGGREGATES__CONTENT_CLOUD_STORAGE_CONTAINER": "sunbird-content-dev",
            "AGGREGATES__CERT_DOMAIN_URL": "https://certificates.example.org",
        },
    }
    return {name: settings.get(name, {}) for name in JOBS}


def main(arguments: list[str]) -> None:
    """Prints the base URL and serves until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.http_services", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--port", type=int, default=0, help="the port to listen on; 0, the default, stands for a free one"
    )
    options = parser.parse_args(arguments)
    ends = {signal.SIGINT, signal.SIGTERM}
    # Before the thread starts, so that it inherits the mask and the signals wait for sigwait.
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    with HttpServices(options.port) as services:
        print(services.base_url, flush=True)
        signal.sigwait(ends)


if __name__ == "__main__":
    main(sys.argv[1:])
