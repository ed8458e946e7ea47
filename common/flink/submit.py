"""Submits a job to Flink: what ``python -m jobs.<job>`` does."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from pyflink.datastream import StreamExecutionEnvironment

from common.config.loader import package_of, parse_arguments
from common.config.model import JobConfig
from common.flink import source_sink, stage, start_check
from common.flink.job import Job

Config = TypeVar("Config", bound=JobConfig)


def submit(job_class: Callable[[Config], Job[Any, Any]], config_class: type[Config]) -> None:
    """Reads the configuration from the command line, logs in to the servers once, and hands the job to Flink.

    The job is named after its package: ``assessment-aggregator``. Returns once Flink has the job, or in a client that
    is not detached when the job has ended. Ends the program as :func:`~common.config.loader.parse_arguments` and
    the functions of :mod:`common.flink.start_check` do.
    """
    config = parse_arguments(config_class, sys.argv[1:])
    job = job_class(config)
    start_check.check(config, job)
    environment = StreamExecutionEnvironment.get_execution_environment()
    start_check.check_patience(config, job.name, environment)
    start_check.check_pause(config, job.name, environment)
    start_check.check_delivery(config, job.name, environment)
    source = source_sink.source(config, config.input_topics, job.user_id_path)
    stage.build(environment, source, source_sink.sink(config), job)
    # jobs.flink_name, which nothing in common may import.
    environment.execute(package_of(config_class).rpartition(".")[2].replace("_", "-"))
