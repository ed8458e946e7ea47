"""The ASGI application: the routes of two ports, what runs beside the requests, and the servers behind them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from common.metrics import Metrics
from services import openapi
from services.admission import Admission
from services.config import ServicesConfig
from services.endpoints import STARTED, Endpoints
from services.envelope import CourseEnvelope, message_ids
from services.handlers import Handlers, now_ms
from services.health import HealthCheck
from services.metrics import RequestMetrics
from services.operations import OPERATIONS, Operation
from services.servers import Servers, open_servers
from services.tokens import Tokens

_LOG = logging.getLogger(__name__)


def create_application(config: ServicesConfig) -> ASGIApp:
    """The application of one worker. It connects when the server that runs it starts it.

    It serves learners' routes on ``server.port`` and the others on ``server.internal_port``. Raises ConfigError if the
    public keys cannot be read.
    """
    return Application(config, Tokens.of(config.tokens))


class Application:
    """Routes by the local port of a connection, which no header can change."""

    def __init__(self, config: ServicesConfig, tokens: Tokens) -> None:
        """Connects to nothing yet."""
        self._config = config
        self._tokens = tokens
        server = config.server
        self._admission = Admission(server.max_concurrent_requests, server.latency_tolerance)
        self._counts = Metrics()
        self._metrics = RequestMetrics(self._counts, self._admission)
        self._time_zone = ZoneInfo(config.time_zone)
        self._endpoints = Endpoints(server, tokens, self._admission, self._metrics, self._time_zone)
        self._checks: dict[str, HealthCheck] = {}
        self._apps: dict[int, Starlette] = {}
        # Only the lifespan: the routes need the servers.
        self._lifespan_app = Starlette(lifespan=self._lifespan)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "lifespan":
            await self._lifespan_app(scope, receive, send)
            return
        scope[STARTED] = time.perf_counter()
        _, port = scope["server"]
        await self._apps[port](scope, receive, send)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            servers = await stack.enter_async_context(open_servers(self._config, self._counts))
            self._connect(servers)
            for check in self._checks.values():
                stack.callback(check.cancel)
            stack.enter_context(_running(self._tokens.watch(self._config.tokens.reload_interval_seconds)))
            yield

    def _connect(self, servers: Servers) -> None:
        pings = {"cassandra": servers.store.ping, "redis": servers.relations.open, "kafka": servers.publisher.ping}
        self._checks = {name: HealthCheck(name, ping) for name, ping in pings.items()}
        handlers = Handlers(self._config, servers, self._metrics)
        server = self._config.server
        public = [operation for operation in OPERATIONS if not operation.is_private]
        private = [operation for operation in OPERATIONS if operation.is_private and server.private_routes]
        internal_routes = [
            Route("/health/live", self._live),
            Route("/health/ready", self._ready),
            Route("/health", self._health),
            Route("/metrics", lambda _: Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)),
        ]
        self._apps = {
            server.port: self._app(self._routes(public, handlers)),
            server.internal_port: self._app([*self._routes(private, handlers), *internal_routes]),
        }

    def _routes(self, operations: Sequence[Operation], handlers: Handlers) -> list[Route]:
        by_operation = handlers.by_operation()
        document = openapi.document(operations)
        encoded, page = msgspec.json.encode(document), openapi.page(document)
        return [
            *(
                Route(path, self._endpoints.endpoint(operation, path, by_operation[operation.name]), methods=["POST"])
                for operation in operations
                for path in operation.paths
            ),
            Route("/openapi.json", lambda _: Response(encoded, media_type="application/json")),
            Route("/docs", lambda _: HTMLResponse(page)),
        ]

    def _app(self, routes: list[Route]) -> Starlette:
        app = Starlette(routes=routes, exception_handlers={HTTPException: self._endpoints.no_such_route})
        # A redirect would go to whatever the Host header says.
        app.router.redirect_slashes = False
        return app

    async def _live(self, _: Request) -> Response:
        return Response(b'{"healthy":true}', media_type="application/json")

    async def _ready(self, request: Request) -> Response:
        """Whether requests can be answered. Without Redis or Kafka all reads still work, without Cassandra none do."""
        return await self._health_of(request, [self._checks["cassandra"]])

    async def _health(self, request: Request) -> Response:
        """All servers. A probe asks for ``_ready``, which is quicker."""
        return await self._health_of(request, list(self._checks.values()))

    async def _health_of(self, request: Request, checks: Sequence[HealthCheck]) -> Response:
        outcomes = await asyncio.gather(*(check.is_healthy() for check in checks))
        result = {
            "healthy": all(outcomes),
            "checks": [
                {"name": check.name, "healthy": is_healthy} for check, is_healthy in zip(checks, outcomes, strict=True)
            ],
        }
        ids = message_ids(request.headers.get("x-msgid"))
        body, _ = CourseEnvelope(self._time_zone).success("/health", ids, now_ms(), result)
        return Response(body, 200 if all(outcomes) else 503, media_type="application/json")


@contextmanager
def _running(coroutine: Coroutine[Any, Any, None]) -> Iterator[None]:
    """Runs a coroutine in the background. What it raises is logged: nothing waits for it."""
    task = asyncio.create_task(coroutine)
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()


def _log_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        _LOG.error("a background task has ended", exc_info=error)
