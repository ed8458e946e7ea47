"""The contract of the group commit, without Flink and without a database."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.model import BatchConfig, RetryConfig
from common.domain.faults import TaskFault, WorldFault
from common.flink.group_commit import GroupCommit, Observer, PatienceExhausted

Item = tuple[str, int]
Apply = Callable[[Sequence[Item]], Awaitable[Sequence[str]]]

QUICK = {"initial_backoff_ms": 1, "max_backoff_ms": 2}
"""Waits between two tries, with one batch in flight: most tests say what happens while it is."""


def refuse(item: Item, error: Exception) -> str:
    return f"refused {item}: {error}"


def commit(
    apply: Apply,
    observer: Observer | None = None,
    refuse: Callable[[Item, Exception], str] = refuse,
    must_follow: Callable[[Item, Item], bool] = lambda earlier, later: False,
    **limits: int,
) -> GroupCommit[Item, str]:
    batch_limits = {key: limits.pop(key) for key in BatchConfig.model_fields if key in limits}
    batch = BatchConfig(**{"max_in_flight_requests": 1, "max_buffered_requests": 10_000, **batch_limits})
    return GroupCommit(apply, refuse, batch, RetryConfig(**{**QUICK, **limits}), observer, must_follow)


class Applier:
    """Records its batches; each waits for its turn in ``gates``, if there are any."""

    def __init__(self) -> None:
        self.batches: list[list[Item]] = []
        self.gates: list[asyncio.Event] = []

    async def __call__(self, items: Sequence[Item]) -> list[str]:
        self.batches.append(list(items))
        if self.gates:
            await self.gates.pop(0).wait()
        return [f"applied {item}" for item in items]


async def test_a_lone_item_is_applied_at_once_without_timer() -> None:
    apply = Applier()
    task = asyncio.ensure_future(commit(apply).submit("u", ("u", 1)))
    # Three turns of the loop: the submission, the start of the batch, the batch. A timer would need more.
    for _ in range(3):
        await asyncio.sleep(0)
    assert apply.batches == [[("u", 1)]]
    assert await task == "applied ('u', 1)"


async def test_a_burst_is_one_batch_and_every_item_gets_its_own_result() -> None:
    apply = Applier()
    group_commit = commit(apply)
    items = [(f"u{n}", n) for n in range(10)]
    assert await asyncio.gather(*(group_commit.submit(*item_of(item)) for item in items)) == [
        f"applied {item}" for item in items
    ]
    assert apply.batches == [items]


def item_of(item: Item, size: int = 0) -> tuple[str, Item, int]:
    return item[0], item, size


async def test_while_a_batch_is_in_flight_the_next_gathers_up_to_its_size() -> None:
    apply = Applier()
    gate = asyncio.Event()
    apply.gates.append(gate)
    group_commit = commit(apply, max_batch_size=3)
    first = asyncio.ensure_future(group_commit.submit("u0", ("u0", 0)))
    while not apply.batches:  # noqa: ASYNC110 - nothing tells when a batch has begun
        await asyncio.sleep(0)
    rest = [asyncio.ensure_future(group_commit.submit(f"u{n}", (f"u{n}", n))) for n in range(1, 5)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(apply.batches) == 1
    gate.set()
    await asyncio.gather(first, *rest)
    assert [len(batch) for batch in apply.batches] == [1, 3, 1]


async def test_an_item_that_must_follow_another_is_applied_when_the_result_of_that_is_out() -> None:
    apply = Applier()
    results: list[str] = []
    group_commit = commit(apply, must_follow=lambda earlier, later: later[1] >= earlier[1] + 10)

    async def submit(item: Item) -> None:
        results.append(await group_commit.submit(*item_of(item)))

    # 3 of u does not have to follow, but is behind one that does.
    await asyncio.gather(*map(submit, [("u", 1), ("v", 2), ("u", 12), ("u", 3), ("v", 4), ("u", 13)]))
    assert apply.batches == [[("u", 1), ("v", 2), ("v", 4)], [("u", 12), ("u", 3)], [("u", 13)]]
    assert results == [f"applied {item}" for batch in apply.batches for item in batch]


async def test_a_batch_is_bounded_in_bytes_and_a_larger_item_goes_alone() -> None:
    apply = Applier()
    group_commit = commit(apply, max_batch_size_in_bytes=10)
    sizes = [4, 6, 1, 50, 3]
    await asyncio.gather(*(group_commit.submit(f"u{n}", (f"u{n}", n), size) for n, size in enumerate(sizes)))
    assert [[n for _, n in batch] for batch in apply.batches] == [[0, 1], [2], [3], [4]]


@given(
    keys=st.lists(st.sampled_from("abcde"), max_size=60),
    in_flight=st.integers(1, 4),
    batch_size=st.integers(1, 7),
    turns=st.lists(st.integers(0, 5), min_size=1, max_size=10),
)
async def test_items_of_a_key_are_applied_in_order_and_never_in_two_batches_at_a_time(
    keys: list[str], in_flight: int, batch_size: int, turns: list[int]
) -> None:
    applied: list[Item] = []
    busy: set[str] = set()

    async def apply(items: Sequence[Item]) -> list[str]:
        batch_keys = {key for key, _ in items}
        assert not batch_keys & busy
        busy.update(batch_keys)
        for _ in range(turns[len(applied) % len(turns)]):
            await asyncio.sleep(0)
        applied.extend(items)
        busy.difference_update(batch_keys)
        return ["done"] * len(items)

    group_commit = commit(apply, max_in_flight_requests=in_flight, max_batch_size=batch_size)
    submissions = []
    for number, key in enumerate(keys):
        submissions.append(asyncio.ensure_future(group_commit.submit(key, (key, number))))
        if number % 3 == 0:
            await asyncio.sleep(0)
    assert await asyncio.gather(*submissions) == ["done"] * len(keys)
    assert sorted(number for _, number in applied) == list(range(len(keys)))
    for key in set(keys):
        numbers = [number for applied_key, number in applied if applied_key == key]
        assert numbers == sorted(numbers)


async def test_a_fault_of_the_world_is_retried_until_it_passes() -> None:
    calls: list[list[Item]] = []
    retries: list[None] = []

    async def apply(items: Sequence[Item]) -> list[str]:
        calls.append(list(items))
        if len(calls) < 4:
            raise WorldFault("Cassandra is down")
        return ["done"] * len(items)

    group_commit = commit(apply, Observer(retried=lambda: retries.append(None)))
    assert await asyncio.gather(*(group_commit.submit(*item_of((f"u{n}", n))) for n in range(3))) == ["done"] * 3
    assert calls == [[("u0", 0), ("u1", 1), ("u2", 2)]] * 4
    assert len(retries) == 3


async def test_when_the_world_stays_down_everything_fails_and_nothing_is_dropped() -> None:
    async def apply(items: Sequence[Item]) -> list[str]:
        raise WorldFault("Cassandra is down")

    group_commit = commit(apply, max_batch_size=2, patience_ms=20)
    ends = await asyncio.gather(
        *(group_commit.submit(*item_of((f"u{n}", n))) for n in range(5)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [PatienceExhausted] * 5
    assert "Cassandra is down" in str(ends[0])
    with pytest.raises(PatienceExhausted):
        await group_commit.submit("late", ("late", 9))


async def test_the_halves_of_a_batch_have_what_is_left_of_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("common.flink.group_commit.time", SimpleNamespace(monotonic=lambda: now))
    sizes = []

    async def apply(items: Sequence[Item]) -> list[str]:
        nonlocal now
        sizes.append(len(items))
        now += 100
        if len(sizes) == 4:
            raise ValueError("a rule has a fault")
        raise WorldFault("Cassandra is down")

    group_commit = commit(apply, patience_ms=450_000)
    ends = await asyncio.gather(
        *(group_commit.submit(*item_of((f"u{n}", n))) for n in range(2)), return_exceptions=True
    )
    assert [type(end) for end in ends] == [PatienceExhausted] * 2
    assert sizes == [2, 2, 2, 2, 1]


async def test_a_task_fault_is_neither_retried_nor_blamed_on_an_event() -> None:
    calls = []

    async def apply(items: Sequence[Item]) -> list[str]:
        calls.append(items)
        raise TaskFault("wrong password")

    group_commit = commit(apply)
    ends = await asyncio.gather(
        *(group_commit.submit(*item_of((f"u{n}", n))) for n in range(4)), return_exceptions=True
    )
    assert [str(end) for end in ends] == ["wrong password"] * 4
    assert len(calls) == 1


async def test_if_an_item_cannot_be_refused_either_nobody_waits_for_ever() -> None:
    def refuse_nothing(item: Item, error: Exception) -> str:
        raise LookupError(f"no result for {item}") from error

    async def apply(items: Sequence[Item]) -> list[str]:
        raise ZeroDivisionError

    group_commit = commit(apply, refuse=refuse_nothing, max_batch_size=2)
    items = [(f"u{n}", n) for n in range(5)]
    ends = await asyncio.wait_for(
        asyncio.gather(*(group_commit.submit(*item_of(item)) for item in items), return_exceptions=True), timeout=5
    )
    assert [repr(end) for end in ends] == [repr(LookupError(f"no result for {items[0]}"))] * 5
    with pytest.raises(LookupError):
        await group_commit.submit(*item_of(("u9", 9)))


@given(poison=st.sets(st.integers(0, 19)), in_flight=st.integers(1, 3))
async def test_an_item_that_breaks_a_rule_is_refused_alone(poison: set[int], in_flight: int) -> None:
    applied: list[Item] = []

    async def apply(items: Sequence[Item]) -> list[str]:
        for _, number in items:
            if number in poison:
                raise ZeroDivisionError(f"number {number}")
        await asyncio.sleep(0)
        applied.extend(items)
        return [f"applied {item}" for item in items]

    group_commit = commit(apply, max_in_flight_requests=in_flight)
    items = [(f"u{n % 3}", n) for n in range(20)]
    results = await asyncio.gather(*(group_commit.submit(*item_of(item)) for item in items))
    for item, result in zip(items, results, strict=True):
        expected = f"refused {item}: number {item[1]}" if item[1] in poison else f"applied {item}"
        assert result == expected
    for key in ("u0", "u1", "u2"):
        numbers = [number for applied_key, number in applied if applied_key == key]
        assert numbers == sorted(numbers)


async def test_too_few_results_are_an_error_of_the_items_not_a_loss() -> None:
    async def apply(items: Sequence[Item]) -> list[str]:
        return []

    group_commit = commit(apply)
    results = await asyncio.gather(*(group_commit.submit(*item_of((f"u{n}", n))) for n in range(2)))
    assert results == [f"refused ('u{n}', {n}): apply returned 0 results for 1 items" for n in range(2)]


async def test_the_observer_sees_size_and_duration_of_applied_batches() -> None:
    seen: list[tuple[int, float]] = []
    group_commit = commit(Applier(), Observer(batch_applied=lambda size, seconds: seen.append((size, seconds))))
    await asyncio.gather(*(group_commit.submit(*item_of((f"u{n}", n))) for n in range(4)))
    assert [size for size, _ in seen] == [4]
    assert 0 <= seen[0][1] < 10
