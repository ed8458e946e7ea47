"""A cache of answers in the worker's memory.

It lives in one event loop and never awaits between looking and changing, so it needs no locks.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from common.config.model import CacheConfig
from common.domain.events import Refused
from common.domain.faults import WorldFault
from common.metrics import Metrics

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    loaded_ms: float
    ttl_ms: float


class TimedCache(Generic[Key, Value]):
    """Answers in memory, each for a time, of a bounded number; one load per key however many ask at once.

    Not more than ``max_entries`` are kept: the one whose last use is longest ago goes first. An answer's age counts
    from the start of its load. An empty one (None, no members, Refused) is kept only for ``empty_ttl_ms``, a
    failure not at all.
    """

    def __init__(
        self,
        name: str,
        config: CacheConfig,
        metrics: Metrics,
        clock_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
    ) -> None:
        """``name`` is the label of the counts ``cache_hits`` and ``cache_misses``; ``clock_ms`` never goes back."""
        self._config = config
        self._counts = metrics.counts
        self._hits = ("cache_hits", "cache", name)
        self._misses = ("cache_misses", "cache", name)
        self._clock_ms = clock_ms
        self._entries: OrderedDict[Key, _Entry[Value]] = OrderedDict()
        self._loading: dict[Key, asyncio.Task[Mapping[Key, Value]]] = {}

    def __len__(self) -> int:
        """The number of answers in memory, those among them that are too old."""
        return len(self._entries)

    async def get_many(
        self,
        keys: Iterable[Key],
        load_many: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        recent: bool = False,
    ) -> dict[Key, Value]:
        """The value of each key; with ``recent`` none that is older than ``empty_ttl_ms``.

        Ask for a recent one before an event is refused because of what a cached answer lacks: the answer may have
        been right when it was loaded.

        ``load_many`` is called once with those that are neither here nor on their way, and returns all of them. What
        it raises is raised here, and wherever else one of these keys is waited for. Cancelling this call does not
        cancel the load, for which others may wait.
        """
        found: dict[Key, Value] = {}
        awaited: dict[Key, asyncio.Task[Mapping[Key, Value]]] = {}
        to_load: list[Key] = []
        now_ms = self._clock_ms()
        max_age_ms = self._config.empty_ttl_ms if recent else math.inf
        for key in dict.fromkeys(keys):
            entry = self._entries.get(key)
            if entry is not None and now_ms - entry.loaded_ms < min(entry.ttl_ms, max_age_ms):
                self._entries.move_to_end(key)
                found[key] = entry.value
            elif key in self._loading:
                awaited[key] = self._loading[key]
            else:
                to_load.append(key)
        if to_load:
            task = asyncio.create_task(self._load(to_load, load_many))
            task.add_done_callback(partial(self._finish, to_load, now_ms))
            self._loading.update(dict.fromkeys(to_load, task))
            awaited.update(dict.fromkeys(to_load, task))
        self._counts[self._hits] += len(found)
        self._counts[self._misses] += len(awaited)
        if awaited:
            await asyncio.wait(set(awaited.values()))
        for key, task in awaited.items():
            if task.cancelled():
                raise WorldFault(f"the load of {key!r} was cancelled")
            found[key] = task.result()[key]
        return found

    @staticmethod
    async def _load(
        keys: Sequence[Key], load_many: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]]
    ) -> Mapping[Key, Value]:
        loaded = await load_many(keys)
        if any(isinstance(value, BaseException) for value in loaded.values()):
            raise TypeError("an exception cannot be cached: each time it is raised it would keep more stack frames")
        return {key: loaded[key] for key in keys}

    def _finish(self, keys: Sequence[Key], started_ms: float, task: asyncio.Task[Mapping[Key, Value]]) -> None:
        for key in keys:
            del self._loading[key]
        # Asking for the exception also tells asyncio that somebody knows of it, should all who waited be gone.
        if task.cancelled() or task.exception() is not None:
            return
        for key, value in task.result().items():
            is_empty = isinstance(value, Refused) or not value
            ttl_ms = self._config.empty_ttl_ms if is_empty else self._config.ttl_ms
            self._entries[key] = _Entry(value, started_ms, ttl_ms)
            self._entries.move_to_end(key)
        while len(self._entries) > self._config.max_entries:
            self._entries.popitem(last=False)
