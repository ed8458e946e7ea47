"""The configuration of the assessment aggregator. ``config.yaml`` says what each key means."""

from typing import ClassVar

from common.config.model import CacheConfig, JobConfig
from common.config.values import TimeZone, UrlPrefix
from common.domain import topics


class AssessmentAggregatorConfig(JobConfig):
    """Assessment attempts in, best scores in user_activity_agg out."""

    consumer_group: ClassVar[str] = "assessment-aggregator-group"
    input_topic: ClassVar[str] = topics.ASSESS
    failed_topic: ClassVar[str] = topics.ASSESS_FAILED

    skip_missing_records: bool = False
    content_read_api: UrlPrefix
    agg_details_time_zone: TimeZone = "UTC"
    relation_cache: CacheConfig = CacheConfig()
    content_cache: CacheConfig = CacheConfig()
