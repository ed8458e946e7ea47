"""What Redis holds about courses and contents, and a cache of answers in the worker's memory.

Redis is only read, many keys in one round trip. There are three kinds of outcome: the value; :class:`BadValue` where a
key holds something else than it should, a fault of the data that concerns only the events which need this key;
WorldFault or TaskFault where the server does not answer or does not let us in.

Everything here lives in one event loop and never awaits between looking and changing, so it needs no locks.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec
import redis.asyncio
from redis.asyncio.client import Pipeline
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from common.config import CacheConfig, RedisConfig
from common.events import BadEvent
from common.faults import TaskFault, WorldFault
from common.metrics import Metrics

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Struct = TypeVar("Struct")


@dataclass(frozen=True, slots=True)
class BadValue:
    """What a Redis key holds cannot be used; ``reason`` is a sentence with the key in it."""

    reason: str


def usable(value: Value | BadValue) -> Value:
    """The value, or BadEvent ``bad_cache_value`` for the event that needs it."""
    if isinstance(value, BadValue):
        raise BadEvent("bad_cache_value", value.reason)
    return value


class RedisDatabase:
    """One database of the server. Created, used and closed in one event loop."""

    def __init__(self, config: RedisConfig, database: int) -> None:
        """Connects to nothing yet."""
        self._name = f"Redis {config.host}:{config.port}, database {database}"
        self._timeout_ms = config.connect_timeout_ms + config.request_timeout_ms
        tls = config.tls
        self._client = redis.asyncio.Redis(
            host=config.host,
            port=config.port,
            db=database,
            username=config.username,
            password=config.password.get_secret_value() if config.password else None,
            socket_connect_timeout=config.connect_timeout_ms / 1000,
            socket_timeout=config.request_timeout_ms / 1000,
            ssl=tls.enabled,
            ssl_ca_certs=tls.ca_file,
            ssl_certfile=tls.certificate_file,
            ssl_keyfile=tls.key_file,
            ssl_cert_reqs="none" if tls.verify == "none" else "required",
            ssl_check_hostname=tls.verify == "hostname",
        )

    async def open(self) -> None:
        """Connects. Raises WorldFault if the server does not answer, TaskFault if it refuses login or database."""
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.ping()
            await self._execute(pipeline)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def sets(self, keys: Collection[str]) -> dict[str, frozenset[str] | BadValue]:
        """The members of the set at each key, none where the key is missing. Raises WorldFault and TaskFault."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.smembers(key)
            answers = await self._execute(pipeline)
        return {key: self._to_set(key, answer) for key, answer in zip(keys, answers, strict=True)}

    async def hashes(self, keys: Collection[str]) -> dict[str, dict[str, str] | BadValue]:
        """The fields of the hash at each key, none where the key is missing; bytes that are no UTF-8 as U+FFFD.

        Raises WorldFault and TaskFault.
        """
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hgetall(key)
            answers = await self._execute(pipeline)
        return {key: self._to_hash(key, answer) for key, answer in zip(keys, answers, strict=True)}

    async def structs(
        self, keys: Collection[str], decoder: msgspec.json.Decoder[Struct]
    ) -> dict[str, Struct | BadValue | None]:
        """What ``decoder`` reads in the text at each key, None where the key is missing.

        Raises WorldFault and TaskFault.
        """
        async with self._client.pipeline(transaction=False) as pipeline:
            for key in keys:
                # Not one MGET: it answers null for a key of another type, as if there were none.
                pipeline.get(key)
            answers = await self._execute(pipeline)
        structs: dict[str, Struct | BadValue | None] = {}
        for key, answer in zip(keys, answers, strict=True):
            struct = self._to_struct(key, answer, decoder)
            structs[key] = struct
        return structs

    async def _execute(self, pipeline: Pipeline) -> list[Any]:
        """The answers, among them errors where a key is of another type."""
        try:
            # The client's timeout is that of one key's answer.
            async with asyncio.timeout(self._timeout_ms / 1000):
                answers = await pipeline.execute(raise_on_error=False)
        except TimeoutError as error:
            raise WorldFault(f"{self._name} did not answer within {self._timeout_ms} ms") from error
        except (AuthenticationError, ResponseError) as error:
            raise TaskFault(f"{self._name} refuses the connection: {error}") from error
        except (RedisError, OSError) as error:
            raise WorldFault(f"{self._name}: {error}") from error
        for answer in answers:
            if isinstance(answer, NoPermissionError):
                raise TaskFault(f"{self._name} does not permit a read: {answer}") from answer
            if isinstance(answer, ResponseError) and not _is_wrong_type(answer):
                raise WorldFault(f"{self._name}: {answer}") from answer
        return answers

    def _to_set(self, key: str, answer: set[bytes] | ResponseError) -> frozenset[str] | BadValue:
        if isinstance(answer, ResponseError):
            return BadValue(f"{self._name} holds no set at key {key}")
        try:
            return frozenset(member.decode() for member in answer)
        except UnicodeDecodeError:
            return BadValue(f"{self._name} holds a set at key {key} with a member that is not UTF-8")

    def _to_hash(self, key: str, answer: dict[bytes, bytes] | ResponseError) -> dict[str, str] | BadValue:
        if isinstance(answer, ResponseError):
            return BadValue(f"{self._name} holds no hash at key {key}")
        return {field.decode(errors="replace"): value.decode(errors="replace") for field, value in answer.items()}

    def _to_struct(
        self, key: str, answer: bytes | ResponseError | None, decoder: msgspec.json.Decoder[Struct]
    ) -> Struct | BadValue | None:
        if answer is None:
            return None
        if isinstance(answer, ResponseError):
            return BadValue(f"{self._name} holds no text at key {key}")
        try:
            return decoder.decode(answer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return BadValue(f"{self._name} holds no JSON that can be used at key {key}: {error}")


def _is_wrong_type(error: ResponseError) -> bool:
    return str(error).startswith("WRONGTYPE")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[Value]):
    value: Value
    loaded_ms: float
    ttl_ms: float


class TimedCache(Generic[Key, Value]):
    """Answers in memory, each for a time, of a bounded number; one load per key however many ask at once.

    Not more than ``max_entries`` are kept: the one whose last use is longest ago goes first. An answer's age counts
    from the start of its load. An empty one (None, no members, BadValue, BadEvent) is kept only for ``empty_ttl_ms``, a
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
        return {key: loaded[key] for key in keys}

    def _finish(self, keys: Sequence[Key], started_ms: float, task: asyncio.Task[Mapping[Key, Value]]) -> None:
        for key in keys:
            del self._loading[key]
        # Asking for the exception also tells asyncio that somebody knows of it, should all who waited be gone.
        if task.cancelled() or task.exception() is not None:
            return
        for key, value in task.result().items():
            is_empty = isinstance(value, BadValue | BadEvent) or not value
            ttl_ms = self._config.empty_ttl_ms if is_empty else self._config.ttl_ms
            self._entries[key] = _Entry(value, started_ms, ttl_ms)
            self._entries.move_to_end(key)
        while len(self._entries) > self._config.max_entries:
            self._entries.popitem(last=False)
