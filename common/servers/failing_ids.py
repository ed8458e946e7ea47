"""Which requests an API cannot answer although it answers others: the rule alone, without HTTP."""

import time
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import TTLCache

Request = TypeVar("Request", bound=Hashable)

_MAX_IDS = 10_000
_REMEMBERED = 10
"""A request that is not made for this many times the limit is forgotten. Until then its next failure is conclusive, so
that each further event that needs it is refused after one try."""


@dataclass(frozen=True, slots=True)
class _Failing:
    since: float
    last: float


class FailingIds(Generic[Request]):
    """Requests that an API has answered with 5xx each time, while it answered others well.

    A request is *poison* if it has failed for the limit, and if between any two of its failures another request was
    answered well. While nobody is answered, the service is down: the time of that does not count.
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
        self._last_good_at = float("-inf")

    def answered(self, request: Request, is_good: bool) -> None:
        """Notes an answer. ``is_good``: it shows that the service is healthy, as a 2xx does and most 4xx do not."""
        self._failing.pop(hash(request), None)
        if is_good:
            self._last_good_at = self._clock()
            if request != self._neutral and request not in self._answered:
                self._answered.append(request)

    def control(self, request: Request) -> Request | None:
        """The request to make now that ``request`` has failed, to find out whether the service answers others.

        It was answered well before; if none was, it is the neutral one. Without it, a worker that is only asked for
        ``request`` since its start would never know. None if there is no such request, or no need: this is the first
        failure, or others were answered since the previous one.
        """
        failing = self._failing.get(hash(request))
        if failing is None or self._last_good_at > failing.last:
            return None
        others = (*reversed(self._answered), self._neutral)
        return next((other for other in others if other is not None and other != request), None)

    def failed(self, request: Request) -> float | None:
        """Notes a 5xx. Returns for how many seconds the request has failed if it is poison, else None."""
        if request in self._answered:
            self._answered.remove(request)
        now = self._clock()
        failing = self._failing.get(hash(request))
        since = failing.since if failing is not None and self._last_good_at > failing.last else now
        self._failing[hash(request)] = _Failing(since, now)
        return now - since if now - since >= self._limit else None
