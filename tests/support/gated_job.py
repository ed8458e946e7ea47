"""A job for tests of the stage: `python -m tests.support.gated_job GATE`. Applies nothing until there is a file GATE.

Makes a file next to it, named FULL, when as many events are in flight in a subtask as may be.

Every event is answered by what the test wants to know about it: in which subtask and as which of its events it was
applied, and how many events were in flight there when it came.
"""

import asyncio
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from common.config.model import BatchConfig, RetryConfig
from common.domain.messages import Message
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from tests.support.stage_job import run

FULL = "full"
MAX_BUFFERED_REQUESTS = 50


class Event(msgspec.Struct):
    userId: str  # noqa: N815
    number: int
    in_flight: int = 0


class Gated(Job[Event, str]):
    name = "Gated"
    user_id_path = ("userId",)
    batch = BatchConfig(max_batch_size=7, max_in_flight_requests=1, max_buffered_requests=MAX_BUFFERED_REQUESTS)
    retry = RetryConfig()

    def __init__(self, gate: Path, failed_topic: str, output_topic: str) -> None:
        self._gate = gate
        self.failed_topic = failed_topic
        self._output_topic = output_topic
        self._in_flight = 0
        self._applied = 0

    def decode(self, value: bytes, timestamp_ms: int) -> Event:
        self._in_flight += 1
        if self._in_flight == MAX_BUFFERED_REQUESTS:
            (self._gate.parent / FULL).touch()
        event = msgspec.json.decode(value, type=Event)
        event.in_flight = self._in_flight
        return event

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        self._subtask = str(uuid.uuid4())

    def group_of(self, event: Event) -> str:
        return event.userId

    async def apply(self, events_by_group: Mapping[str, Sequence[Event]]) -> Mapping[str, Sequence[Outcome]]:
        while not self._gate.exists():  # noqa: ASYNC110 - what it waits for is done by another process
            await asyncio.sleep(0.01)
        return {user_id: [self._answer(event) for event in events] for user_id, events in events_by_group.items()}

    def _answer(self, event: Event) -> Outcome:
        self._in_flight -= 1
        self._applied += 1
        answer: dict[str, Any] = {
            "user": event.userId,
            "number": event.number,
            "in_flight": event.in_flight,
            "subtask": self._subtask,
            "applied": self._applied,
        }
        return [Message(self._output_topic, msgspec.json.encode(answer))]

    async def close(self) -> None:
        pass


def main(gate: str) -> None:
    run(partial(Gated, Path(gate)), {"execution.buffer-timeout.interval": "1 s"})


if __name__ == "__main__":
    main(sys.argv[1])
