"""Submits the activity aggregate updater: ``python -m jobs.activity_aggregate_updater [--config FILE]``."""

import sys

from pyflink.datastream import StreamExecutionEnvironment

from common import kafka, pipeline, start_check
from common.config import parse_arguments
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater


def main() -> None:
    """Reads the configuration, logs in to the servers once, lays out the pipeline and hands it to Flink."""
    config = parse_arguments(ActivityAggregateUpdaterConfig, sys.argv[1:])
    job = ActivityAggregateUpdater(config)
    start_check.check(config, job)
    environment = StreamExecutionEnvironment.get_execution_environment()
    source = kafka.source(config, config.kafka.topic(config.input_topic), job.user_id_path)
    pipeline.build(environment, source, kafka.sink(config), job)
    environment.execute("activity-aggregate-updater")


if __name__ == "__main__":
    main()
