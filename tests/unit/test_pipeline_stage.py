"""The stage between Kafka and the rules, without Flink: every event ends applied, skipped or on the failed topic."""

import asyncio
import gc
import inspect
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest.mock import MagicMock

import pytest
from pyflink.common import Row

from common.config.model import BatchConfig, RetryConfig
from common.domain.events import BadEvent, Refused, Skip
from common.domain.faults import TaskFault, WorldFault
from common.domain.messages import Message, failed
from common.flink import pauses
from common.flink.group_commit import PatienceExhausted
from common.flink.job import Job, Outcome
from common.flink.patches import async_guard
from common.flink.pauses import Pauses
from common.flink.stage import Stage
from common.metrics import Metrics
from tests.support.waiting import wait_until

TIMESTAMP_MS = 1_715_677_960_002


class Number(Job[int, str]):
    """Events are whole numbers in JSON; each is answered by a message, in the way that the test chooses."""

    name = "Number"
    user_id_path = ("userId",)
    failed_topic = "failed"
    batch = BatchConfig(max_in_flight_requests=1)
    retry = RetryConfig(initial_backoff_ms=1, max_backoff_ms=2, patience_ms=10_000)

    def __init__(self) -> None:
        self.opening: Callable[[], None] = lambda: None
        self.closing: Callable[[], None] = lambda: None
        self.applying: Callable[[int], Outcome] = lambda event: [Message("out", b"%d" % event, b"key")]
        self.batches: list[list[int]] = []
        self.calls: list[str] = []
        self.timestamps: list[int] = []

    def decode(self, value: bytes, timestamp_ms: int) -> int | Skip:
        self.timestamps.append(timestamp_ms)
        match json.loads(value):
            case "skip":
                return Skip("not_for_us")
            case "bad":
                raise BadEvent("wrong_type", "event is bad")
            case "bug":
                raise ZeroDivisionError("a bug of the decoder")
            case int() as number:
                return number
        raise AssertionError(value)

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        self.calls.append("open")
        self.opening()
        # Connecting takes its time.
        await asyncio.sleep(0)
        self.metrics, self.clock = metrics, clock

    def group_of(self, event: int) -> str:
        return "all"

    async def apply(self, events_by_group: Mapping[str, Sequence[int]]) -> Mapping[str, Sequence[Outcome]]:
        (events,) = events_by_group.values()
        self.batches.append(list(events))
        return {"all": [self.applying(event) for event in events]}

    async def close(self) -> None:
        self.calls.append("close")
        self.closing()


class Group:
    """A metric group that keeps what it is told, and by which thread."""

    def __init__(self, name: str = "", values: Counter[str] | None = None, threads: set[int] | None = None) -> None:
        self._name = name
        self.values = Counter() if values is None else values
        self.threads = set() if threads is None else threads

    def add_group(self, label: str, value: str) -> "Group":
        return Group(f"{self._name}{label}={value}.", self.values, self.threads)

    def counter(self, name: str) -> Any:
        return Cell(self, f"{self._name}{name}")


class Cell:
    def __init__(self, group: Group, name: str) -> None:
        self._group = group
        self._name = name

    def inc(self, value: int) -> None:
        self._group.threads.add(threading.get_ident())
        self._group.values[self._name] += value


class Context:
    def __init__(self) -> None:
        self.group = Group()

    def get_metrics_group(self) -> Group:
        return self.group


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """As it was: the stage tunes the one of its worker."""
    threshold = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)


@pytest.fixture
def job() -> Number:
    return Number()


def opened(job: Number) -> tuple[Stage, Group]:
    stage, context = Stage(job), Context()
    stage.open(context)
    return stage, context.group


def invoke(stage: Stage, *values: bytes, key: str = "key") -> list[list[Row]]:
    """What becomes of events of one user that arrive together."""
    return invoke_together(stage, [Row(key, TIMESTAMP_MS, value) for value in values])


def invoke_of_users(stage: Stage, *values: bytes) -> list[list[Row]]:
    """What becomes of events that arrive together, each of another user."""
    return invoke_together(stage, [Row(f"user {number}", TIMESTAMP_MS, value) for number, value in enumerate(values)])


def invoke_together(stage: Stage, received: Sequence[Row]) -> list[list[Row]]:
    """As PyFlink does it: the loop runs for these calls alone, so `open` may run one of its own before."""

    async def invoke_all() -> list[list[Row]]:
        async with asyncio.timeout(30):
            return await asyncio.gather(*map(stage.async_invoke, received))

    return asyncio.run(invoke_all())


def failed_row(value: bytes, reason: str, key: str | None = "key") -> Row:
    message = failed("failed", "Number", value, reason, key)
    return Row(message.topic, message.key, message.value)


