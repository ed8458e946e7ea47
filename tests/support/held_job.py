"""A job whose bundle stays open: `python -m tests.support.held_job GATE`. Answers user 0 once GATE is there.

Events of other users are answered at once. A user is a number.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from common.config.model import BatchConfig, RetryConfig
from common.domain.messages import Message
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from tests.support.stage_job import run


class Held(Job[int, int]):
    name = "Held"
    user_id_path = ("userId",)
    batch = BatchConfig(max_batch_size=1, max_in_flight_requests=2)
    retry = RetryConfig()

    def __init__(self, gate: Path, failed_topic: str, output_topic: str) -> None:
        self._gate = gate
        self.failed_topic = failed_topic
        self._output_topic = output_topic

    def decode(self, value: bytes, timestamp_ms: int) -> int:
        return int(msgspec.json.decode(value)["userId"])

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        pass

    def group_of(self, event: int) -> int:
        return event

    async def apply(self, events_by_group: Mapping[int, Sequence[int]]) -> Mapping[int, Sequence[Outcome]]:
        while 0 in events_by_group and not self._gate.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        return {
            number: [[Message(self._output_topic, b"%d" % number)]] * len(events)
            for number, events in events_by_group.items()
        }

    async def close(self) -> None:
        pass


def main(gate: str) -> None:
    run(
        partial(Held, Path(gate)),
        {
            "parallelism.default": "1",
            # The bundle ends when no event has come for five times as long.
            "execution.buffer-timeout.interval": "2 s",
        },
    )


if __name__ == "__main__":
    main(sys.argv[1])
