"""The shape of every job: Kafka values, keyed by user, through a batched asynchronous stage, to Kafka topics.

The stage connects a :class:`~common.flink.job.Job` with Flink. It adds batches
(:class:`~common.flink.group_commit.GroupCommit`) and metrics, and makes sure that every event ends up either applied or
on the failed topic.
"""

import asyncio
import gc
import logging
import traceback
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pyflink.common import Row, Types, WatermarkStrategy
from pyflink.datastream import DataStream, RuntimeContext, StreamExecutionEnvironment
from pyflink.datastream.connectors import Sink, Source
from pyflink.datastream.functions import AsyncFunction
from pyflink.java_gateway import get_gateway

from common.domain.events import MAX_SHOWN, BadEvent, Refused, Skip
from common.domain.faults import TaskFault, WorldFault
from common.domain.messages import Message
from common.flink import pauses, worker_watch
from common.flink.byte_budget import ByteBudget
from common.flink.group_commit import GroupCommit, Observer
from common.flink.job import Job
from common.flink.patches import async_guard, bundle_waits
from common.metrics import Metrics

Event = TypeVar("Event")

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
RECEIVED = Types.ROW([Types.STRING(), Types.LONG(), BYTES])
"""User id, Kafka timestamp in ms, Kafka value: a record as UserKeySchema reads it."""
TO_SEND = Types.ROW([Types.STRING(), BYTES, BYTES])
"""Topic, Kafka key or null, Kafka value: a record as TopicKeyValueSchema writes it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Received(Generic[Event]):
    """A decoded event, with its Kafka value and the key by which it was partitioned, for the failed topic.

    ``group`` is that of :meth:`Job.group_of`, for the log.
    """

    event: Event
    value: bytes
    key: str
    group: Hashable


class Stage(AsyncFunction):
    """Decodes events, applies them in batches, and returns the messages to send as Rows of :data:`TO_SEND`.

    ``async_invoke`` raises nothing but TaskFault. A fault of the data becomes a message on the failed topic; a fault of
    the world is retried in :class:`~common.flink.group_commit.GroupCommit`.
    """

    def __init__(self, job: Job[Any, Any]) -> None:
        """``job`` is pickled. It connects in the worker."""
        self._job = job
        self._is_open = False

    def open(self, runtime_context: RuntimeContext) -> None:
        """Runs in the worker with the first bundle, before the event loop exists. PyFlink opens nothing earlier."""
        async_guard.install()
        bundle_waits.shorten()
        worker_watch.end_with_task()
        self._clock = pauses.task_clock(self._job.retry.max_pause_ms / 1000)
        self._metrics = Metrics()
        self._metric_group = runtime_context.get_metrics_group()
        self._commit = GroupCommit(
            self._apply,
            self._refuse,
            self._job.batch,
            self._job.retry,
            Observer(self._batch_applied, self._retried),
            lambda earlier, later: self._job.must_follow(earlier.event, later.event),
        )
        self._room = ByteBudget(self._job.batch.max_buffered_in_bytes)
        self._opening = asyncio.Lock()
        # A wrong password or a missing table must fail the task before an event is decoded.
        asyncio.run(self._verify_access())
        # Thousands of decoded events are alive at a time, and none is part of a cycle. With the default threshold
        # of 700 the collector walks them again and again (measured: 340 instead of 40 us per event).
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)

    async def _verify_access(self) -> None:
        try:
            await open_or_close(self._job, self._metrics, self._clock)
        except WorldFault as fault:
            logger.warning("a server does not answer yet, the first event will wait for it: %s", fault)
        else:
            await self._job.close()

    def wait_for_room(self, received: Row) -> None:
        """Called in the bundle's thread before :meth:`async_invoke`. Blocks while the stage holds too many bytes."""
        self._room.take(len(received[2]))

    async def async_invoke(self, received: Row) -> list[Row]:
        """Row of :data:`RECEIVED` in, Rows of :data:`TO_SEND` out."""
        try:
            return self._to_rows(await self._process(*received))
        finally:
            self._room.give_back(len(received[2]))

    async def _process(self, key: str, timestamp_ms: int, value: bytes) -> Sequence[Message]:
        counts = self._metrics.counts
        counts["events_in"] += 1
        try:
            event = self._job.decode(value, timestamp_ms)
            group = None if isinstance(event, Skip) else self._job.group_of(event)
        except Exception as error:  # noqa: BLE001 - becomes a message on the failed topic
            if not isinstance(error, BadEvent):
                _log_defect("an event could not be decoded", {"user_id": key}, error)
            return [self._failed(key, value, _to_refused(error))]
        if isinstance(event, Skip):
            counts["skipped", "reason", event.kind] += 1
            return []
        return await self._commit.submit(key, Received(event, value, key, group), len(value))

    async def _apply(self, batch: Sequence[Received[Any]]) -> Sequence[Sequence[Message]]:
        async with self._opening:
            if not self._is_open:
                await self._open_job()
        outcomes = await self._job.apply_batch([received.event for received in batch])
        return [
            [
                part if isinstance(part, Message) else self._failed(received.key, received.value, part)
                for part in outcome
            ]
            for received, outcome in zip(batch, outcomes, strict=True)
        ]

    async def _open_job(self) -> None:
        try:
            await open_or_close(self._job, self._metrics, self._clock)
        except (WorldFault, TaskFault):
            raise
        except Exception as error:
            # The first event is not at fault.
            raise TaskFault(f"the job cannot start: {type(error).__name__}: {error}") from error
        self._is_open = True

    def _refuse(self, received: Received[Any], error: Exception) -> Sequence[Message]:
        if not isinstance(error, BadEvent):
            # Groups are named tuples of ids: EnrolmentKey, BatchKey.
            ids = received.group._asdict() if hasattr(received.group, "_asdict") else {}
            _log_defect("an event could not be applied", {"user_id": received.key, **ids}, error)
        return [self._failed(received.key, received.value, _to_refused(error))]

    def _failed(self, key: str, value: bytes, refused: Refused) -> Message:
        self._metrics.counts["failed", "reason", refused.kind] += 1
        # A key that begins with a zero character means "no user id": see UserKeySchema.
        return self._job.failed_message(value, refused, None if key.startswith("\0") else key)

    def _to_rows(self, to_send: Sequence[Message]) -> list[Row]:
        for message in to_send:
            self._metrics.counts["messages_out", "topic", message.topic] += 1
        return [Row(message.topic, message.key, message.value) for message in to_send]

    def _batch_applied(self, size: int, seconds: float) -> None:
        self._metrics.observe("batch_size", size)
        self._metrics.observe("batch_latency_ms", round(seconds * 1000))

    def _retried(self) -> None:
        self._metrics.counts["batches_retried"] += 1

    def bundle_finished(self) -> None:
        """Called by the guard at the end of a bundle, in its thread, where Flink accepts metrics."""
        self._metrics.report(self._metric_group)


