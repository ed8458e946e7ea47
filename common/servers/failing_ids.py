"""Which requests an API cannot answer although it answers others: the rule alone, without HTTP."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import TTLCache

Request = TypeVar("Request", bound=Hashable)

_MAX_IDS = 10_000
_REMEMBERED = 60
"""A request that is not made for this many times the limit is forgotten: half an hour with the shipped limit. Until
then its next failure is conclusive, so that each further event that needs it is refused after one try."""
_MIN_FAILURES = 8
"""So often a request must fail, however long each failure takes. If half of the instances are gone and each request
meets any of them, one failure whose controls are answered has a probability of a quarter at most, and seven in a row
have one of 1 in 16,000. Requests that meet the instances in turn are no such chance: the client prevents that."""
_TIMEOUT_FACTOR = 2
"""For so many times the limit a request must fail if it timed out: a service may be slow for a moment."""


@dataclass(frozen=True, slots=True)
class _Failing:
    since: float
    failures: int
    has_timed_out: bool


class FailingIds(Generic[Request]):
    """Requests that an API has answered with 5xx, or not in time, each time, while it answered others well.

    A request is *poison* if it has failed for the limit and often enough, and if after each of its failures but the
    first other requests, the controls, were answered well. While nobody is answered, the service is down: the time of
    that does not count.
    """

    def __init__(
        self, limit_seconds: float, clock: Callable[[], float] = time.monotonic, neutral: Request | None = None
    ) -> None:
        """``clock`` is monotonic, in seconds. ``neutral`` is a request that a healthy service always answers well."""
        self._limit = limit_seconds
        self._neutral = neutral
        self._clock = clock
        # By hash, because requests may be long.
        self._failing = TTLCache[int, _Failing](_MAX_IDS, limit_seconds * _REMEMBERED, clock)
        self._answered = deque[Request](maxlen=2)

    def answered(self, request: Request, is_good: bool) -> None:
        """Notes an answer. ``is_good``: it shows that the service is healthy, as a 2xx does and most 4xx do not."""
        self._failing.pop(hash(request), None)
        if is_good and request != self._neutral and request not in self._answered:
            self._answered.append(request)

    def controls(self, request: Request) -> tuple[Request, ...]:
        """The requests to make now that ``request`` has failed again, to find out whether the service answers others.

        What others were answered meanwhile does not count: of a service that fails by chance, many are answered.

        One was answered well before. That alone may prove little: it may be answered from a cache while the database is
        gone, or from another part of the database. So the neutral one is made as well; without it, a worker that is
        only asked for ``request`` since its start would never know. Empty if there are none, or at the first failure.
        """
        if hash(request) not in self._failing:
            return ()
        before = next((other for other in reversed(self._answered) if other != request), None)
        return tuple(other for other in (before, self._neutral) if other is not None and other != request)

    def failed(self, request: Request, *, are_controls_good: bool, has_timed_out: bool = False) -> float | None:
        """Notes a 5xx, or that the answer did not come in time.

        ``are_controls_good``: all controls were answered well, False if there are none.

        Returns for how many seconds the request has failed if it is poison, else None.
        """
        if request in self._answered:
            self._answered.remove(request)
        now = self._clock()
        before = self._failing.get(hash(request))
        failing = _Failing(now, 1, has_timed_out)
        if before is not None and are_controls_good:
            failing = _Failing(before.since, before.failures + 1, before.has_timed_out or has_timed_out)
        elif before is not None:
            # It may be a control that fails alone. Another one is next.
            self._answered.rotate()
        self._failing[hash(request)] = failing
        seconds = now - failing.since
        limit = self._limit * (_TIMEOUT_FACTOR if failing.has_timed_out else 1)
        return seconds if failing.failures >= _MIN_FAILURES and seconds >= limit else None
