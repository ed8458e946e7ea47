"""How many requests a process works on at a time. It refuses the rest at once, so that those it takes are quick."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from services.envelope import ApiError, busy

_FIRST_LIMIT = 16
_MIN_LIMIT = 3
"""With one request at a time the process would be idle while that request waits for Cassandra."""
_QUIET = 2
"""The process is quiet while it has at most so many requests in flight."""
_QUIET_SAMPLES = 20
_MIN_QUIET_SAMPLES = 5
"""Fewer say nothing: one of them may have met a garbage collection."""
_WINDOW_SECONDS = 0.1
_WINDOW_REQUESTS = 10
"""A limit is set anew after so many requests, but not more often than every 0.1 s."""
_MIN_GRADIENT = 0.5
_INCREASE = 1.1
_PROBE_INTERVAL_SECONDS = 5.0
_PROBE_REQUESTS = 10
_MAX_PROBE_SECONDS = 0.3

Clock = Callable[[], float]


class Admission:
    """Admits requests of several operations. Each operation has a limit of its own, which follows its latency.

    An operation waits for the servers that it needs. If one of them is slow, the requests of that operation become
    slow and are limited. Requests that do without that server are not.

    A limit compares the latency of its requests with their latency in a quiet process. A process that refuses requests
    is never quiet by itself, so it makes a probe every 5 s: for a moment it takes only two requests at a time. TCP's
    BBR learns the shortest round trip in the same way.

    All methods belong to one event loop.
    """

    def __init__(
        self, max_concurrent_requests: int, latency_tolerance: float, clock: Clock = time.perf_counter
    ) -> None:
        """``max_concurrent_requests`` bounds all requests together, and with them each limit.

        ``latency_tolerance`` is how many times as long as in a quiet process a request may take.
        """
        self.max_limit = max_concurrent_requests
        self.latency_tolerance = latency_tolerance
        self.clock = clock
        self.limits: dict[str, Limit] = {}
        self.in_flight = 0
        self._open = 0
        self._probe_started = -math.inf
        self._probe_requests = 0

    def limit(self, operation: str) -> "Limit":
        """The limit of an operation, the same one for each call."""
        if operation not in self.limits:
            self.limits[operation] = Limit(self)
        return self.limits[operation]

    def check(self) -> None:
        """Raises ApiError 503 if there are ``max_concurrent_requests`` already."""
        if self._open >= self.max_limit:
            raise busy()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Counts a request while its body arrives and while it is worked on. Raises ApiError 503 as ``check`` does."""
        self.check()
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    @property
    def is_quiet(self) -> bool:
        """Whether hardly any request is in flight."""
        return self.in_flight <= _QUIET

    def is_probing(self) -> bool:
        """Whether a probe needs the process to be quiet. It is given up if it takes too long."""
        return self._probe_requests > 0 and self.clock() - self._probe_started <= _MAX_PROBE_SECONDS

    def note_refusal(self) -> None:
        """Begins a probe if it is time for one, unless it would last too long.

        Requests that wait for a hanging server keep the process from being quiet. A probe would only stop the others.
        """
        now = self.clock()
        if now - self._probe_started < _PROBE_INTERVAL_SECONDS:
            return
        if all(limit.oldest(now) <= _MAX_PROBE_SECONDS for limit in self.limits.values()):
            self._probe_started = now
            self._probe_requests = _PROBE_REQUESTS

    def note_quiet_request(self) -> None:
        """Counts a request for the probe, if there is one."""
        self._probe_requests = max(self._probe_requests - 1, 0)


class Limit:
    """The number of requests of one operation that may be in flight.

    At the end of a window, the limit shrinks if the median latency was above the tolerated one and the process was
    never quiet meanwhile: after a burst the queue empties, in overload it stays. (CoDel, RFC 8289, tells good queues
    from bad ones by that.) Otherwise the limit grows if it was reached. As in the gradient algorithm of Netflix's
    concurrency-limits, it shrinks in proportion to the latency, but at most to a half.
    """

    def __init__(self, admission: Admission) -> None:
        """``admission`` counts the requests of all operations."""
        self._admission = admission
        self._limit = float(min(_FIRST_LIMIT, admission.max_limit))
        self._started_at: dict[int, float] = {}
        self._number = 0
        self._quiet_latencies: deque[float] = deque(maxlen=_QUIET_SAMPLES)
        self._best_median = math.inf
        self._start_window()

    @property
    def value(self) -> int:
        """The limit, a whole number."""
        return int(self._limit)

    def oldest(self, now: float) -> float:
        """For how many seconds the oldest request has been in flight, 0 if there is none."""
        return now - next(iter(self._started_at.values()), now)

    def check(self) -> None:
        """Raises ApiError 503 if no request is admitted now."""
        admission = self._admission
        is_full = len(self._started_at) >= self.value
        if is_full or (admission.is_probing() and admission.in_flight >= _QUIET):
            self._was_reached |= is_full
            admission.note_refusal()
            raise busy()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Holds a slot for a request and measures its latency. Raises ApiError 503 if there is no slot.

        Requests that fail are measured too: many of them have waited for a server in vain. Those that the client has to
        mend are not, because they are answered without any server.
        """
        self.check()
        admission = self._admission
        admission.in_flight += 1
        started_quiet = admission.is_quiet
        number = self._number = self._number + 1
        started = self._started_at[number] = admission.clock()
        is_measured = True
        try:
            yield
        except ApiError as error:
            is_measured = error.http_status >= 500
            raise
        finally:
            self._was_quiet |= started_quiet
            if is_measured:
                self._measured(admission.clock() - started, started_quiet and admission.is_quiet)
            admission.in_flight -= 1
            del self._started_at[number]

    def _measured(self, latency: float, is_quiet: bool) -> None:
        self._latencies.append(latency)
        if is_quiet:
            self._quiet_latencies.append(latency)
            self._admission.note_quiet_request()
        is_long_enough = self._admission.clock() - self._window_started >= _WINDOW_SECONDS
        if is_long_enough and len(self._latencies) >= _WINDOW_REQUESTS:
            self._adjust()

    def _adjust(self) -> None:
        latency = median(self._latencies)
        self._best_median = min(self._best_median, latency)
        gradient = 1.0 if self._was_quiet else self._admission.latency_tolerance * self._quiet_latency() / latency
        if gradient < 1:
            self._limit = max(self._limit * max(gradient, _MIN_GRADIENT), _MIN_LIMIT)
        elif self._was_reached:
            self._limit = max(self._limit * _INCREASE, self._limit + 1)
        self._limit = min(self._limit, self._admission.max_limit)
        self._start_window()

    def _quiet_latency(self) -> float:
        """The median latency in a quiet process; while it is not known, the best one of all windows."""
        return median(self._quiet_latencies) if len(self._quiet_latencies) >= _MIN_QUIET_SAMPLES else self._best_median

    def _start_window(self) -> None:
        self._window_started = self._admission.clock()
        self._latencies: list[float] = []
        self._was_quiet = False
        self._was_reached = False
