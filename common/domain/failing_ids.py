"""Which requests an API cannot answer although it answers others: the rule alone, without HTTP.

No answer is a 5xx, a redirect, a 2xx without a JSON object, a connection that breaks, or none in time. What cannot be
the fault of a request is none of these: a connection that cannot be opened, 408 and 429.
"""

import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from cachetools import TTLCache

Request = TypeVar("Request", bound=Hashable)

_MAX_IDS = 10_000
MAX_CONTROLS = 4
"""The two of :meth:`FailingIds.controls`, and up to two of them again."""
_REMEMBERED = 60
"""A request that is not made for this many times the limit is forgotten: half an hour with the shipped limit. Until
then each further event that needs it is refused after its next failure."""
_MAY_BE_MENDED = 10
"""After this many times the limit without a failure, it takes two of them: the request may be mended, and the API may
fail by chance."""
MIN_FAILURES = 8
"""So often a request must fail, however long each failure takes. If half of the instances are gone and each request
meets any of them, one failure whose controls are answered has a probability of a quarter at most, and seven in a row
have one of 1 in 16,000. Requests that meet the instances in turn are no such chance: the client prevents that."""
TIMEOUT_FACTOR = 2
"""For so many times the limit a request must fail if it timed out: a service may be slow for a moment."""


@dataclass(frozen=True, slots=True)
class _Failing:
    since: float
    last: float
    failures: int
    has_timed_out: bool


class FailingIds(Generic[Request]):
    """Requests that an API has not answered, each time, while it answered others well.

    A request is *poison* if it has failed for the limit and often enough, and if after each of its failures but the
    first other requests, the controls, were answered well. While nobody is answered, the service is down: the time of
    that does not count.
    """

    def __init__(
        self,
        limit_seconds: float,
        clock: Callable[[], float] = time.monotonic,
        *,
        neutral: Request | None = None,
        neutral_suffices: bool = True,
    ) -> None:
        """``clock`` is monotonic, in seconds. ``neutral`` is a request that a healthy service always answers well.

        ``neutral_suffices``: it needs all that other requests need. Otherwise it proves nothing alone.
        """
        self._limit = limit_seconds
        self._neutral = neutral
        self._neutral_suffices = neutral_suffices
        self._clock = clock
        # By hash, because requests may be long.
        self._failing = TTLCache[int, _Failing](_MAX_IDS, limit_seconds * _REMEMBERED, clock)
        self._answered = deque[Request](maxlen=2)

    def answered(self, request: Request, is_good: bool) -> None:
        """Notes an answer. ``is_good``: it shows that the service is healthy, as a 2xx does and most 4xx do not."""
        self._failing.pop(hash(request), None)
        if not is_good:
            self._no_longer_good(request)
        elif request != self._neutral and request not in self._answered:
            self._answered.append(request)

    def controls(self, request: Request, *, also_first: bool = False) -> tuple[Request, ...]:
        """The requests to make now that ``request`` has failed again, to find out whether the service answers others.

        What others were answered meanwhile does not count: of a service that fails by chance, many are answered.

        One was answered well before. That alone may prove little: it may be answered from a cache while the database is
        gone, or from another part of the database. So the neutral one is made as well; without one that suffices, a
        worker that is only asked for ``request`` since its start would never know. Empty if there are none, and at the
        first failure unless ``also_first``. That never counts, but it shows whether the service is up.
        """
        if not also_first and hash(request) not in self._failing:
            return ()
        before = next((other for other in reversed(self._answered) if other != request), None)
        if before is None and not self._neutral_suffices:
            return ()
        return tuple(other for other in (before, self._neutral) if other is not None and other != request)

    def failed(
        self, request: Request, controls: Sequence[Request], bad_control: Request | None, *, has_timed_out: bool = False
    ) -> float | None:
        """Notes that ``request`` was not answered; ``has_timed_out``: not in time.

        ``bad_control`` is the one of the ``controls`` that was not answered well, if any.

        Returns for how many seconds the request has failed if it is poison, else None.
        """
        self._no_longer_good(request)
        if bad_control is not None and self._answered and bad_control == self._answered[-1]:
            # It may be one that fails alone. Another one is next.
            self._answered.rotate()
        now = self._clock()
        before = self._failing.get(hash(request))
        failing = _Failing(now, now, 1, has_timed_out)
        if before is not None and controls and bad_control is None:
            may_be_mended = now - before.last > self._limit * _MAY_BE_MENDED
            failures = min(before.failures, MIN_FAILURES - 2) if may_be_mended else before.failures
            failing = _Failing(before.since, now, failures + 1, before.has_timed_out or has_timed_out)
        self._failing[hash(request)] = failing
        seconds = now - failing.since
        limit = self._limit * (TIMEOUT_FACTOR if failing.has_timed_out else 1)
        return seconds if failing.failures >= MIN_FAILURES and seconds >= limit else None

    def _no_longer_good(self, request: Request) -> None:
        """It may fail from now on, or exist no more: as a control it would be a bad one each time."""
        if request in self._answered:
            self._answered.remove(request)
