"""A worker that stops between a read and its write: `python -m tests.support.frozen_worker JOB EVENT`.

It prints "read" when it has read the rows for the first time, and waits for a line on stdin before it goes on. It ends
when the event is applied, and prints how often its batch was retried.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from common.config.loader import load
from common.flink.group_commit import GroupCommit, Observer
from common.metrics import Metrics
from jobs import config_class
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater
from jobs.assessment_aggregator.job import AssessmentAggregator

JOB_CLASSES: dict[str, Any] = {
    "assessment_aggregator": AssessmentAggregator,
    "activity_aggregate_updater": ActivityAggregateUpdater,
}


async def main(name: str, event: str) -> None:
    job = JOB_CLASSES[name](load(config_class(name)))
    await job.open(Metrics())
    read, waits, retries = job._cassandra.read, True, 0

    async def read_and_wait(statement: Any, parameters: Sequence[Any]) -> Any:
        nonlocal waits
        rows = await read(statement, parameters)
        if waits:
            waits = False
            print("read", flush=True)
            sys.stdin.readline()
        return rows

    def retried() -> None:
        nonlocal retries
        retries += 1

    def refuse(_: Any, error: Exception) -> Any:
        raise error

    job._cassandra.read = read_and_wait
    commit = GroupCommit(job.apply_batch, refuse, job.batch, job.retry, Observer(retried=retried))
    await commit.submit("key", job.decode(event.encode(), 0))
    await job.close()
    print(retries, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