async def open_or_close(job: Job[Any, Any], metrics: Metrics, clock: Callable[[], int]) -> None:
    """Opens the job, or closes what it has opened and raises what :meth:`Job.open` raised.

    An exception of the close is only logged: it would hide the fault of the server, which decides about a retry.
    """
    try:
        await job.open(metrics, clock)
    except BaseException:
        try:
            await job.close()
        except Exception as error:  # noqa: BLE001 - the first one is raised
            logger.warning(
                "a job that could not be opened cannot be closed either: %s: %s", type(error).__name__, error
            )
        raise


def _to_refused(error: Exception) -> Refused:
    if isinstance(error, BadEvent):
        return Refused(error.kind, error.reason)
    return Refused("internal_error", f"internal error: {type(error).__name__}: {error}")


def _log_defect(what: str, ids: Mapping[str, str], error: BaseException | None) -> None:
    """Logs where ``error`` was raised, and which event it is about.

    The text of an exception may quote the event, which must not get into a log. The failed topic has it as the reason.
    """
    lines = [f"{what}: {' '.join(f'{name}={value[:MAX_SHOWN]!r}' for name, value in ids.items())}"]
    while error is not None:
        lines += [type(error).__qualname__, *traceback.format_tb(error.__traceback__)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    logger.error("%s", "\n".join(line.rstrip("\n") for line in lines))


def build(environment: StreamExecutionEnvironment, source: Source, sink: Sink, job: Job[Any, Any]) -> None:
    """Adds a job's operators to the environment. Savepoints hold their names and uids, so these must not change.

    ``source`` emits Rows of :data:`RECEIVED`, ``sink`` accepts Rows of :data:`TO_SEND`.
    """
    events = environment.from_source(source, WatermarkStrategy.no_watermarks(), "events").uid("events")
    stage = async_guard.unordered_wait(
        _key_by_first_field(events), Stage(job), job.batch.max_buffered_requests, TO_SEND, name="apply"
    )
    stage.uid("apply").sink_to(sink).name("messages").uid("messages")


def _key_by_first_field(stream: DataStream) -> DataStream:
    """Hash-partitions Rows by their first field, in Java.

    PyFlink's ``key_by`` would pass each row through Python twice more, to add a key and to remove it again.
    """
    jvm = get_gateway().jvm
    key_type = Types.ROW([Types.STRING()]).get_java_type_info()
    return DataStream(stream._j_data_stream.keyBy(jvm.KeyByKeySelector(), key_type))
