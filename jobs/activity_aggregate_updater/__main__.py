"""Submits the job: ``python -m jobs.activity_aggregate_updater [--config FILE] [--print-config]``."""

from common.flink.submit import submit
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater

if __name__ == "__main__":
    submit(ActivityAggregateUpdater, ActivityAggregateUpdaterConfig)
