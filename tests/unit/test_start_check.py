"""What stops the start of a job and what does not; the servers themselves are in tests/integration/test_security.py."""

import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest.mock import MagicMock

import pytest

from common.config.loader import load
from common.config.model import JobConfig, KafkaConfig
from common.domain.events import Skip
from common.domain.faults import TaskFault, WorldFault
from common.flink import start_check
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers import kafka
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from tests.support.required_keys import REQUIRED


class Opening(Job[bytes, bytes]):
    """A job whose servers do what ``opening`` does."""

    name = "Opening"
    user_id_path = ("userId",)
    failed_topic = "failed"

    def __init__(
        self, opening: Callable[[], None], calls: list[str], closing: Callable[..., None] | None = None
    ) -> None:
        self._opening = opening
        self._closing = closing
        self._calls = calls

    def decode(self, value: bytes, timestamp_ms: int) -> bytes | Skip:
        raise NotImplementedError

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        self._calls.append("open")
        self._session = lambda: None  # cannot be pickled
        self._opening()

    def group_of(self, event: bytes) -> bytes:
        raise NotImplementedError

    async def apply(self, events_by_group: Mapping[bytes, Sequence[bytes]]) -> Mapping[bytes, Sequence[Outcome]]:
        raise NotImplementedError

    async def close(self) -> None:
        self._calls.append("close")
        if self._closing is not None:
            self._closing()


def nothing() -> None:
    pass


def raising(error: Exception) -> Callable[..., None]:
    def fail(*_: Any) -> None:
        raise error

    return fail


@pytest.fixture
def config() -> AssessmentAggregatorConfig:
    return load(AssessmentAggregatorConfig, environ=REQUIRED[AssessmentAggregatorConfig])


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[KafkaConfig]:
    """Those to Kafka, which all go well."""
    logins: list[KafkaConfig] = []
    monkeypatch.setattr(kafka, "check_login", logins.append)
    return logins


def test_logs_in_everywhere_and_leaves_the_job_as_it_was(config: JobConfig, logins: list[KafkaConfig]) -> None:
    calls: list[str] = []
    job = Opening(nothing, calls)
    start_check.check(config, job)
    assert logins == [config.kafka]
    assert calls == ["open", "close"]
    pickle.dumps(job)


def test_a_refusal_ends_the_program(
    config: JobConfig, logins: list[KafkaConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    with pytest.raises(SystemExit) as caught:
        start_check.check(config, Opening(raising(TaskFault("wrong password")), calls))
    assert caught.value.code == "Opening cannot start: wrong password"
    assert calls == ["open", "close"]

    monkeypatch.setattr(kafka, "check_login", raising(TaskFault("unknown user")))
    with pytest.raises(SystemExit) as caught:
        start_check.check(config, Opening(nothing, calls))
    assert caught.value.code == "Opening cannot start: unknown user"


def test_a_driver_of_another_version_ends_the_program(
    config: AssessmentAggregatorConfig, logins: list[KafkaConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cassandra.__version__", "3.31.0")
    with pytest.raises(SystemExit) as caught:
        start_check.check(config, AssessmentAggregator(config))
    line = str(caught.value.code)
    assert line.startswith("AssessmentAggregator cannot start: common.servers.cassandra_driver is written for")
    assert "\n" not in line


def test_a_close_that_fails_too_hides_no_refusal(config: JobConfig, logins: list[KafkaConfig]) -> None:
    with pytest.raises(SystemExit) as caught:
        start_check.check(config, Opening(raising(TaskFault("wrong password")), [], raising(AttributeError("_redis"))))
    assert caught.value.code == "Opening cannot start: wrong password"


@pytest.mark.parametrize(("timeout_ms", "fits"), [(20_000, False), (25_000, False), (25_001, True)])
def test_a_pause_must_be_over_before_flink_misses_a_heartbeat(
    config: JobConfig, monkeypatch: pytest.MonkeyPatch, timeout_ms: int, fits: bool
) -> None:
    """Flink's own reading of its configuration is in tests/integration/test_patience.py."""
    flink = MagicMock()
    options = flink.jvm.org.apache.flink.configuration.HeartbeatManagerOptions
    durations = {
        options.HEARTBEAT_TIMEOUT: MagicMock(toMillis=lambda: timeout_ms),
        options.HEARTBEAT_INTERVAL: MagicMock(toMillis=lambda: 5_000),
    }
    monkeypatch.setattr(start_check, "get_gateway", lambda: flink)
    monkeypatch.setattr(start_check, "get_j_env_configuration", lambda _: durations)
    if fits:
        start_check.check_pause(config, "SomeJob", MagicMock())
        return
    with pytest.raises(SystemExit) as caught:
        start_check.check_pause(config, "SomeJob", MagicMock())
    assert caught.value.code == (
        "SomeJob cannot start: retry.max_pause_ms (20000) must be less than Flink's heartbeat.timeout "
        f"({timeout_ms} ms) minus its heartbeat.interval (5000 ms). Lower AGGREGATES__RETRY__MAX_PAUSE_MS, or raise "
        "the timeout in Flink's configuration"
    )


@pytest.mark.parametrize("error", [WorldFault("down"), FileNotFoundError("no such certificate")])
def test_what_cannot_be_seen_from_here_is_a_warning(
    config: JobConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(kafka, "check_login", raising(WorldFault("no broker")))
    start_check.check(config, Opening(raising(error), calls))
    assert calls == ["open", "close"]
    assert caplog.messages == ["cannot be checked from here: no broker", f"cannot be checked from here: {error}"]


def test_with_exactly_once_the_broker_is_asked_how_long_a_transaction_may_be_open(
    config: JobConfig, logins: list[KafkaConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(kafka, "check_transaction_timeout", lambda _, timeout_ms: asked.append(timeout_ms))
    start_check.check(config, Opening(nothing, []))
    assert asked == []
    transactional = config.kafka.model_copy(update={"delivery": "exactly_once", "transaction_timeout_ms": 700_000})
    exactly_once = config.model_copy(update={"kafka": transactional})
    start_check.check(exactly_once, Opening(nothing, []))
    assert asked == [700_000]

    monkeypatch.setattr(kafka, "check_transaction_timeout", raising(TaskFault("too long for the broker")))
    with pytest.raises(SystemExit) as caught:
        start_check.check(exactly_once, Opening(nothing, []))
    assert caught.value.code == "Opening cannot start: too long for the broker"
