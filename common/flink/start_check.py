"""Logs in to every server before a job is submitted.

On the cluster a wrong password would show late: PyFlink opens its functions with the first bundle. The job would look
healthy until the first event comes, and then Flink would restart it again and again.
"""

import asyncio
import copy
import sys
from typing import TYPE_CHECKING, Any

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


async def _check(config: JobConfig, job: "Job[Any, Any]") -> None:
    await verify_access(asyncio.to_thread(kafka.check_login, config.kafka))
    # A copy, because an opened job cannot be pickled.
    await verify_access(_open(copy.copy(job)))


async def _open(job: "Job[Any, Any]") -> None:
    try:
        await job.open(Metrics())
    finally:
        await job.close()
