"""Submits the job: ``python -m jobs.collection_cert_pre_processor [--config FILE] [--print-config]``."""

from common.flink.submit import submit
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from jobs.collection_cert_pre_processor.job import CollectionCertPreProcessor

if __name__ == "__main__":
    submit(CollectionCertPreProcessor, CollectionCertPreProcessorConfig)
