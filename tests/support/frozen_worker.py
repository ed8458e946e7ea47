"""A worker that stops between a read and its write: `python -m tests.support.frozen_worker JOB EVENT WAITING`.

It prints "read" when it has read the rows for EVENT, and waits for a line on stdin before it goes on. WAITING is an
event that it has not begun. It prints what has become of each: "applied", or the TaskFault.
"""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

from common.config.loader import load
from common.domain.faults import TaskFault
from common.flink.group_commit import GroupCommit
from common.flink.pauses import task_clock
from common.metrics import Metrics
from jobs import config_class
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater
from jobs.assessment_aggregator.job import AssessmentAggregator

JOB_CLASSES: dict[str, Any] = {
    "assessment_aggregator": AssessmentAggregator,
    "activity_aggregate_updater": ActivityAggregateUpdater,
}


async def main(name: str, *values: str) -> None:
    job = JOB_CLASSES[name](load(config_class(name)))
    await job.open(Metrics(), task_clock(job.retry.max_pause_ms / 1000))
    read, waits = job._cassandra.read, True

    async def read_and_wait(statement: Any, parameters: Sequence[Any]) -> Any:
        nonlocal waits
        rows = await read(statement, parameters)
        if waits:
            waits = False
            print("read", flush=True)
            sys.stdin.readline()
        return rows

    def refuse(_: Any, error: Exception) -> Any:
        raise error

    job._cassandra.read = read_and_wait
    commit = GroupCommit(job.apply_batch, refuse, job.batch, job.retry)

    async def apply(value: str) -> str:
        try:
            await commit.submit(job.group_of(event := job.decode(value.encode(), 0)), event)
        except TaskFault as fault:
            return f"{type(fault).__name__}: {fault}"
        return "applied"

    first = asyncio.ensure_future(apply(values[0]))
    # The others wait for the first: they are of the same learner.
    await asyncio.sleep(0)
    print("\n".join(await asyncio.gather(first, *map(apply, values[1:]))), flush=True)
    await job.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
