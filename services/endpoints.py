"""From HTTP to a handler and back: limits, tokens, envelopes, logs, and the answer to every kind of failure."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from common.domain.faults import TaskFault, WorldFault
from services.admission import Admission
from services.config import ServerConfig
from services.envelope import (
    USER_ERROR,
    USER_TOKEN,
    ApiError,
    CourseEnvelope,
    Envelope,
    MessageIds,
    ViewerEnvelope,
    internal_error,
    invalid_fields,
    message_ids,
    method_not_allowed,
    not_found,
    too_large,
    unauthorized,
)
from services.handlers import Call, Handler, now_ms
from services.metrics import RequestMetrics
from services.operations import Operation
from services.request_log import MESSAGE_ID, log_access
from services.tokens import Identity, InvalidToken, Tokens

_LOG = logging.getLogger(__name__)

_JSON = "application/json"
STARTED = "started"
"""The key of a request's scope with the time at which its head was complete, in seconds of ``time.perf_counter``."""

Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Makes the endpoints of operations."""

    config: ServerConfig
    tokens: Tokens
    admission: Admission
    metrics: RequestMetrics
    time_zone: ZoneInfo

    def endpoint(self, operation: Operation, path: str, handle: Handler) -> Endpoint:
        """The endpoint of one path of an operation."""
        envelope = ViewerEnvelope(operation.viewer_api) if operation.viewer_api else CourseEnvelope(self.time_zone)

        async def endpoint(request: Request) -> Response:
            ids = message_ids(request.headers.get("x-msgid"))
            MESSAGE_ID.set(ids.logged)
            exchange = _Exchange(self, operation, path, envelope, request)
            response = await exchange.respond(ids, handle)
            seconds = time.perf_counter() - request.scope[STARTED]
            self.metrics.observe(path, response.status_code, seconds)
            user_id = exchange.identity.user_id if exchange.identity else None
            log_access(path, response.status_code, seconds, ids.logged, user_id)
            return response

        return endpoint

    async def no_such_route(self, request: Request, error: Exception) -> Response:
        """The answer for an unknown path (404) or method (405)."""
        assert isinstance(error, HTTPException)
        failure = not_found() if error.status_code == 404 else method_not_allowed()
        ids = message_ids(request.headers.get("x-msgid"))
        path = request.url.path
        seconds = time.perf_counter() - request.scope[STARTED]
        log_access(path[:200], failure.http_status, seconds, ids.logged, None)
        body = CourseEnvelope(self.time_zone).failure(path, ids, now_ms(), failure)
        return Response(body, failure.http_status, failure.headers, media_type=_JSON)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, endpoints: Endpoints, operation: Operation, path: str, envelope: Envelope, request: Request
    ) -> None:
        self._endpoints = endpoints
        self._operation = operation
        self._path = path
        self._envelope = envelope
        self._request = request
        self.identity: Identity | None = None

    async def respond(self, ids: MessageIds, handle: Handler) -> Response:
        try:
            body, headers = self._envelope.success(self._path, ids, now_ms(), await self._handled(handle))
            return Response(body, 200, headers, media_type=_JSON)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody receives it
        except ApiError as error:
            if error.__cause__:
                _LOG.warning("%s: %s: %s", self._path, error.message, error.__cause__)
            failure = error
        except (WorldFault, TaskFault, TimeoutError) as error:
            _LOG.warning("%s: %s", self._path, str(error) or "took too long")
            failure = internal_error()
        except Exception:  # noqa: BLE001 - whatever it is, the client gets the answer that the API documents
            _LOG.exception("%s", self._path)
            failure = internal_error()
        body = self._envelope.failure(self._path, ids, now_ms(), failure)
        return Response(body, failure.http_status, failure.headers, media_type=_JSON)

    async def _handled(self, handle: Handler) -> object:
        """The result. A body is read only of an authenticated request, and a slot is held only for one with a body."""
        admission = self._endpoints.admission
        limit = admission.limit(self._operation.name)
        # Before the signature is verified, which would be a good part of the cost of a refusal.
        admission.check()
        limit.check()
        if not self._operation.is_private:
            self.identity = self._identify()
        with admission.open():
            async with asyncio.timeout(self._endpoints.config.request_timeout_ms / 1000):
                body = await self._body()
                user_token = self._request.headers.get(USER_TOKEN, "")
                with limit.slot():
                    return await handle(Call(self._path, body, self.identity, user_token))

    def _identify(self) -> Identity:
        try:
            return self._endpoints.tokens.identify(self._request.headers)
        except InvalidToken as error:
            _LOG.info("%s: %s", self._path, error)
            # The viewer service answers 400 where the course service answers 401.
            if self._operation.viewer_api:
                raise invalid_fields({"request.userId": USER_ERROR}) from None
            raise unauthorized() from None

    async def _body(self) -> bytes:
        """The body. Raises ApiError 413 as soon as it is larger than allowed."""
        limit = self._endpoints.config.max_body_in_bytes
        announced = self._request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise too_large(limit)
        body = bytearray()
        async for chunk in self._request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large(limit)
        return bytes(body)
