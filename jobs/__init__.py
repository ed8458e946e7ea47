"""The jobs, and the commands that go with them. No job imports another."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from common.config.model import JobConfig

JOBS = {
    "assessment_aggregator": "jobs.assessment_aggregator",
    "activity_aggregate_updater": "jobs.activity_aggregate_updater",
    "collection_cert_pre_processor": "jobs.collection_cert_pre_processor",
}
"""The module of each job, by its name. This is the only list of jobs."""


def flink_name(name: str) -> str:
    """The name that a job in :data:`JOBS` has in Flink: ``assessment-aggregator`` for ``assessment_aggregator``."""
    return name.replace("_", "-")


def config_class(name: str) -> "type[JobConfig]":
    """The configuration of a job in :data:`JOBS`: ``AssessmentAggregatorConfig`` for ``assessment_aggregator``."""
    class_name = "".join(word.capitalize() for word in name.split("_"))
    found: type[JobConfig] = getattr(import_module(f"{JOBS[name]}.config"), f"{class_name}Config")
    return found
