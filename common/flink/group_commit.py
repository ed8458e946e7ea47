"""Group commit: items gather while batches are in flight, then go as one batch. Knows neither Flink nor a database.

Under low load a batch is one item, and its latency is that of one round trip. Under high load batches grow and share
round trips. There is no timer, and a batch never waits until it is full.

The contract with the caller:

* Every submitted item ends in exactly one of three ways: with the result of ``apply``; with the result of ``refuse`` if
  applying it alone raised an unexpected exception; or with a TaskFault, which must fail the task.
* Items of a key are applied in the order they were submitted. Two batches in flight never share a key.
* ``apply`` may see an item again, alone or in another batch, so it must be idempotent.
* Where ``must_follow`` says so, an item is not in the batch of an earlier one of its key: the result of that one is out
  before it is applied.
"""

import asyncio
import logging
import random
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from common.config.model import BatchConfig, RetryConfig
from common.domain.faults import TaskFault, WorldFault

Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


class PatienceExhausted(TaskFault):
    """A server was down for longer than ``patience_ms``. The task must fail and restart from its checkpoint."""


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    key: Hashable
    item: Item
    size: int
    done: "asyncio.Future[Result]"


@dataclass(slots=True)
class Observer:
    """Callbacks for the metrics. They are called in the event loop and must not block."""

    batch_applied: Callable[[int, float], None] = field(default=lambda size, seconds: None)
    retried: Callable[[], None] = field(default=lambda: None)


class GroupCommit(Generic[Item, Result]):
    """Applies submitted items in batches. It belongs to one event loop, so it needs no locks."""

    def __init__(
        self,
        apply: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        refuse: Callable[[Item, Exception], Result],
        batch: BatchConfig,
        retry: RetryConfig,
        observer: Observer | None = None,
        must_follow: Callable[[Item, Item], bool] = lambda earlier, later: False,
    ) -> None:
        """``apply`` returns one result per item, in order. It raises WorldFault if a server does not answer, and
        TaskFault if the task cannot go on.

        ``refuse`` makes the result of an item if applying it alone raised another exception, and logs that exception.
        The wait between two tries is drawn from the upper half of the backoff, so that subtasks that failed together do
        not retry together. ``must_follow`` gets two items of the same key.
        """
        self._apply = apply
        self._refuse = refuse
        self._batch = batch
        self._retry = retry
        self._observer = observer or Observer()
        self._must_follow = must_follow
        self._waiting: deque[_Waiting[Item, Result]] = deque()
        self._busy: set[Hashable] = set()
        self._batches: set[asyncio.Task[None]] = set()
        self._start_is_scheduled = False
        self._error: Exception | None = None

    async def submit(self, key: Hashable, item: Item, size: int = 0) -> Result:
        """The result of the item once its batch is applied. ``size`` is in bytes and limits the batch.

        Raises TaskFault, or what ``refuse`` or the observer has raised. From then on every other item gets it at once,
        so that the task fails soon.
        """
        if self._error is not None:
            raise self._error
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(key, item, size, done))
        if not self._start_is_scheduled:
            # After everything that the loop has received already, so that a burst joins the first batch.
            self._start_is_scheduled = True
            asyncio.get_running_loop().call_soon(self._start_batches)
        return await done

    def _start_batches(self) -> None:
        self._start_is_scheduled = False
        while self._waiting and len(self._batches) < self._batch.max_in_flight_requests:
            batch = self._take()
            if not batch:
                return
            self._busy.update(waiting.key for waiting in batch)
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._batches.add(task)

    def _take(self) -> list[_Waiting[Item, Result]]:
        """The next batch: the items that have waited longest and whose keys are not in flight, within the limits."""
        batch: list[_Waiting[Item, Result]] = []
        items_by_key = defaultdict[Hashable, list[Item]](list)
        passed_over: list[_Waiting[Item, Result]] = []
        held_back = set(self._busy)
        size = 0
        while self._waiting and len(batch) < self._batch.max_batch_size:
            waiting = self._waiting[0]
            earlier = items_by_key[waiting.key]
            if waiting.key in held_back or any(self._must_follow(item, waiting.item) for item in earlier):
                held_back.add(waiting.key)
                passed_over.append(self._waiting.popleft())
                continue
            # An item larger than the limit goes alone.
            if batch and size + waiting.size > self._batch.max_batch_size_in_bytes:
                break
            size += waiting.size
            earlier.append(waiting.item)
            batch.append(self._waiting.popleft())
        self._waiting.extendleft(reversed(passed_over))
        return batch

    async def _run(self, batch: list[_Waiting[Item, Result]]) -> None:
        try:
            await self._settle(batch, time.monotonic())
        except Exception as error:  # noqa: BLE001 - it is raised in whoever waits, who would wait for ever otherwise
            self._error = error
            for waiting in (*batch, *self._waiting):
                if not waiting.done.done():
                    waiting.done.set_exception(error)
            self._waiting.clear()
        finally:
            self._busy.difference_update(waiting.key for waiting in batch)
            self._batches.discard(asyncio.current_task())
            self._start_batches()

    async def _settle(self, batch: Sequence[_Waiting[Item, Result]], started: float) -> None:
        """Applies a batch. If that raises something unexpected, applies its halves, in order, down to the faulty
        item. All of them share the patience that began at ``started``, because one checkpoint waits for all."""
        try:
            results = await self._apply_patiently([waiting.item for waiting in batch], started)
        except TaskFault:
            raise
        except Exception as error:  # noqa: BLE001 - halved, and refused with the exception in the end
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._settle(batch[:middle], started)
                await self._settle(batch[middle:], started)
                return
            results = [self._refuse(batch[0].item, error)]
        for waiting, result in zip(batch, results, strict=True):
            # A future is done already only if its waiter was cancelled, and then the task ends.
            if not waiting.done.done():
                waiting.done.set_result(result)

    async def _apply_patiently(self, items: Sequence[Item], started: float) -> Sequence[Result]:
        backoff_ms = self._retry.initial_backoff_ms
        while True:
            attempt_started = time.monotonic()
            try:
                results = await self._apply(items)
            except WorldFault as fault:
                waited_ms = (time.monotonic() - started) * 1000
                if waited_ms + backoff_ms > self._retry.patience_ms:
                    logger.error("giving up after %d ms: %s", waited_ms, fault)
                    raise PatienceExhausted(f"no success within {self._retry.patience_ms} ms: {fault}") from fault
                self._observer.retried()
                wait_ms = backoff_ms * random.uniform(0.5, 1.0)
                logger.warning("retrying a batch of %d in %d ms: %s", len(items), wait_ms, fault)
                await asyncio.sleep(wait_ms / 1000)
                backoff_ms = min(backoff_ms * 2, self._retry.max_backoff_ms)
            else:
                if len(results) != len(items):
                    raise RuntimeError(f"apply returned {len(results)} results for {len(items)} items")
                self._observer.batch_applied(len(items), time.monotonic() - attempt_started)
                return results
