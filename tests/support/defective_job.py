"""A job with a defect: it raises on every event, and the exception quotes the event."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from pyflink.datastream import StreamExecutionEnvironment

from common.config.loader import load
from common.config.model import BatchConfig, RetryConfig
from common.domain.enrolments import EnrolmentKey
from common.flink import source_sink, stage
from common.flink.job import Job, Outcome
from common.metrics import Metrics
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig

INPUT, FAILED = "input", "failed"


class Defective(Job[dict[str, Any], EnrolmentKey]):
    name = "Defective"
    user_id_path = ("userId",)
    batch = BatchConfig()
    retry = RetryConfig()

    def __init__(self, failed_topic: str) -> None:
        self.failed_topic = failed_topic

    def decode(self, value: bytes, timestamp_ms: int) -> dict[str, Any]:
        return msgspec.json.decode(value, type=dict[str, Any])

    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        pass

    def group_of(self, event: dict[str, Any]) -> EnrolmentKey:
        return EnrolmentKey(event["userId"], event["courseId"], event["batchId"])

    async def apply(
        self, events_by_group: Mapping[EnrolmentKey, Sequence[dict[str, Any]]]
    ) -> Mapping[EnrolmentKey, Sequence[Outcome]]:
        raise ValueError(f"cannot apply {events_by_group}")

    async def close(self) -> None:
        pass


def main() -> None:
    config = load(AssessmentAggregatorConfig)
    environment = StreamExecutionEnvironment.get_execution_environment()
    source = source_sink.source(config, [f"{config.kafka.env}.{INPUT}"], Defective.user_id_path)
    stage.build(environment, source, source_sink.sink(config), Defective(f"{config.kafka.env}.{FAILED}"))
    environment.execute("defective")


if __name__ == "__main__":
    main()
