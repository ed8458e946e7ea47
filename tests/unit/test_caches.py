"""The cache in a worker's memory: what it remembers and for how long, and who loads what is missing."""

import asyncio
import gc
import sys
import weakref
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from objsize import get_deep_size

from common.config.model import CacheConfig
from common.domain.events import BadEvent, Refused, usable
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers import cache
from common.servers.cache import TimedCache

MAX_ENTRIES = 3
ENTRY_BYTES = get_deep_size("a") + get_deep_size("A") + cache._ENTRY_BYTES
CONFIG = CacheConfig(ttl_ms=1000, empty_ttl_ms=100, max_size_in_bytes=MAX_ENTRIES * ENTRY_BYTES)
"""Has room for three keys and values of one character."""


class Clock:
    def __init__(self) -> None:
        self.now_ms = 5_000.0

    def __call__(self) -> float:
        return self.now_ms


class Loader:
    """Answers with `values`, by default the key in capitals; records what it was asked for and may wait or fail."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.asked: list[list[str]] = []
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None

    async def __call__(self, keys: Sequence[str]) -> Mapping[str, Any]:
        self.asked.append(list(keys))
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return {key: self.values.get(key, key.upper()) for key in keys}


class Setup:
    def __init__(self, config: CacheConfig = CONFIG) -> None:
        self.clock = Clock()
        self.load = Loader()
        self.metrics = Metrics()
        self.cache: TimedCache[str, Any] = TimedCache("relation", config, self.metrics, self.clock)

    async def get(self, *keys: str) -> dict[str, Any]:
        return await self.cache.get_many(keys, self.load)

    def start(self, *keys: str) -> "asyncio.Task[dict[str, Any]]":
        return asyncio.create_task(self.get(*keys))

    @property
    def counts(self) -> tuple[int, int]:
        """Hits and misses."""
        counts = self.metrics.counts
        return counts["cache_hits", "cache", "relation"], counts["cache_misses", "cache", "relation"]


async def turns(count: int = 5) -> None:
    """Lets every task go on until it waits for something."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_loads_what_is_missing_in_one_call() -> None:
    setup = Setup()
    assert await setup.get("a", "b", "a") == {"a": "A", "b": "B"}
    assert await setup.get("b", "c") == {"b": "B", "c": "C"}
    assert setup.load.asked == [["a", "b"], ["c"]]
    assert setup.counts == (1, 3)


async def test_asks_nobody_for_nothing() -> None:
    setup = Setup()
    assert await setup.get() == {}
    assert setup.load.asked == []


async def test_json_that_is_not_decoded_has_its_own_size() -> None:
    setup = Setup(CacheConfig(ttl_ms=1000, empty_ttl_ms=100, max_size_in_bytes=20_000))
    setup.load.values = {"small": [{"issuer": msgspec.Raw(b'"Sunbird"')}], "large": msgspec.Raw(b" " * 20_000)}
    await setup.get("small", "large")
    await setup.get("small")
    await setup.get("large")
    assert setup.load.asked == [["small", "large"], ["large"]]


