"""Submits the assessment aggregator: ``python -m jobs.assessment_aggregator [--config FILE] [--print-config]``."""

import sys

from pyflink.datastream import StreamExecutionEnvironment

from common import kafka, pipeline, start_check
from common.config import parse_arguments
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator


def main() -> None:
    """Reads the configuration, logs in to the servers once, lays out the pipeline and hands it to Flink."""
    config = parse_arguments(AssessmentAggregatorConfig, sys.argv[1:])
    job = AssessmentAggregator(config)
    start_check.check(config, job)
    environment = StreamExecutionEnvironment.get_execution_environment()
    source = kafka.source(config, config.kafka.topic(config.input_topic), job.user_id_path)
    pipeline.build(environment, source, kafka.sink(config), job)
    environment.execute("assessment-aggregator")


if __name__ == "__main__":
    main()
