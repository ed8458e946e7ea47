"""Stops a start that a server would refuse, before anything else has begun.

On the cluster a wrong password shows late and never ends: PyFlink opens its functions with the first bundle, so the
job looks well until the first event comes, and from then on Flink restarts it again and again.
"""

import asyncio
import copy
import logging
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from common import kafka_client
from common.config import JobConfig
from common.faults import TaskFault, WorldFault
from common.metrics import Metrics

if TYPE_CHECKING:
    from common.pipeline import Job

logger = logging.getLogger(__name__)


def check(config: JobConfig, job: "Job[Any]") -> None:
    """Logs in to Kafka, and to Cassandra and Redis as ``job`` does, which itself stays as it is.

    To be called where the job is submitted. Ends the program with code 1 and a line on stderr if a server refuses: a
    wrong password, a missing table.
    """
    try:
        asyncio.run(_check(config, job))
    except TaskFault as fault:
        sys.exit(f"{job.name} cannot start: {fault}")


async def _check(config: JobConfig, job: "Job[Any]") -> None:
    await try_out(asyncio.to_thread(kafka_client.check_login, config.kafka))
    # A copy, because an opened job holds what cannot be pickled.
    await try_out(_open(copy.copy(job)))


async def _open(job: "Job[Any]") -> None:
    try:
        await job.open(Metrics())
    finally:
        await job.close()


async def try_out(login: Awaitable[None]) -> None:
    """Raises TaskFault if ``login`` is refused. What cannot be seen from here only makes a warning.

    That is a server which does not answer: it may be out of reach or start later. And a PEM file that is not there: of
    a job they have to be on the workers' machines only.
    """
    try:
        await login
    except (WorldFault, OSError) as fault:
        logger.warning("cannot be checked from here: %s", fault)
