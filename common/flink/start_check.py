"""Stops a start that a server would refuse, before anything else has begun.

On the cluster a wrong password shows late and never ends: PyFlink opens its functions with the first bundle, so the
job looks well until the first event comes, and from then on Flink restarts it again and again.
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
    """Logs in to Kafka, and to Cassandra and Redis as ``job`` does, which itself stays as it is.

    To be called where the job is submitted. Ends the program with code 1 and a line on stderr if a server refuses: a
    wrong password, a missing table.
    """
    try:
        asyncio.run(_check(config, job))
    except TaskFault as fault:
        sys.exit(f"{job.name} cannot start: {fault}")


async def _check(config: JobConfig, job: "Job[Any, Any]") -> None:
    await verify_access(asyncio.to_thread(kafka.check_login, config.kafka))
    # A copy, because an opened job holds what cannot be pickled.
    await verify_access(_open(copy.copy(job)))


async def _open(job: "Job[Any, Any]") -> None:
    try:
        await job.open(Metrics())
    finally:
        await job.close()
