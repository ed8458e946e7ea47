"""Logs in to every server before a job is submitted.

On the cluster a wrong password would show late: PyFlink opens its functions with the first bundle. The job would look
healthy until the first event comes, and then Flink would restart it again and again.
"""

import asyncio
import copy
import sys
from typing import TYPE_CHECKING, Any

from pyflink.datastream import CheckpointingMode, StreamExecutionEnvironment
from pyflink.java_gateway import get_gateway
from pyflink.util.java_utils import get_j_env_configuration

from common.config.loader import variable
from common.config.model import JobConfig
from common.domain.failing_ids import MAX_CONTROLS
from common.domain.faults import TaskFault
from common.flink.stage import open_or_close
from common.metrics import Metrics
from common.servers import kafka
from common.servers.access import verify_access
from common.servers.cassandra import next_timestamp_us

if TYPE_CHECKING:
    from common.flink.job import Job


def check(config: JobConfig, job: "Job[Any, Any]") -> None:
    """Logs in to Kafka, and to the servers that ``job`` opens; ``job`` itself does not change.

    To be called by the program that submits the job. Ends that program with code 1 and one line on stderr if a server
    refuses, for instance because of a wrong password or a missing table.
    """
    try:
        asyncio.run(_check(config, job))
    except TaskFault as fault:
        sys.exit(f"{job.name} cannot start: {fault}")


def check_patience(config: JobConfig, job_name: str, environment: StreamExecutionEnvironment) -> None:
    """Ends the program with code 1 and a line on stderr if a checkpoint could time out before the patience is over.

    A checkpoint waits for the events in flight, thus for a batch that is being retried. If it times out first, Flink
    fails the job for that (``execution.checkpointing.tolerable-failed-checkpoints`` is 0 by default), and the log does
    not name the server that is down. Without checkpoints there is nothing to compare with.
    """
    checkpoints = environment.get_checkpoint_config()
    timeout_ms = checkpoints.get_checkpoint_timeout()
    retry, http = config.retry, config.http
    # See RetryConfig.patience_ms.
    longest_ms = retry.patience_ms + 3 * http.call_timeout_ms + MAX_CONTROLS * http.request_timeout_ms
    if checkpoints.is_checkpointing_enabled() and longest_ms >= timeout_ms:
        sys.exit(
            f"{job_name} cannot start: retry.patience_ms ({retry.patience_ms}), three times http.call_timeout_ms "
            f"({http.call_timeout_ms}) and four times http.request_timeout_ms ({http.request_timeout_ms}) together "
            f"must be less than Flink's execution.checkpointing.timeout ({timeout_ms} ms). Lower "
            f"{variable(('retry', 'patience_ms'))}, or raise Flink's timeout in its configuration or with -D"
        )


def check_pause(config: JobConfig, job_name: str, environment: StreamExecutionEnvironment) -> None:
    """Ends the program with code 1 and a line on stderr if a task could have a successor and still write.

    Flink gives it one when the JobManager has not heard of a TaskManager for ``heartbeat.timeout``. That time begins
    with the last heartbeat, which may have come a whole ``heartbeat.interval`` before the pause began. Both are read
    from the configuration with which the job is submitted.
    """
    options = get_gateway().jvm.org.apache.flink.configuration.HeartbeatManagerOptions
    flink = get_j_env_configuration(environment._j_stream_execution_environment)
    timeout_ms = flink.get(options.HEARTBEAT_TIMEOUT).toMillis()
    interval_ms = flink.get(options.HEARTBEAT_INTERVAL).toMillis()
    if config.retry.max_pause_ms >= timeout_ms - interval_ms:
        sys.exit(
            f"{job_name} cannot start: retry.max_pause_ms ({config.retry.max_pause_ms}) must be less than Flink's "
            f"heartbeat.timeout ({timeout_ms} ms) minus its heartbeat.interval ({interval_ms} ms). "
            f"Lower {variable(('retry', 'max_pause_ms'))}, or raise the timeout in Flink's configuration"
        )


def check_delivery(config: JobConfig, job_name: str, environment: StreamExecutionEnvironment) -> None:
    """Ends the program with code 1 and a line on stderr if ``kafka.delivery: exactly_once`` could not hold.

    Transactions commit when a checkpoint completes. So there must be checkpoints, and their barriers must be aligned:
    otherwise a checkpoint includes messages of events that are read again after it. A transaction is open from one
    checkpoint to the end of the next, and must not time out meanwhile.
    """
    if config.kafka.delivery != "exactly_once":
        return
    checkpoints = environment.get_checkpoint_config()
    delivery = f"{job_name} cannot start: kafka.delivery is exactly_once"
    if not checkpoints.is_checkpointing_enabled():
        sys.exit(f"{delivery}, which needs checkpoints: set Flink's execution.checkpointing.interval")
    if checkpoints.get_checkpointing_mode() != CheckpointingMode.EXACTLY_ONCE:
        sys.exit(
            f"{delivery}, but Flink's execution.checkpointing.mode is AT_LEAST_ONCE. Set it to EXACTLY_ONCE in Flink's "
            "configuration or with -D"
        )
    longest_ms = checkpoints.get_checkpoint_interval() + checkpoints.get_checkpoint_timeout()
    if longest_ms >= config.kafka.transaction_timeout_ms:
        sys.exit(
            f"{delivery}, so kafka.transaction_timeout_ms ({config.kafka.transaction_timeout_ms}) must be more than "
            "Flink's execution.checkpointing.interval and execution.checkpointing.timeout together "
            f"({longest_ms} ms). Raise {variable(('kafka', 'transaction_timeout_ms'))}, or lower Flink's timeout"
        )


async def _check(config: JobConfig, job: "Job[Any, Any]") -> None:
    await verify_access(asyncio.to_thread(kafka.check_login, config.kafka))
    if config.kafka.delivery == "exactly_once":
        timeout_ms = config.kafka.transaction_timeout_ms
        await verify_access(asyncio.to_thread(kafka.check_transaction_timeout, config.kafka, timeout_ms))
    # A copy, because an opened job cannot be pickled.
    await verify_access(_open(copy.copy(job)))


async def _open(job: "Job[Any, Any]") -> None:
    await open_or_close(job, Metrics(), next_timestamp_us)
    await job.close()
