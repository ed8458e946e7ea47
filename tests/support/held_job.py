"""A job whose bundle stays open: `python -m tests.support.held_job GATE`. Answers user 0 once GATE is there.

Events of other users are answered at once. A user is a number.
"""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from common.config.loader import load
from common.config.model import BatchConfig, RetryConfig
from common.domain.messages import Message
from common.flink import source_sink, stage
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig

INPUT, OUTPUT = "input", "output"


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
    config = load(AssessmentAggregatorConfig)
    options = Configuration()
    # Neither the time nor a checkpoint ends the bundle, which would wait for the event that is held.
    options.set_string("python.fn-execution.bundle.time", "600000")
    options.set_string("execution.checkpointing.interval", "10 min")
    # The bundle ends when no event has come for five times as long.
    options.set_string("execution.buffer-timeout.interval", "2 s")
    environment = StreamExecutionEnvironment.get_execution_environment(options)
    environment.set_parallelism(1)
    source = source_sink.source(config, [f"{config.kafka.env}.{INPUT}"], Held.user_id_path)
    job = Held(Path(gate), f"{config.kafka.env}.failed", f"{config.kafka.env}.{OUTPUT}")
    stage.build(environment, source, source_sink.sink(config), job)
    environment.execute("held")


if __name__ == "__main__":
    main(sys.argv[1])
