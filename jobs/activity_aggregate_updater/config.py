"""The configuration of the activity aggregate updater; what each key means is in ``config.yaml``."""

from typing import ClassVar

from common.config.model import CacheConfig, JobConfig
from common.config.values import BaseUrl, Positive
from common.domain import topics


class SearchCacheConfig(CacheConfig):
    """The status of a course rarely changes, and is only needed for courses without leaf nodes."""

    ttl_ms: Positive = 3_600_000


class ActivityAggregateUpdaterConfig(JobConfig):
    """Finished contents in, completion counts and the progress of enrolments out."""

    consumer_group: ClassVar[str] = "activity-aggregate-updater-group"
    input_topic: ClassVar[str] = topics.BATCH_JOB_REQUEST
    failed_topic: ClassVar[str] = topics.ACTIVITY_AGG_FAILED

    module_aggs: bool = True
    deduplication_seconds: Positive = 7 * 24 * 3600
    search_api: BaseUrl
    relation_cache: CacheConfig = CacheConfig()
    search_cache: SearchCacheConfig = SearchCacheConfig()
