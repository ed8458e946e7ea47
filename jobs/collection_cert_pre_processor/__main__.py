"""Submits the collection certificate pre-processor.

``python -m jobs.collection_cert_pre_processor [--config FILE] [--print-config]``
"""

import sys

from pyflink.datastream import StreamExecutionEnvironment

from common import kafka, pipeline, start_check
from common.config import parse_arguments
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from jobs.collection_cert_pre_processor.job import CollectionCertPreProcessor


def main() -> None:
    """Reads the configuration, logs in to the servers once, lays out the pipeline and hands it to Flink."""
    config = parse_arguments(CollectionCertPreProcessorConfig, sys.argv[1:])
    job = CollectionCertPreProcessor(config)
    start_check.check(config, job)
    environment = StreamExecutionEnvironment.get_execution_environment()
    source = kafka.source(config, config.kafka.topic(config.input_topic), job.user_id_path)
    pipeline.build(environment, source, kafka.sink(config), job)
    environment.execute("collection-cert-pre-processor")


if __name__ == "__main__":
    main()
