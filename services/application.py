"""The ASGI application: routes, limits, and what becomes of every kind of failure."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault
from common.domain.relations import leaf_nodes_key
from common.metrics import Metrics
from common.servers.access import verify_access
from common.servers.cassandra import Cassandra
from common.servers.kafka import check_login
from common.servers.redis import RedisClient
from services import assessment, content_state, group_activity, openapi
from services.assessment import Assessment, Attempt, Invalid
from services.caches import WritableRedisClient
from services.config import MESSAGE_OVERHEAD_IN_BYTES, ServicesConfig
from services.envelope import (
    USER_TOKEN,
    ApiError,
    CourseEnvelope,
    Envelope,
    ViewerEnvelope,
    course_request,
    decode_body,
    internal_error,
    server_error,
    unauthorized,
)
from services.group_service import GroupService
from services.metrics import RequestMetrics
from services.operations import OPERATIONS
from services.publisher import Publisher, Record
from services.store import Store
from services.tokens import Identity, InvalidToken, Tokens

_LOG = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Servers:
    """Everything outside the process that requests are answered from."""

    store: Store
    relations: RedisClient
    group_cache: WritableRedisClient
    scores: WritableRedisClient
    group_service: GroupService
    publisher: Publisher


@asynccontextmanager
async def open_servers(config: ServicesConfig, metrics: Metrics) -> AsyncIterator[Servers]:
    """Connects, and closes at the end. Raises WorldFault where Cassandra is down, TaskFault where it refuses us.

    Redis, Kafka and the group service may be down: each is needed by some routes only.
    """
    async with AsyncExitStack() as stack:
        cassandra = Cassandra(config.cassandra, metrics)
        stack.push_async_callback(cassandra.close)
        await cassandra.open()
        store = Store(cassandra, config.cassandra.keyspace)
        await store.prepare()
        relations = RedisClient(config.redis, config.redis.relation_database)
        stack.push_async_callback(relations.close)
        group_cache = WritableRedisClient(config.redis, config.redis.group_cache_database)
        stack.push_async_callback(group_cache.close)
        scores = WritableRedisClient(config.redis, config.redis.assessment_score_database)
        stack.push_async_callback(scores.close)
        group = config.group_service
        group_service = GroupService(group.base_url, group.request_timeout_ms, group.max_connections)
        stack.push_async_callback(group_service.close)
        max_message_in_bytes = config.server.max_body_in_bytes + MESSAGE_OVERHEAD_IN_BYTES
        publisher = Publisher(config.kafka, config.publish_timeout_ms, max_message_in_bytes)
        stack.push_async_callback(publisher.close)
        yield Servers(store, relations, group_cache, scores, group_service, publisher)


async def check_logins(config: ServicesConfig) -> None:
    """Raises TaskFault if Kafka, Cassandra or Redis refuses us, WorldFault where Cassandra is down.

    By themselves wrong passwords of Kafka and Redis would show with the first request that needs them.
    """
    await verify_access(asyncio.to_thread(check_login, config.kafka))
    async with open_servers(config, Metrics()) as servers:
        for database in (servers.relations, servers.group_cache, servers.scores):
            await verify_access(database.open())


def create_application(config: ServicesConfig, tokens: Tokens) -> Starlette:
    """The application; it connects when the server that runs it starts it."""
    return _Services(config, tokens).application()


class _Services:
    """The handlers of all routes. Each returns its result or raises ApiError."""

    _servers: Servers

    def __init__(self, config: ServicesConfig, tokens: Tokens) -> None:
        self._config = config
        self._tokens = tokens
        self._time_zone = ZoneInfo(config.time_zone)
        self._course_envelope = CourseEnvelope(self._time_zone)
        self._counts = Metrics()
        self._metrics = RequestMetrics(self._counts)
        self._in_flight = 0

    def application(self) -> Starlette:
        operations = [
            operation for operation in OPERATIONS if self._config.server.private_routes or not operation.is_private
        ]
        handlers: dict[str, Handler] = {
            "content_state": self._content_state,
            "private_content_state": self._private_content_state,
            "group_activity": self._group_activity,
            "submit": self._submit,
            "save": self._save,
            "read": self._read,
        }
        routes = []
        for operation in operations:
            envelope = ViewerEnvelope(operation.viewer_api) if operation.viewer_api else self._course_envelope
            for path in operation.paths:
                routes.append(Route(path, self._endpoint(path, handlers[operation.name], envelope), methods=["POST"]))
        document = openapi.document(operations)
        encoded, page = msgspec.json.encode(document), openapi.page(document)
        # These answer however many requests are under way, so that overload is not taken for death.
        routes += [
            Route("/health/live", self._live),
            Route("/health/ready", self._ready),
            Route("/health", self._health),
            Route("/metrics", lambda _: Response(self._metrics.text(), media_type=CONTENT_TYPE_LATEST)),
            Route("/openapi.json", lambda _: Response(encoded, media_type="application/json")),
            Route("/docs", lambda _: HTMLResponse(page)),
        ]
        return Starlette(
            routes=routes, lifespan=self._lifespan, exception_handlers={HTTPException: self._no_such_route}
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with open_servers(self._config, self._counts) as self._servers:
            yield

    def _endpoint(self, path: str, handle: Handler, envelope: Envelope) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            started = time.perf_counter()
            response = await self._respond(request, path, handle, envelope)
            self._metrics.observe(path, response.status_code, time.perf_counter() - started)
            return response

        return endpoint

    async def _respond(self, request: Request, path: str, handle: Handler, envelope: Envelope) -> Response:
        message_id = request.headers.get("x-msgid")
        try:
            body, headers = envelope.success(path, message_id, _now_ms(), await self._limited(request, handle))
            return Response(body, 200, headers, media_type="application/json")
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except ApiError as error:
            if error.__cause__:
                _LOG.warning("%s: %s: %s", path, error.message, error.__cause__)
            failure = error
        except (WorldFault, TaskFault, TimeoutError) as error:
            _LOG.warning("%s: %s", path, str(error) or "took too long")
            failure = internal_error()
        except Exception:  # noqa: BLE001 - whatever it is, its client gets the answer of the table
            _LOG.exception("%s", path)
            failure = internal_error()
        body = envelope.failure(path, message_id, _now_ms(), failure)
        return Response(body, failure.http_status, media_type="application/json")

    async def _limited(self, request: Request, handle: Handler) -> Any:
        server = self._config.server
        if self._in_flight >= server.max_concurrent_requests:
            raise _busy()
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            async with asyncio.timeout(server.request_timeout_ms / 1000):
                return await handle(request)
        finally:
            self._in_flight -= 1
            self._metrics.in_flight.set(self._in_flight)

    async def _body(self, request: Request) -> bytes:
        """The body, not more of it than is allowed. Raises ApiError."""
        limit = self._config.server.max_body_in_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_large(limit)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
        return bytes(body)

    def _identify(self, request: Request) -> Identity:
        try:
            return self._tokens.identify(request.headers)
        except InvalidToken as error:
            _LOG.info("%s: %s", request.url.path, error)
            raise unauthorized() from None

    async def _content_state(self, request: Request) -> Any:
        return await self._content_state_of(request, self._identify(request).user_id)

    async def _private_content_state(self, request: Request) -> Any:
        return await self._content_state_of(request, None)

    async def _content_state_of(self, request: Request, token_user_id: str | None) -> Any:
        query = content_state.parse(course_request(await self._body(request)), token_user_id)
        rows, attempts, aggregates = await self._servers.store.content_states(query)
        return content_state.shape(
            rows, attempts, aggregates, query.with_score, self._config.assessment_attempts_limit, self._time_zone
        )

    async def _group_activity(self, request: Request) -> Any:
        identity = self._identify(request)
        query = group_activity.parse(course_request(await self._body(request)))
        user_ids = [user_id for user_id in identity if user_id]
        if self._config.group_activity_agg_cache_enable:
            cached = await self._cached_group(query.cache_key)
            if cached and group_activity.usable(cached, query, user_ids):
                return cached
        members = group_activity.members_by_id(
            await self._servers.group_service.members(query.group_id, request.headers[USER_TOKEN])
        )
        if not group_activity.may_read(members, user_ids):
            raise unauthorized()
        try:
            rows = await self._servers.store.group(query.activity_id, members)
        except (WorldFault, TaskFault) as error:
            raise server_error("ERR_CALLING_GROUOP_API", "Error while calling group api.") from error
        answer = group_activity.shape(query, members, rows, _now_ms())
        if answer.members:
            await self._cache_group(query.cache_key, request.url.path, answer)
        return answer

    async def _cached_group(self, key: str) -> group_activity.GroupActivity | None:
        try:
            cached = (await self._servers.group_cache.structs([key], group_activity.CACHED_ANSWER))[key]
        except (WorldFault, TaskFault) as error:
            # A cache that is down makes answers slower, not wrong.
            self._cache_failed(error)
            return None
        return None if cached is None or isinstance(cached, Refused) else cached.result

    async def _cache_group(self, key: str, path: str, answer: group_activity.GroupActivity) -> None:
        body, _ = self._course_envelope.success(path, None, _now_ms(), answer)
        try:
            await self._servers.group_cache.put(key, body, self._config.group_activity_agg_cache_ttl)
        except (WorldFault, TaskFault) as error:
            self._cache_failed(error)

    def _cache_failed(self, error: Exception) -> None:
        self._metrics.cache_failures.inc()
        _LOG.warning("the cache of groups cannot be used: %s", error)

    async def _submit(self, request: Request) -> Any:
        checked = await self._checked_assessments(request)
        attempts = {place: attempt for place, attempt in enumerate(checked) if isinstance(attempt, Attempt)}
        await self._servers.scores.put_hashes(dict(map(assessment.score_hash, attempts.values())))
        topic = self._config.kafka.topic(self._config.assess_topic)
        await self._servers.publisher.publish(
            [
                *(Record(topic, attempt.user_id, attempt.message) for attempt in attempts.values()),
                *self._failed_records(checked),
            ]
        )
        return assessment.results(checked, dict.fromkeys(attempts, assessment.CAPTURED))

    async def _save(self, request: Request) -> Any:
        checked = await self._checked_assessments(request)
        places = [place for place, attempt in enumerate(checked) if isinstance(attempt, Attempt)]
        drafts = [attempt for attempt in checked if isinstance(attempt, Attempt)]
        are_saved = await self._servers.store.save_drafts(drafts, _now_ms())
        await self._servers.publisher.publish(self._failed_records(checked))
        saved = [place for place, is_saved in zip(places, are_saved, strict=True) if is_saved]
        return assessment.results(checked, dict.fromkeys(saved, assessment.SAVED))

    async def _checked_assessments(self, request: Request) -> list[Assessment]:
        """The assessments of a request, those whose content is not in its collection as Invalid. Raises ApiError."""
        user_id = self._viewer_user_id(request)
        parsed = assessment.parse(decode_body(await self._body(request)), user_id, _now_ms())
        keys = {_leaf_nodes_key(attempt) for attempt in parsed if isinstance(attempt, Attempt)}
        leaf_nodes = await self._servers.relations.sets(keys) if keys else {}
        return [
            assessment.check_content(attempt, leaf_nodes[_leaf_nodes_key(attempt)])
            if isinstance(attempt, Attempt)
            else attempt
            for attempt in parsed
        ]

    def _failed_records(self, checked: list[Assessment]) -> list[Record]:
        topic = self._config.kafka.topic(self._config.failed_topic)
        return [Record(topic, invalid.user_id, invalid.message) for invalid in checked if isinstance(invalid, Invalid)]

    async def _read(self, request: Request) -> Any:
        user_id = self._viewer_user_id(request)
        query = assessment.parse_read(decode_body(await self._body(request)), user_id)
        aggregates = await self._servers.store.aggregates(query.user_id, query.collection_id, query.context_id)
        return assessment.shape(query, aggregates)

    def _viewer_user_id(self, request: Request) -> str | None:
        """None where there is no user: the viewer service has an answer of its own for that."""
        try:
            return self._identify(request).user_id
        except ApiError:
            return None

    async def _live(self, _: Request) -> Response:
        return Response(b'{"healthy":true}', media_type="application/json")

    async def _ready(self, request: Request) -> Response:
        """Whether requests should come here: without Redis or Kafka all reads still work, without Cassandra none."""
        return await self._check(request, {"cassandra": self._servers.store.ping()})

    async def _health(self, request: Request) -> Response:
        """All servers; that of a probe, which must be quick, is ``_ready``."""
        return await self._check(
            request,
            {
                "cassandra": self._servers.store.ping(),
                "redis": self._servers.relations.open(),
                "kafka": self._servers.publisher.ping(),
            },
        )

    async def _check(self, request: Request, pings: Mapping[str, Awaitable[None]]) -> Response:
        outcomes = await asyncio.gather(*pings.values(), return_exceptions=True)
        for name, fault in zip(pings, outcomes, strict=True):
            if fault is not None:
                _LOG.warning("health of %s: %s", name, fault)
        result = {
            "healthy": not any(outcomes),
            "checks": [{"name": name, "healthy": not fault} for name, fault in zip(pings, outcomes, strict=True)],
        }
        body, _ = self._course_envelope.success("/health", request.headers.get("x-msgid"), _now_ms(), result)
        return Response(body, 503 if any(outcomes) else 200, media_type="application/json")

    async def _no_such_route(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        failure = ApiError(error.status_code, "RESOURCE_NOT_FOUND", error.detail)
        body = self._course_envelope.failure(request.url.path, request.headers.get("x-msgid"), _now_ms(), failure)
        return Response(body, error.status_code, error.headers, media_type="application/json")


def _busy() -> ApiError:
    """HTTP 503: more requests than this process takes at a time."""
    return ApiError(503, None, "Too many requests are under way, please try again later.")


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "REQUEST_ENTITY_TOO_LARGE", f"The body must not be larger than {limit} bytes.")


def _leaf_nodes_key(attempt: Attempt) -> str:
    course_id = attempt.event.enrolment.course_id
    return leaf_nodes_key(course_id, course_id)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
