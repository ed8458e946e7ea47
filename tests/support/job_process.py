"""A job in the process of the test, with the batches and the retries that the pipeline adds to it: without Flink."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from common.domain.events import Refused, Skip
from common.domain.messages import Message
from common.flink.group_commit import GroupCommit, Observer
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from common.servers.cassandra import next_timestamp_us


class RunningJob:
    """A job that is open."""

    def __init__(self, job: Job[Any, Any], metrics: Metrics) -> None:
        self.counts = metrics.counts
        self.retries = 0
        self.refused: Counter[str] = Counter()
        """How often events were refused, by kind."""
        self._job = job
        self._commit = GroupCommit(
            job.apply_batch, self._refuse, job.batch, job.retry, Observer(retried=self._retried), job.must_follow
        )

    async def apply(self, *values: bytes) -> list[list[Message]]:
        """The messages of each Kafka value; all go as one batch."""

        async def messages_of(index: int, value: bytes) -> list[Message]:
            event = self._job.decode(value, 0)
            assert not isinstance(event, Skip)
            outcome = await self._commit.submit(index, event)
            self.refused.update(part.kind for part in outcome if isinstance(part, Refused))
            return [
                part if isinstance(part, Message) else self._job.failed_message(value, part, part.user_id)
                for part in outcome
            ]

        return await asyncio.gather(*itertools.starmap(messages_of, enumerate(values)))

    @staticmethod
    def _refuse(event: object, error: Exception) -> Outcome:
        raise AssertionError(f"{event} is refused") from error

    def _retried(self) -> None:
        self.retries += 1

    def of(self, name: str) -> dict[str, int]:
        """The counts of a metric by their label."""
        return {key[2]: count for key, count in self.counts.items() if isinstance(key, tuple) and key[0] == name}


@asynccontextmanager
async def running(job: Job[Any, Any]) -> AsyncIterator[RunningJob]:
    """Opens the job, and closes it at the end."""
    metrics = Metrics()
    try:
        await job.open(metrics, next_timestamp_us)
        yield RunningJob(job, metrics)
    finally:
        await job.close()
