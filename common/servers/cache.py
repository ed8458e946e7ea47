"""A cache in the worker's memory.

It belongs to one event loop and never awaits between a lookup and a change, so it needs no locks.
"""

import asyncio
import math
import sys
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
from cachetools import TLRUCache
from objsize import ObjSizeSettings

from common.config.model import CacheConfig
from common.domain.events import Refused
from common.domain.faults import WorldFault
from common.metrics import Metrics

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


_ENTRY_BYTES = 400
"""What an entry takes besides its key and its value."""


def _size(value: Any) -> int:
    """The bytes of one object. ``sys.getsizeof`` takes an address that is in a ``msgspec.Raw`` for its length."""
    if isinstance(value, msgspec.Raw):
        return msgspec.Raw.__basicsize__ + memoryview(value).nbytes
    return sys.getsizeof(value)


# By default each call goes through all modules that are loaded, to leave out their globals: 2 ms for the key and the
# value of an entry with the 2,000 modules of a Flink worker. No key and no value refers to globals.
_SIZES = ObjSizeSettings(get_size_func=_size, exclude_modules_globals=False)


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    loaded_ms: float
    expires_ms: float
    size: int


class TimedCache(Generic[Key, Value]):
    """A cache with a time to live. Concurrent requests for a key share its first load.

    Keys and values take at most ``max_size_in_bytes``: the least recently used entry is evicted, and a value that is
    larger is not kept. The age of a value counts from the start of its load. An empty value (None, no members, Refused)
    is kept only for ``empty_ttl_ms``, and a failed load is not kept. Expired entries are removed even if nobody asks
    for them.
    """

    def __init__(
        self,
        name: str,
        config: CacheConfig,
        metrics: Metrics,
        clock_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
    ) -> None:
        """``name`` is the label of the counters ``cache_hits`` and ``cache_misses``; ``clock_ms`` is monotonic."""
        self._config = config
        self._counts = metrics.counts
        self._hits = ("cache_hits", "cache", name)
        self._misses = ("cache_misses", "cache", name)
        self._clock_ms = clock_ms
        self._entries = TLRUCache[Key, _Entry[Value]](
            config.max_size_in_bytes, lambda _, entry, __: entry.expires_ms, clock_ms, lambda entry: entry.size
        )
        self._expiry: asyncio.TimerHandle | None = None
        self._loading: dict[Key, asyncio.Task[Mapping[Key, Value]]] = {}

    def __len__(self) -> int:
        """The number of entries that have not expired."""
        return len(self._entries)

    async def get_many(
        self,
        keys: Iterable[Key],
        load_many: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]],
        *,
        recent: bool = False,
    ) -> dict[Key, Value]:
        """The value of each key. With ``recent``, values older than ``empty_ttl_ms`` are loaded again.

        Ask for recent values before refusing an event because of what a cached value lacks: the value may have been
        right when it was loaded.

        ``load_many`` is called once with the keys that are neither cached nor being loaded, and returns all of them.
        Its exception is raised here. It is called a second time with those keys whose load another call had begun, if
        that fails with anything but a WorldFault: another key of that call may be at fault. Cancelling this call does
        not cancel the load, because other calls may wait for it.
        """
        found, missing = self._look_up(keys, self._config.empty_ttl_ms if recent else math.inf)
        if missing:
            loaded, failed = await self._load_with_others(missing, load_many)
            found |= loaded
            if failed:
                # Not shared: whoever else loads one of them now may have asked for the key at fault as well.
                started_ms = self._clock_ms()
                alone = await self._load(failed, load_many)
                self._keep(alone, started_ms)
                found.update(alone)
        return found

    def _look_up(self, keys: Iterable[Key], max_age_ms: float) -> tuple[dict[Key, Value], list[Key]]:
        """The values that are cached and young enough, and the keys of the others."""
        found: dict[Key, Value] = {}
        missing: list[Key] = []
        now_ms = self._clock_ms()
        for key in dict.fromkeys(keys):
            entry = self._entries.get(key)
            if entry is not None and now_ms - entry.loaded_ms < max_age_ms:
                found[key] = entry.value
            else:
                missing.append(key)
        self._counts[self._hits] += len(found)
        self._counts[self._misses] += len(missing)
        return found, missing

    async def _load_with_others(
        self, keys: Sequence[Key], load_many: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]]
    ) -> tuple[dict[Key, Value], list[Key]]:
        """The values from the loads that other calls have begun, and from one load for the other keys.

        With them the keys whose load by others has failed, perhaps because of a key that this call has not asked for.
        """
        of_others = {key: self._loading[key] for key in keys if key in self._loading}
        to_load = [key for key in keys if key not in of_others]
        own = self._start(to_load, load_many) if to_load else None
        try:
            await asyncio.wait({*of_others.values(), *([] if own is None else [own])})
            found: dict[Key, Value] = {}
            if own is not None:
                if own.cancelled():
                    raise WorldFault(f"the load of {to_load[0]!r} was cancelled")
                found.update(own.result())
            failed = [key for key in of_others if _may_be_of_another_key(of_others[key])]
            found.update({key: of_others[key].result()[key] for key in of_others.keys() - failed})
        finally:
            # A failure refers to this frame. If the frame refers to its task, all of it stays until the garbage
            # collector comes, which is rare in a worker.
            del own, of_others
        return found, failed

    def _start(
        self,
        keys: Sequence[Key],
        load_many: Callable[[Sequence[Key]], Awaitable[Mapping[Key, Value]]],
    ) -> "asyncio.Task[Mapping[Key, Value]]":
        """The task that loads the keys, for all who ask for them meanwhile."""
        task = asyncio.create_task(self._load(keys, load_many))
        task.add_done_callback(partial(self._finish, keys, self._clock_ms()))
        self._loading.update(dict.fromkeys(keys, task))
        return task

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
        # Reading the exception also keeps asyncio from warning that nobody did, if all waiting calls are gone.
        if not task.cancelled() and task.exception() is None:
            self._keep(task.result(), started_ms)

    def _keep(self, loaded: Mapping[Key, Value], started_ms: float) -> None:
        for key, value in loaded.items():
            is_empty = isinstance(value, Refused) or not value
            ttl_ms = self._config.empty_ttl_ms if is_empty else self._config.ttl_ms
            size = _SIZES.get_deep_size(key, value) + _ENTRY_BYTES
            # In this order: an entry that is replaced must not be evicted to make room for its successor's bytes.
            self._entries.pop(key, None)
            if size <= self._config.max_size_in_bytes:
                self._entries[key] = _Entry(value, started_ms, started_ms + ttl_ms, size)
        self._schedule_expiry()

    def _schedule_expiry(self) -> None:
        if self._expiry is None and self._entries:
            self._expiry = asyncio.get_running_loop().call_later(self._config.ttl_ms / 1000, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        self._entries.expire()
        self._schedule_expiry()


def _may_be_of_another_key(task: asyncio.Task[Any]) -> bool:
    """Whether a load has failed, unless with a fault of the world: whoever waits is tried again after that anyway."""
    return task.cancelled() or not isinstance(task.exception(), WorldFault | None)