def reported(stage: Stage, group: Group) -> Counter[str]:
    stage.bundle_finished()
    return Counter({name: value for name, value in group.values.items() if name != "batch_latency_ms_sum"})


def test_an_event_becomes_the_rows_of_its_messages(job: Number) -> None:
    job.applying = lambda event: [Message("a", b"1"), Message("b", b"2", b"key")] if event else []
    stage, group = opened(job)
    assert invoke(stage, b"1", b"0") == [[Row("a", None, b"1"), Row("b", b"key", b"2")], []]
    assert job.timestamps == [TIMESTAMP_MS] * 2
    assert job.batches == [[1, 0]]
    assert reported(stage, group) == {
        "events_in": 2,
        "topic=a.messages_out": 1,
        "topic=b.messages_out": 1,
        "batch_size_count": 1,
        "batch_size_sum": 2,
        "batch_latency_ms_count": 1,
    }


def test_a_bad_event_becomes_one_row_for_the_failed_topic(job: Number) -> None:
    stage, group = opened(job)
    assert invoke(stage, b'"bad"') == [[failed_row(b'"bad"', "event is bad")]]
    assert job.batches == []
    assert reported(stage, group) == {
        "events_in": 1,
        "reason=wrong_type.failed": 1,
        "topic=failed.messages_out": 1,
    }


def test_a_key_that_stands_for_no_user_id_is_not_passed_on(job: Number) -> None:
    stage, _ = opened(job)
    rows = invoke(stage, b'"bad"', key="\0-1719")
    assert rows == [[failed_row(b'"bad"', "event is bad", None)]]
    assert rows[0][0][1] is None


def test_a_skipped_event_is_counted_and_no_more(job: Number) -> None:
    stage, group = opened(job)
    assert invoke(stage, b'"skip"') == [[]]
    assert job.batches == []
    assert reported(stage, group) == {"events_in": 1, "reason=not_for_us.skipped": 1}


def test_a_bug_of_the_decoder_costs_its_event_alone(job: Number) -> None:
    stage, group = opened(job)
    rows = invoke(stage, b'"bug"', b"1")
    reason = "internal error: ZeroDivisionError: a bug of the decoder"
    assert rows == [[failed_row(b'"bug"', reason)], [Row("out", b"key", b"1")]]
    assert reported(stage, group)["reason=internal_error.failed"] == 1


def test_an_event_that_its_rows_show_to_be_bad_goes_to_the_failed_topic(job: Number) -> None:
    bad = Refused("content_not_in_course", "content is not part of the course")
    job.applying = lambda event: [bad] if event == 2 else [Message("out", b"%d" % event)]
    stage, group = opened(job)
    rows = invoke(stage, b"1", b"2", b"3")
    assert rows == [[Row("out", None, b"1")], [failed_row(b"2", bad.reason)], [Row("out", None, b"3")]]
    assert job.batches == [[1, 2, 3]]
    assert reported(stage, group)["reason=content_not_in_course.failed"] == 1


