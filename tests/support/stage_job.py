"""Runs a job of a test between the topics `input` and `output`."""

from collections.abc import Callable, Mapping
from typing import Any

from pyflink.common import Configuration
from pyflink.datastream import StreamExecutionEnvironment

from common.config.loader import load
from common.flink import source_sink, stage
from common.flink.job import Job
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig

INPUT, OUTPUT = "input", "output"

_LONG_BUNDLES = {
    "python.fn-execution.bundle.size": "1000000",
    "python.fn-execution.bundle.time": "600000",
    "execution.checkpointing.interval": "10 min",
    # Or Flink would trigger the first one as soon as the tasks run.
    "execution.checkpointing.min-pause": "10 min",
}


def run(create: Callable[[str, str], Job[Any, Any]], options: Mapping[str, str]) -> None:
    """`create` makes the job from the names of its failed topic and of OUTPUT. `options` are Flink's.

    A bundle that ends waits for what is in flight, however little that is: here neither its size nor its time nor a
    checkpoint ends it.
    """
    config = load(AssessmentAggregatorConfig)
    configuration = Configuration()
    for key, value in {**_LONG_BUNDLES, **options}.items():
        configuration.set_string(key, value)
    environment = StreamExecutionEnvironment.get_execution_environment(configuration)
    job = create(f"{config.kafka.env}.failed", f"{config.kafka.env}.{OUTPUT}")
    source = source_sink.source(config, [f"{config.kafka.env}.{INPUT}"], job.user_id_path)
    stage.build(environment, source, source_sink.sink(config), job)
    environment.execute(job.name)
