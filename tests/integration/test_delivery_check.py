"""Exactly once needs aligned checkpoints and a transaction that outlives one: checked where the job is submitted."""

import pytest
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from common.domain.faults import TaskFault
from common.flink.start_check import check_delivery
from common.servers.kafka import check_transaction_timeout
from local.world import World
from tests.support.configuration import load_with

ALIGNED = {"execution.checkpointing.interval": "10 s", "execution.checkpointing.mode": "EXACTLY_ONCE"}
UNALIGNED = {**ALIGNED, "execution.checkpointing.mode": "AT_LEAST_ONCE"}


def check(flink: dict[str, str], delivery: str = "exactly_once", **variables: str) -> None:
    options = Configuration()
    for key, value in flink.items():
        options.set_string(key, value)
    variables = {"KAFKA__DELIVERY": delivery, **variables}
    config = load_with({f"AGGREGATES__{name}": value for name, value in variables.items()})
    check_delivery(config, "SomeJob", StreamExecutionEnvironment.get_execution_environment(options))


class TestExactlyOnce:
    def test_starts_with_the_timeouts_that_are_shipped(self) -> None:
        check(ALIGNED)

    def test_needs_checkpoints(self) -> None:
        with pytest.raises(SystemExit) as ended:
            check({})
        assert ended.value.code == (
            "SomeJob cannot start: kafka.delivery is exactly_once, which needs checkpoints: set Flink's "
            "execution.checkpointing.interval"
        )

    def test_needs_aligned_ones(self) -> None:
        with pytest.raises(SystemExit) as ended:
            check(UNALIGNED)
        assert ended.value.code == (
            "SomeJob cannot start: kafka.delivery is exactly_once, but Flink's execution.checkpointing.mode is "
            "AT_LEAST_ONCE. Set it to EXACTLY_ONCE in Flink's configuration or with -D"
        )

    @pytest.mark.parametrize(("timeout_ms", "fits"), [("610000", False), ("610001", True)])
    def test_needs_a_transaction_that_outlives_a_checkpoint(self, timeout_ms: str, fits: bool) -> None:
        if fits:
            check(ALIGNED, KAFKA__TRANSACTION_TIMEOUT_MS=timeout_ms)
            return
        with pytest.raises(SystemExit) as ended:
            check(ALIGNED, KAFKA__TRANSACTION_TIMEOUT_MS=timeout_ms)
        assert ended.value.code == (
            "SomeJob cannot start: kafka.delivery is exactly_once, so kafka.transaction_timeout_ms (610000) must be "
            "more than Flink's execution.checkpointing.interval and execution.checkpointing.timeout together "
            "(610000 ms). Raise AGGREGATES__KAFKA__TRANSACTION_TIMEOUT_MS, or lower Flink's timeout"
        )


def test_at_least_once_needs_nothing() -> None:
    check({}, "at_least_once")
    check(UNALIGNED, "at_least_once", KAFKA__TRANSACTION_TIMEOUT_MS="1")


def test_a_transaction_that_the_broker_would_refuse(world: World) -> None:
    config = load_with({"AGGREGATES__KAFKA__BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers}).kafka
    check_transaction_timeout(config, 900_000)
    said = r"transaction_timeout_ms \(900001\) must not be more than transaction.max.timeout.ms of Kafka .*\(900000\)"
    with pytest.raises(TaskFault, match=said):
        check_transaction_timeout(config, 900_001)