def test_a_bug_of_the_rules_costs_its_event_alone(job: Number) -> None:
    def apply(event: int) -> Outcome:
        return [Message("out", b"%d" % (100 // event))]

    job.applying = apply
    stage, group = opened(job)
    rows = invoke(stage, b"1", b"2", b"0", b"4")
    reason = "internal error: ZeroDivisionError: integer division or modulo by zero"
    assert rows == [
        [Row("out", None, b"100")],
        [Row("out", None, b"50")],
        [failed_row(b"0", reason)],
        [Row("out", None, b"25")],
    ]
    assert reported(stage, group)["reason=internal_error.failed"] == 1


def test_a_server_that_is_down_is_waited_for(job: Number) -> None:
    faults = [WorldFault("down"), WorldFault("still down")]

    def apply(event: int) -> Outcome:
        if faults:
            raise faults.pop()
        return [Message("out", b"%d" % event)]

    job.applying = apply
    stage, group = opened(job)
    assert invoke(stage, b"1") == [[Row("out", None, b"1")]]
    assert job.batches == [[1], [1], [1]]
    assert reported(stage, group)["batches_retried"] == 2


def raising(error: Exception) -> Callable[..., Any]:
    def raise_error(*_: object) -> Any:
        raise error

    return raise_error


def test_a_task_fault_ends_the_task(job: Number) -> None:
    fault = TaskFault("table is gone")
    job.applying = raising(fault)
    stage, _ = opened(job)
    with pytest.raises(TaskFault) as caught:
        invoke(stage, b"1")
    assert caught.value is fault
    # And whatever comes before the task has ended.
    with pytest.raises(TaskFault):
        invoke(stage, b"2")
    assert job.batches == [[1]]


def test_a_server_that_stays_down_ends_the_task(job: Number) -> None:
    job.retry = RetryConfig(initial_backoff_ms=1, max_backoff_ms=2, patience_ms=20)
    job.applying = raising(WorldFault("Cassandra is down"))
    stage, _ = opened(job)
    with pytest.raises(PatienceExhausted, match="no success within 20 ms: Cassandra is down"):
        invoke(stage, b"1")


def test_a_worker_that_has_stood_still_gives_no_timestamps_even_if_the_job_connects_later(
    job: Number, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    watches: list[Pauses] = []

    def watch(limit_seconds: float) -> Pauses:
        watches.append(Pauses(limit_seconds, lambda: now))
        return watches[-1]

    monkeypatch.setattr(pauses, "watch", watch)
    job.retry = RetryConfig(max_pause_ms=50_000)
    job.applying = lambda _: [Message("out", b"%d" % job.clock(), b"key")]
    stage, _ = opened(job)
    now += 49
    watches[0].tick()
    invoke(stage, b"1")
    now += 60
    watches[0].tick()
    with pytest.raises(TaskFault, match="stood still for 60 s"):
        invoke(stage, b"1")


def test_a_stage_that_holds_too_many_bytes_gets_no_further_event(job: Number) -> None:
    job.batch = BatchConfig(max_batch_size_in_bytes=3, max_buffered_in_bytes=3)
    stage, _ = opened(job)
    first, second = Row("key", TIMESTAMP_MS, b"11"), Row("key", TIMESTAMP_MS, b"22")
    with ThreadPoolExecutor(1) as bundle:
        bundle.submit(stage.wait_for_room, first).result(timeout=30)
        waiting = bundle.submit(stage.wait_for_room, second)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.2)
        assert invoke_together(stage, [first]) == [[Row("out", b"key", b"11")]]
        waiting.result(timeout=30)
    assert invoke_together(stage, [second]) == [[Row("out", b"key", b"22")]]


def test_bytes_of_an_event_that_cannot_be_decoded_are_given_back(job: Number) -> None:
    job.batch = BatchConfig(max_batch_size_in_bytes=5, max_buffered_in_bytes=5)
    stage, _ = opened(job)
    for value in (b'"bad"', b'"bug"', b'"skip"', b"1"):
        row = Row("key", TIMESTAMP_MS, value)
        with ThreadPoolExecutor(1) as bundle:
            bundle.submit(stage.wait_for_room, row).result(timeout=30)
        invoke_together(stage, [row])


class TestOpen:
    def test_connects_once_to_see_whether_it_can_and_once_to_work(self, job: Number) -> None:
        stage, _ = opened(job)
        assert job.calls == ["open", "close"]
        invoke(stage, b"1", b"2")
        assert job.calls == ["open", "close", "open"]

    def test_batches_that_come_first_together_share_one_connection(self, job: Number) -> None:
        job.batch = BatchConfig(max_batch_size=1, max_in_flight_requests=3)
        stage, _ = opened(job)
        assert [row[2] for (row,) in invoke_of_users(stage, b"1", b"2", b"3")] == [b"1", b"2", b"3"]
        assert job.calls == ["open", "close", "open"]

    def test_a_close_that_fails_too_hides_no_server_that_is_down(
        self, job: Number, caplog: pytest.LogCaptureFixture
    ) -> None:
        stage, _ = opened(job)
        faults = [WorldFault("down")] * 2

        def connect() -> None:
            if faults:
                raise faults.pop()

        job.opening, job.closing = connect, raising(AttributeError("_redis"))
        assert invoke(stage, b"1") == [[Row("out", b"key", b"1")]]
        said = "a job that could not be opened cannot be closed either: AttributeError: _redis"
        assert caplog.messages.count(said) == 2

    @pytest.mark.parametrize("fault", [TaskFault("wrong password"), ZeroDivisionError("a defect")])
    def test_nor_another_fault(self, job: Number, fault: Exception) -> None:
        stage, _ = opened(job)
        job.opening, job.closing = raising(fault), raising(AttributeError("_redis"))
        with pytest.raises(TaskFault, match=str(fault)):
            invoke(stage, b"1")

    def test_nor_do_the_faults_of_the_first_login_get_lost(self, job: Number) -> None:
        job.closing = raising(AttributeError("_redis"))
        job.opening = raising(WorldFault("down"))
        opened(job)
        job.opening = raising(TaskFault("wrong password"))
        with pytest.raises(TaskFault, match="wrong password"):
            opened(job)
        job.opening = lambda: None
        with pytest.raises(AttributeError, match="_redis"):
            opened(job)

    def test_waits_for_a_server_that_is_not_there_yet(self, job: Number) -> None:
        faults = [WorldFault("down")] * 3

        def connect() -> None:
            if faults:
                raise faults.pop()

        job.opening = connect
        stage, group = opened(job)
        assert len(faults) == 2
        assert invoke(stage, b"1") == [[Row("out", b"key", b"1")]]
        # What was opened half-way is closed each time.
        assert job.calls == ["open", "close"] * 3 + ["open"]
        assert reported(stage, group)["batches_retried"] == 2

    @pytest.mark.parametrize("error", [TaskFault("wrong password"), OSError("no such certificate")])
    def test_fails_where_waiting_would_not_help(self, job: Number, error: Exception) -> None:
        job.opening = raising(error)
        with pytest.raises(type(error), match=str(error)):
            opened(job)
        assert job.calls == ["open", "close"]

    @pytest.mark.parametrize(
        ("error", "text"),
        [
            (TaskFault("wrong password"), "^wrong password$"),
            (OSError("no such certificate"), "^the job cannot start: OSError: no such certificate$"),
        ],
    )
    def test_failing_later_is_no_fault_of_the_event_that_comes_first(
        self, job: Number, error: Exception, text: str
    ) -> None:
        stage, _ = opened(job)
        job.opening = raising(error)
        with pytest.raises(TaskFault, match=text):
            invoke(stage, b"1")
        assert job.batches == []
        assert job.calls == ["open", "close", "open", "close"]

    def test_guards_the_async_operator(self, job: Number) -> None:
        from pyflink.fn_execution.datastream.process.async_function.operation import AsyncOperation

        opened(job)
        assert hasattr(AsyncOperation._wait_for_in_flight_inputs_finished, "unguarded")

    def test_has_the_worker_asked_for_room_before_it_gets_an_event(
        self, job: Number, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from apache_beam.runners.worker.statesampler import StateSampler
        from pyflink.fn_execution.datastream.process.async_function.operation import AsyncFunctionRunner

        # As PyFlink and Beam are, whatever was opened in this process before.
        for owner, name in ((AsyncFunctionRunner, "run_async"), (StateSampler, "start"), (StateSampler, "stop")):
            monkeypatch.setattr(owner, name, inspect.unwrap(getattr(owner, name)))
        go_on, done = threading.Event(), MagicMock()

        def apply(event: int) -> Outcome:
            assert go_on.wait(30)
            return []

        job.applying = apply
        job.batch = BatchConfig(max_batch_size_in_bytes=3, max_buffered_in_bytes=3)
        stage, _ = opened(job)
        runner = AsyncFunctionRunner()
        runner.start()
        runner.wait_ready()
        with ThreadPoolExecutor(1) as bundle:
            try:
                first, second = (Row("key", TIMESTAMP_MS, value) for value in (b"11", b"22"))
                bundle.submit(runner.run_async, stage.async_invoke, first, done).result(timeout=30)
                waiting = bundle.submit(runner.run_async, stage.async_invoke, second, done)
                with pytest.raises(TimeoutError):
                    waiting.result(timeout=0.2)
            finally:
                go_on.set()
            waiting.result(timeout=30)
        wait_until(lambda: done.complete.call_count == 2, "both events are done", 30)
        runner.stop()

    def test_keeps_the_collector_from_walking_over_the_events_again_and_again(self, job: Number) -> None:
        opened(job)
        assert gc.get_threshold()[0] >= 50_000
        assert gc.get_freeze_count() > 0


def test_metrics_are_reported_by_the_thread_that_ends_the_bundle_alone(job: Number) -> None:
    stage, group = opened(job)
    loop = threading.Thread(target=invoke, args=(stage, b"1", b'"bad"', b'"skip"'))
    loop.start()
    loop.join()
    assert group.values == {}
    assert reported(stage, group)["events_in"] == 3
    assert group.threads == {threading.get_ident()}
    before = Counter(group.values)
    stage.bundle_finished()
    assert group.values == before


def test_the_guard_knows_the_stage_as_a_listener_of_bundles(job: Number) -> None:
    stage, _ = opened(job)
    assert isinstance(stage, async_guard.BundleListener)


def test_an_event_that_must_follow_another_of_its_user_is_in_a_later_batch(
    job: Number, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "must_follow", lambda earlier, later: later >= earlier + 10)
    stage, _ = opened(job)
    invoke(stage, b"1", b"2", b"11")
    assert job.batches == [[1, 2], [11]]
    job.batches.clear()
    stage, _ = opened(job)
    invoke_of_users(stage, b"1", b"2", b"11")
    assert job.batches == [[1, 2, 11]]
