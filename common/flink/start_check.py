"""Logs in to every server before a job is submitted.

On the cluster a wrong password would show late: PyFlink opens its functions with the first bundle. The job would look
healthy until the first event comes, and then Flink would restart it again and again.
"""

import asyncio
import copy
import sys
from typing import TYPE_CHECKING, Any

from pyflink.datastream import StreamExecutionEnvironment

from common.config.loader import variable
from common.config.model import JobConfig
from common.domain.faults import TaskFault
from common.metrics import Metrics
from common.servers import kafka
from common.servers.access import verify_access

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
    longest_ms = config.retry.patience_ms + config.http.call_timeout_ms
    if checkpoints.is_checkpointing_enabled() and longest_ms >= timeout_ms:
        sys.exit(
            f"{job_name} cannot start: retry.patience_ms ({config.retry.patience_ms}) plus http.call_timeout_ms "
            f"({config.http.call_timeout_ms}) must be less than Flink's execution.checkpointing.timeout "
            f"({timeout_ms} ms). Lower {variable(('retry', 'patience_ms'))}, or raise Flink's timeout in its "
            "configuration or with -D"
        )


async def _check(config: JobConfig, job: "Job[Any, Any]") -> None:
    await verify_access(asyncio.to_thread(kafka.check_login, config.kafka))
    # A copy, because an opened job cannot be pickled.
    await verify_access(_open(copy.copy(job)))


async def _open(job: "Job[Any, Any]") -> None:
    try:
        await job.open(Metrics())
    finally:
        await job.close()
