"""The client of one Sunbird API: JSON over HTTP with retries and a circuit breaker.

Rule G4 tells faults of the data and of the world apart:

* A 2xx with a JSON object, and a 4xx, is an answer about the data: :class:`Answer`.
* A 5xx, a 3xx (which no Sunbird API returns), a refused or broken connection, a timeout, an incomplete answer, a 2xx
  without a JSON object (a proxy's error page), 408 (timed out) and 429 (too many requests) are faults of the world. The
  call is repeated until ``call_timeout_ms`` is over, then raises WorldFault, after the controls of its last try (see
  below). There are up to four, each of which waits in line, and may take ``request_timeout_ms``.
* The time of a call includes its wait in line until it sends its first request, for one of ``max_connections`` and for
  the breaker. But while others are answered, this wait is no fault of the world: then the time begins anew with each
  answer. So many calls may take as long as they need, and yet all of them end within ``call_timeout_ms`` once the
  service is down.
* An id that fails over and over while other ids are answered well has a fault of its data: BadEvent ``api_error``
  (:class:`~common.domain.failing_ids.FailingIds`). This is only for clients with ``poison_after_ms``. A connection
  that cannot be opened, 408 and 429 say nothing about an id: they depend on the moment.
* Whether others are answered well is seen from a request that was answered before, which is repeated after each failure
  of the id, and from the ``control`` that the client's owner has stated: both must be answered. The answer to that must
  be Sunbird's own, so that neither a service that is down nor a proxy passes for one that answers: see
  :meth:`Answer.is_sunbirds`. Some controls are sent again, as many as chance says: a balancer that gives requests to
  instances in turn must not give each try of an id to the same one.
* A slow service must not pass for an id that times out. So after a timeout each control must be answered in half of the
  time. The time of a request begins when it has a connection of ``max_connections``, so no wait in line is part of it.

aiohttp takes 57 us of CPU per request. httpx takes 1,500 with 10 connections and 7,900 with 64, because it walks over
all connections of its pool for every request.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Self, cast
from urllib.parse import quote

import aiohttp
import orjson
from aiohttp.connector import Connection
from yarl import URL

from common.config.http import HttpConfig
from common.domain.events import BadEvent, shown
from common.domain.failing_ids import MAX_CONTROLS, FailingIds
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.breaker import Breaker
from common.servers.http_answers import Answer, Unanswered, answer_of

logger = logging.getLogger(__name__)

_NOT_FOUND = 404
_URI_TOO_LONG = 414
UNKNOWN_ID = "do_0"
"""No content has this id: those that Sunbird gives have some twenty digits. For a client's ``control``."""

# As ids these would be segments of the path that proxies resolve, escaped or not (RFC 3986, 6.2.2): the request would
# reach another resource. No id is one of them.
_DOT_SEGMENTS = (".", "..")
# RFC 9110, 4.1 recommends that every server supports at least this. Many servers close the connection when a URL is
# longer, which would look like a fault of the world, for ever.
_LONGEST_URL = 8_000


class _Request(NamedTuple):
    method: str
    url: str
    content: bytes | None


class _TimedOut(Unanswered):
    """The service has not answered in time."""


class _Response(aiohttp.ClientResponse):
    """Its connection can be closed although it was given back, which happens with the last byte of the body."""

    async def start(self, connection: Connection) -> Self:
        self._connected_by = connection.protocol
        await super().start(connection)
        return self

    def close_connection(self) -> None:
        """For an answer of no use.

        Behind many balancers a connection stays with one instance. An id whose tries took turns with their controls on
        two connections would be answered by one instance only, and the controls by the other one.
        """
        if self._connected_by is not None:
            self._connected_by.close()


