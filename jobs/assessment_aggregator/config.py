"""The configuration of the assessment aggregator; what each key means is in ``config.yaml``."""

from typing import ClassVar

from common.config import BatchConfig, CacheConfig, JobConfig, Positive, TimeZone, UrlPrefix


class AssessmentBatchConfig(BatchConfig):
    """Some batches in flight, so that one can write while another reads."""

    max_batch_size: Positive = 100
    max_in_flight_requests: Positive = 3


class AssessmentAggregatorConfig(JobConfig):
    """Assessment attempts in, best scores in user_activity_agg out."""

    consumer_group: ClassVar[str] = "assessment-aggregator-group"
    input_topic: ClassVar[str] = "telemetry.assess"
    failed_topic: ClassVar[str] = "telemetry.assess.failed"

    batch: AssessmentBatchConfig = AssessmentBatchConfig()
    skip_missing_records: bool = False
    content_read_api: UrlPrefix
    agg_details_time_zone: TimeZone = "UTC"
    relation_cache: CacheConfig = CacheConfig()
    content_cache: CacheConfig = CacheConfig()