async def test_the_size_of_an_answer_is_found_without_a_look_at_all_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker has two thousand. That took 2 ms for each answer, in the event loop."""
    looks = 0

    class Module(ModuleType):
        @property
        def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
            nonlocal looks
            looks += 1
            return {}

    monkeypatch.setitem(sys.modules, "watched", Module("watched"))
    setup = Setup()
    await setup.get("a")
    assert (len(setup.cache), looks) == (1, 0)


async def test_an_answer_is_as_old_as_the_start_of_its_load() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()
    task = setup.start("a")
    await turns()
    setup.clock.now_ms += 400
    setup.load.gate.set()
    await task

    setup.clock.now_ms += 599
    await setup.get("a")
    assert len(setup.load.asked) == 1
    setup.clock.now_ms += 1
    await setup.get("a")
    assert len(setup.load.asked) == 2


@pytest.mark.parametrize("empty", [None, frozenset(), {}, Refused("bad_cache_value", "broken")])
async def test_an_empty_answer_is_remembered_briefly(empty: Any) -> None:
    setup = Setup()
    setup.load.values = {"a": empty}
    assert await setup.get("a") == {"a": empty}
    setup.clock.now_ms += 99
    assert await setup.get("a") == {"a": empty}
    assert setup.counts == (1, 1)

    setup.load.values = {"a": frozenset({"do_1"})}
    setup.clock.now_ms += 1
    assert await setup.get("a") == {"a": frozenset({"do_1"})}
    setup.clock.now_ms += 999
    assert await setup.get("a") == {"a": frozenset({"do_1"})}
    assert len(setup.load.asked) == 2


async def test_a_recent_answer_is_younger_than_an_empty_one_may_be() -> None:
    setup = Setup()
    versions = iter(range(9))

    async def load(keys: Sequence[str]) -> Mapping[str, Any]:
        return dict.fromkeys(keys, f"version {next(versions)}")

    async def get(recent: bool) -> Any:
        return (await setup.cache.get_many(["a"], load, recent=recent))["a"]

    assert await get(recent=False) == "version 0"
    setup.clock.now_ms += CONFIG.empty_ttl_ms - 1
    assert await get(recent=True) == "version 0"
    setup.clock.now_ms += 1
    assert await get(recent=False) == "version 0"
    assert await get(recent=True) == "version 1"
    assert await get(recent=False) == "version 1"


async def test_the_longest_unused_goes_first() -> None:
    setup = Setup()
    await setup.get("a", "b", "c")
    await setup.get("a")
    await setup.get("d")
    setup.load.asked.clear()
    await setup.get("a", "c", "d")
    assert setup.load.asked == []
    await setup.get("b")
    assert setup.load.asked == [["b"]]


async def test_a_large_value_takes_the_room_of_several() -> None:
    setup = Setup()
    await setup.get("a", "b", "c")
    setup.load.values = {"d": "D" * ENTRY_BYTES}
    await setup.get("d")
    assert len(setup.cache) == 2
    await setup.get("c", "d")
    assert setup.load.asked == [["a", "b", "c"], ["d"]]


async def test_a_value_without_room_is_answered_and_not_kept() -> None:
    setup = Setup()
    setup.load.values = {"a": "A" * CONFIG.max_size_in_bytes}
    assert await setup.get("a", "b") == {"a": setup.load.values["a"], "b": "B"}
    await setup.get("a", "b")
    assert setup.load.asked == [["a", "b"], ["a"]]


class Course:
    """A value that says when nothing holds it any more."""


async def test_entries_that_nobody_asks_for_any_more_are_removed() -> None:
    setup = Setup(CacheConfig(ttl_ms=20, empty_ttl_ms=20))
    released = asyncio.Event()
    setup.load.values = {"a": Course()}
    weakref.finalize(setup.load.values["a"], released.set)
    await setup.get("a")
    setup.load.values = {}
    gc.collect()
    assert not released.is_set()
    setup.clock.now_ms += 20
    async with asyncio.timeout(30):
        await released.wait()


async def test_more_keys_than_it_keeps_are_all_answered() -> None:
    setup = Setup()
    keys = [str(number) for number in range(10)]
    assert await setup.get(*keys) == {key: key for key in keys}
    setup.load.asked.clear()
    await setup.get("7", "8", "9")
    assert setup.load.asked == []


async def test_one_load_however_many_ask_at_once() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()
    tasks = [setup.start("a", "b"), setup.start("b"), setup.start("b", "c"), setup.start("a", "b", "c")]
    await turns()
    setup.load.gate.set()
    answers = await asyncio.gather(*tasks)
    assert setup.load.asked == [["a", "b"], ["c"]]
    assert answers[1] == {"b": "B"}
    assert answers[3] == {"a": "A", "b": "B", "c": "C"}
    assert setup.counts == (0, 8)


async def test_all_who_wait_get_the_failure_and_the_next_loads_again() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()
    setup.load.error = WorldFault("Redis is down")
    tasks = [setup.start("a"), setup.start("a"), setup.start("a", "b")]
    await turns()
    setup.load.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [str(answer) for answer in answers] == ["Redis is down"] * 3
    assert all(isinstance(answer, WorldFault) for answer in answers)
    assert setup.load.asked == [["a"], ["b"]]

    setup.load.error = None
    assert await setup.get("a", "b") == {"a": "A", "b": "B"}


async def test_a_key_at_fault_does_not_fail_another_call_that_waits_for_its_neighbour() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()

    async def picky(keys: Sequence[str]) -> Mapping[str, Any]:
        found = await setup.load(keys)
        if "bad" in keys:
            raise BadEvent("too_large", "bad")
        return found

    def start(*keys: str) -> "asyncio.Task[dict[str, Any]]":
        return asyncio.create_task(setup.cache.get_many(keys, picky))

    guilty, innocent, guilty_too = start("bad", "b"), start("b"), start("bad", "b", "c")
    await turns()
    setup.load.gate.set()
    answers = await asyncio.gather(guilty, innocent, guilty_too, return_exceptions=True)
    assert answers[1] == {"b": "B"}
    assert [type(answer) for answer in answers] == [BadEvent, dict, BadEvent]
    setup.load.asked.clear()
    assert await setup.get("b", "c") == {"b": "B", "c": "C"}
    assert setup.load.asked == []


async def test_a_load_of_others_that_is_cancelled_is_made_again() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()
    others = asyncio.all_tasks()
    first = setup.start("a")
    await turns()
    loads = asyncio.all_tasks() - others - {first}
    second = setup.start("a")
    await turns()
    for load in loads:
        load.cancel()
    setup.load.gate.set()
    assert await second == {"a": "A"}
    with pytest.raises(WorldFault, match="the load of 'a' was cancelled"):
        await first


async def test_a_failure_keeps_nothing_until_the_garbage_collector_comes() -> None:
    """A worker collects rarely."""

    class Keys(list[str]):
        """That can have a weak reference."""

    async def fail(_: Sequence[str]) -> dict[str, str]:
        raise WorldFault("it is down")

    keys = Keys(["do_1"])
    kept = weakref.ref(keys)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(WorldFault):
            await Setup().cache.get_many(keys, fail)
        del keys
        await asyncio.sleep(0)
        assert kept() is None
    finally:
        gc.enable()


async def test_a_loader_that_forgets_a_key_is_found_out() -> None:
    async def forgetful(keys: Sequence[str]) -> Mapping[str, Any]:
        return {}

    setup = Setup()
    with pytest.raises(KeyError):
        await setup.cache.get_many(["a"], forgetful)
    assert await setup.get("a") == {"a": "A"}


async def test_a_loader_that_returns_an_exception_is_found_out() -> None:
    """Raised again for each event that needs it, it would keep the stack frames of all of them."""
    setup = Setup()
    setup.load.values["a"] = BadEvent("wrong_type", "no")
    for _ in range(2):
        with pytest.raises(TypeError, match="an exception cannot be cached"):
            await setup.get("a", "b")
    assert setup.load.asked == [["a", "b"], ["a", "b"]]


async def test_who_gives_up_takes_the_load_from_nobody() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()
    first, second = setup.start("a"), setup.start("a")
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    setup.load.gate.set()
    assert await second == {"a": "A"}
    assert len(setup.load.asked) == 1


async def test_a_failure_that_nobody_waits_for_any_more_is_no_unhandled_one() -> None:
    unhandled: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    setup = Setup()
    setup.load.gate = asyncio.Event()
    setup.load.error = WorldFault("Redis is down")
    task = setup.start("a")
    await turns()
    task.cancel()
    setup.load.gate.set()
    await turns()
    del task
    setup.load.error = None
    assert await setup.get("a") == {"a": "A"}
    assert unhandled == []


async def test_a_load_that_is_cancelled_is_a_fault_to_those_who_wait() -> None:
    async def cancelled(keys: Sequence[str]) -> Mapping[str, Any]:
        raise asyncio.CancelledError

    setup = Setup()
    with pytest.raises(WorldFault, match="the load of 'a' was cancelled"):
        await setup.cache.get_many(["a"], cancelled)
    assert await setup.get("a") == {"a": "A"}


async def test_a_cancelled_caller_is_cancelled_even_if_the_load_is_too() -> None:
    setup = Setup()
    setup.load.gate = asyncio.Event()
    others = asyncio.all_tasks()
    task = setup.start("a")
    await turns()
    for started in asyncio.all_tasks() - others:
        started.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@given(st.lists(st.tuples(st.sets(st.sampled_from("abcdef"), max_size=4), st.integers(0, 400)), max_size=30))
async def test_never_older_than_allowed_and_never_more_than_allowed(steps: list[tuple[set[str], int]]) -> None:
    setup = Setup()

    async def load(keys: Sequence[str]) -> Mapping[str, float | None]:
        return {key: setup.clock.now_ms if key < "d" else None for key in keys}

    for keys, pause_ms in steps:
        setup.clock.now_ms += pause_ms
        found = await setup.cache.get_many(keys, load)
        assert found.keys() == keys
        assert all(value is None or setup.clock.now_ms - value < CONFIG.ttl_ms for value in found.values())
        assert len(setup.cache) <= MAX_ENTRIES


def test_a_bad_value_is_the_fault_of_the_event_that_needs_it() -> None:
    assert usable(frozenset({"a"})) == {"a"}
    assert usable(None) is None
    with pytest.raises(BadEvent, match="broken") as caught:
        usable(Refused("bad_cache_value", "broken"))
    assert (caught.value.kind, caught.value.reason) == ("bad_cache_value", "broken")