class ApiClient:
    """One API at one URL. It is created, used and closed in one event loop."""

    def __init__(
        self,
        name: str,
        url: str,
        config: HttpConfig,
        metrics: Metrics,
        *,
        poison_after_ms: int | None = None,
        control: str | Mapping[str, Any] | None = None,
        control_suffices: bool = True,
    ) -> None:
        """Connects with the first call.

        Ids are appended to ``url``, or queries are posted to it. ``name`` is the label of the counters ``api_calls``
        and ``api_failures``. With ``poison_after_ms``, what fails for this long while others are answered raises
        BadEvent.

        ``control`` is what to ask for, too, to see whether others are answered: an id to get or a body to post, of
        something that does not exist. ``control_suffices``: for that answer the API needs all that it needs for a thing
        that exists. Otherwise, while only a part of it is down, every id would look like one that fails alone, so
        something that exists must be answered as well.
        """
        self._name = name
        self._url = url
        self._config = config
        self._counts = metrics.counts
        self._calls = ("api_calls", "api", name)
        self._failures = ("api_failures", "api", name)
        # Not aiohttp's own line: its wait would count as the time of a request. Held for one request, not for a call:
        # what waits until it tries again keeps nobody from a connection.
        self._connections = asyncio.Semaphore(config.max_connections)
        # Only so many first requests are in the lines for a connection and for the breaker. Those that are tried again
        # and controls come behind them, and their time goes on while others are answered.
        self._first_requests = asyncio.Semaphore(config.max_connections)
        self._answered_at = float("-inf")
        self._breaker = Breaker(config.breaker_failures, config.breaker_delay_ms / 1000)
        self._control = None if control is None else self._request(control)
        self._control_suffices = control_suffices
        self._has_warned = False
        self._failing = (
            None
            if poison_after_ms is None
            else FailingIds[_Request](poison_after_ms / 1000, neutral=self._control, neutral_suffices=control_suffices)
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=config.max_connections),
            # The whole request is timed below: aiohttp would round the timeout up to seconds.
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=config.connect_timeout_ms / 1000),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
        )

    async def get(self, identifier: str, query: str = "") -> Answer:
        """Requests the URL with ``identifier`` (any characters) and ``query`` (``?fields=name``) appended.

        Raises WorldFault after ``call_timeout_ms``, which begins with each answer to another call anew until this one
        sends its first request. Raises BadEvent ``api_error`` if only this id is not answered.
        """
        if identifier in _DOT_SEGMENTS:
            return Answer(_NOT_FOUND, {})
        return await self._call(self._request(identifier, query), identifier)

    async def post(self, body: Mapping[str, Any]) -> Answer:
        """Posts ``body`` as JSON. Only for queries, because it may be sent several times. Raises as :meth:`get`."""
        request = self._request(body)
        return await self._call(request, (request.content or b"").decode())

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    def _request(self, subject: str | Mapping[str, Any], query: str = "") -> _Request:
        """Gets an id, or posts a body."""
        if isinstance(subject, str):
            return _Request("GET", self._url + quote(subject, safe="") + query, None)
        return _Request("POST", self._url, orjson.dumps(subject))

    async def _call(self, request: _Request, subject: str) -> Answer:
        """``subject`` is what is asked for, for the reason of a BadEvent."""
        if len(request.url) > _LONGEST_URL:
            return Answer(_URI_TOO_LONG, {})
        outcome, deadline = await self._first_try(request, asyncio.get_running_loop().time())
        if isinstance(outcome, WorldFault):
            outcome = await self._call_again(request, subject, outcome, deadline)
        if isinstance(outcome, Answer):
            return outcome
        try:
            raise outcome
        finally:
            # It refers to this frame. If the frame refers to it, the caller's batch stays until the garbage collector
            # comes, which is rare in a worker.
            del outcome

    async def _first_try(self, request: _Request, came_at: float) -> tuple[Answer | WorldFault, float]:
        """What comes of it, and the time of the event loop at which the call is over."""
        loop = asyncio.get_running_loop()
        async with self._first_requests:
            async with self._connections:
                deadline = self._deadline(came_at)
                if not self._breaker.is_open() and loop.time() + self._config.request_timeout_ms / 1000 <= deadline:
                    # Nearly every call ends here, so it has no timer of its own: the request has one, which is enough.
                    return await self._outcome(request), deadline
            # It keeps its place. Otherwise all that are in line would come here while the breaker is open, however
            # short that is, and those that try again would be behind them.
            is_sent = False
            while not is_sent and loop.time() < (deadline := self._deadline(came_at)):
                # If others were answered meanwhile, it was cut off too early.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline) as timeout, self._admitted():
                        is_sent = True
                        deadline = self._deadline(came_at)
                        timeout.reschedule(deadline)
                        return await self._outcome(request), deadline
        return WorldFault(f"{self._url} was down for {self._config.call_timeout_ms} ms"), deadline

    def _deadline(self, came_at: float) -> float:
        """Of a call that has not sent anything yet: its time begins anew with each answer to another one."""
        return max(came_at, self._answered_at) + self._config.call_timeout_ms / 1000

    async def _outcome(self, request: _Request) -> Answer | WorldFault:
        """A fault comes without the frames and the errors that have led to it: they would be kept as long as it is."""
        try:
            return await self._send(request)
        except WorldFault as fault:
            # A timeout refers to the task, and the task to what it raises.
            fault.__cause__ = fault.__context__ = None
            return fault.with_traceback(None)

    async def _call_again(
        self, request: _Request, subject: str, fault: WorldFault, deadline: float
    ) -> Answer | WorldFault:
        """What comes of it after ``fault`` until ``deadline``, a time of the event loop."""
        backoff_ms = self._config.initial_backoff_ms
        while True:
            if isinstance(fault, Unanswered):
                # Not cut off: else no failure would be noted where one try takes nearly all of a call.
                await self._refuse_if_poison(request, subject, fault)
            try:
                async with asyncio.timeout_at(deadline):
                    await asyncio.sleep(backoff_ms / 1000 * random.uniform(0.5, 1.0))
                    backoff_ms = min(backoff_ms * 2, self._config.max_backoff_ms)
                    async with self._admitted():
                        outcome = await self._outcome(request)
            except TimeoutError:
                return fault
            if isinstance(outcome, Answer):
                return outcome
            fault = outcome

    @contextlib.asynccontextmanager
    async def _admitted(self) -> AsyncIterator[None]:
        """Enters when a request may be sent, and has a connection for it."""
        while True:
            async with self._breaker.admitted() as is_probe, self._connections:
                # The service may have gone down again while this one was in line.
                if is_probe or not self._breaker.is_open():
                    yield
                    return

    async def _refuse_if_poison(self, request: _Request, subject: str, error: Unanswered) -> None:
        """Raises BadEvent if the request has failed for ``poison_after_ms`` while others were answered."""
        if self._failing is None:
            return
        has_timed_out = isinstance(error, _TimedOut)
        # An open breaker may be due to ids that fail alone. Then a control that is answered closes it, and all go on.
        controls = self._failing.controls(request, also_first=self._breaker.is_open())
        bad_control = await self._bad_one(controls, 0.5 if has_timed_out else 1)
        seconds = self._failing.failed(request, controls, bad_control, has_timed_out=has_timed_out)
        if seconds is not None:
            raise BadEvent(
                "api_error",
                f"{self._name} API has not answered {shown(subject)} for {seconds:.0f} s, although it answers others: "
                f"{error}",
            )

    async def _bad_one(self, controls: Sequence[_Request], share_of_timeout: float) -> _Request | None:
        """The first control that is not answered well in its time, after which no other is sent; None if all are."""
        most_again = MAX_CONTROLS - 2
        again: Sequence[_Request] = random.choices(controls, k=random.randint(0, most_again)) if controls else ()
        timeout = self._config.request_timeout_ms / 1000 * share_of_timeout
        for control in (*controls, *again):
            # Past the breaker, which may be open because of one request that fails alone. A success closes it.
            try:
                async with self._connections, asyncio.timeout(timeout):
                    answer = await self._send(control)
            except (WorldFault, TimeoutError):
                return control
            if not self._is_good(control, answer):
                if control == self._control and not self._has_warned:
                    self._has_warned = True
                    logger.warning(
                        "the %s API answers the request for something that does not exist with status %d, and not as "
                        "Sunbird's services do: no id at fault can be recognised",
                        self._name,
                        answer.status,
                    )
                return control
        return None

    def _is_good(self, request: _Request, answer: Answer) -> bool:
        if request != self._control:
            return answer.is_success
        # One that does not suffice must not keep an id from being known where the service refuses it in another way.
        return answer.is_sunbirds if self._control_suffices else isinstance(answer.at("params"), Mapping)

    async def _send(self, request: _Request) -> Answer:
        """Sends once, whatever the breaker says, and tells it the outcome. Raises WorldFault."""
        self._counts[self._calls] += 1
        try:
            answer = await self._exchange(request)
        except WorldFault:
            self._counts[self._failures] += 1
            self._breaker.failed()
            raise
        except asyncio.CancelledError:
            # A call that is cut off when its time is over has no answer either.
            self._counts[self._failures] += 1
            raise
        self._breaker.succeeded()
        self._answered_at = asyncio.get_running_loop().time()
        if self._failing is not None:
            self._failing.answered(request, self._is_good(request, answer))
        return answer

    async def _exchange(self, request: _Request) -> Answer:
        headers = {"Content-Type": "application/json"} if request.content is not None else None
        try:
            async with (
                asyncio.timeout(self._config.request_timeout_ms / 1000),
                self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    data=request.content,
                    headers=headers,
                    allow_redirects=False,
                ) as response,
            ):
                body = await response.read()
        except aiohttp.ServerTimeoutError as error:
            raise WorldFault(f"{self._url} took no connection in {self._config.connect_timeout_ms} ms") from error
        except TimeoutError as error:
            raise _TimedOut(f"{self._url} did not answer in {self._config.request_timeout_ms} ms") from error
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL, UnicodeError) as error:
            # The last two are about the host: an id is escaped, and what is wrong in an answer is a ClientError.
            raise WorldFault(f"{self._url}: {type(error).__name__}: {error}") from error
        except aiohttp.ClientError as error:
            raise Unanswered(f"{self._url}: {type(error).__name__}: {error}") from error
        try:
            return answer_of(self._url, response.status, body)
        except Unanswered:
            cast("_Response", response).close_connection()
            raise
