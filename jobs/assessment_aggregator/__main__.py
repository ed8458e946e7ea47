"""Submits the job: ``python -m jobs.assessment_aggregator [--config FILE] [--print-config]``."""

from common.flink.submit import submit
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator

if __name__ == "__main__":
    submit(AssessmentAggregator, AssessmentAggregatorConfig)
