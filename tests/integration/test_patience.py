"""The patience of a job has to end before Flink's checkpoints time out: checked where the job is submitted."""

from collections.abc import Mapping

import pytest
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from common.flink.start_check import check_patience, check_pause
from local.errors import LocalWorldError
from local.flink import FlinkCluster
from local.world import World
from tests.support.configuration import load_with

SHIPPED_MS = 450_000 + 3 * 30_000 + 4 * 5_000


def environment_with(flink: Mapping[str, str]) -> StreamExecutionEnvironment:
    options = Configuration()
    for key, value in flink.items():
        options.set_string(key, value)
    return StreamExecutionEnvironment.get_execution_environment(options)


def check(flink: Mapping[str, str], **variables: str) -> None:
    config = load_with({f"AGGREGATES__{name}": value for name, value in variables.items()})
    check_patience(config, "SomeJob", environment_with(flink))


CHECKPOINTS = {"execution.checkpointing.interval": "10 s"}


class TestTheCheck:
    def test_what_is_shipped_fits_the_timeout_that_flink_has_by_default(self) -> None:
        check(CHECKPOINTS)

    def test_both_keys_are_named_with_their_values(self) -> None:
        with pytest.raises(SystemExit) as ended:
            check(CHECKPOINTS, RETRY__PATIENCE_MS="600000")
        assert ended.value.code == (
            "SomeJob cannot start: retry.patience_ms (600000), three times http.call_timeout_ms (30000) and "
            "four times http.request_timeout_ms (5000) together must be less than Flink's "
            "execution.checkpointing.timeout (600000 ms). Lower AGGREGATES__RETRY__PATIENCE_MS, or raise Flink's "
            "timeout in its configuration or with -D"
        )

    @pytest.mark.parametrize(("timeout_ms", "fits"), [(SHIPPED_MS, False), (SHIPPED_MS + 1, True)])
    def test_the_last_try_counts(self, timeout_ms: int, fits: bool) -> None:
        options = {**CHECKPOINTS, "execution.checkpointing.timeout": f"{timeout_ms} ms"}
        if fits:
            check(options)
        else:
            with pytest.raises(SystemExit, match=r"cannot start: retry\.patience_ms"):
                check(options)

    def test_without_checkpoints_there_is_no_bound(self) -> None:
        check({}, RETRY__PATIENCE_MS="600000")


class TestThePause:
    """By default Flink sends a heartbeat every 10 s, and a task that is not heard of for 50 s gets a successor."""

    @pytest.mark.parametrize(
        "flink",
        [{}, {"heartbeat.timeout": "30001"}, {"heartbeat.timeout": "23 s", "heartbeat.interval": "2 s"}],
    )
    def test_what_is_shipped_fits_flinks_default_and_what_is_longer(self, flink: dict[str, str]) -> None:
        check_pause(load_with({}), "SomeJob", environment_with(flink))

    @pytest.mark.parametrize(
        ("flink", "pause_ms"),
        [
            ({}, "40000"),
            ({"heartbeat.timeout": "25 s"}, "20000"),
            ({"heartbeat.timeout": "30 s"}, "20000"),
            ({"heartbeat.interval": "30 s"}, "20000"),
        ],
    )
    def test_ends_before_a_task_can_have_a_successor(self, flink: dict[str, str], pause_ms: str) -> None:
        config = load_with({"AGGREGATES__RETRY__MAX_PAUSE_MS": pause_ms})
        with pytest.raises(
            SystemExit, match=rf"retry\.max_pause_ms \({pause_ms}\) must be less than Flink's heartbeat"
        ):
            check_pause(config, "SomeJob", environment_with(flink))


def test_flink_run_refuses_a_checkpoint_timeout_that_is_too_short(world: World, flink_cluster: FlinkCluster) -> None:
    jobs = flink_cluster.client.jobs()
    with pytest.raises(LocalWorldError, match=r"AssessmentAggregator cannot start: retry\.patience_ms \(450000\)"):
        world.submit("jobs.assessment_aggregator", options={"execution.checkpointing.timeout": "8 min"})
    assert flink_cluster.client.jobs() == jobs
