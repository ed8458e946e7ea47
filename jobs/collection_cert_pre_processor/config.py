"""The configuration of the collection certificate pre-processor; what each key means is in ``config.yaml``."""

from typing import ClassVar, Self

from pydantic import model_validator

from common.config.model import BatchConfig, CacheConfig, JobConfig
from common.config.section import conflict
from common.config.values import BaseUrl, Positive, Text, Texts, TimeZone
from common.domain import topics
from common.domain.failing_ids import TIMEOUT_FACTOR


class CertificateBatchConfig(BatchConfig):
    """More batches than in the other jobs, because most of the time a batch waits for the user API."""

    max_in_flight_requests: Positive = 6
    max_buffered_requests: Positive = 1_000


class TemplateCacheConfig(CacheConfig):
    """For a short time: who has corrected a template issues its certificates next."""

    ttl_ms: Positive = 5_000


class CollectionCertPreProcessorConfig(JobConfig):
    """Requests to check for a certificate in, requests to generate one out."""

    consumer_group: ClassVar[str] = "collection-cert-pre-processor-group"
    input_topic: ClassVar[str] = topics.ISSUE_CERTIFICATE_REQUEST
    failed_topic: ClassVar[str] = topics.ISSUE_CERTIFICATE_FAILED

    batch: CertificateBatchConfig = CertificateBatchConfig()
    supported_content_types: Texts = ("SelfAssess",)
    enable_suppress_exception: bool = True
    learner_base_url: BaseUrl
    content_base_url: BaseUrl
    cloud_storage_base_url: BaseUrl
    cloud_storage_cname_url: BaseUrl | None = None
    content_cloud_storage_container: Text
    cert_domain_url: BaseUrl
    time_zone: TimeZone = "UTC"
    batch_cache: TemplateCacheConfig = TemplateCacheConfig()
    content_cache: CacheConfig = CacheConfig()
    course_cache: CacheConfig = CacheConfig()

    @model_validator(mode="after")
    def _three_ids_at_fault_fit_the_patience(self) -> Self:
        # A batch may meet one after the other: the type of a content, the name of a course, a user.
        http, retry = self.http, self.retry
        one_ms = TIMEOUT_FACTOR * http.poison_after_ms + http.call_timeout_ms + retry.max_backoff_ms
        if 3 * one_ms >= retry.patience_ms:
            raise conflict(
                "twice http.poison_after_ms, http.call_timeout_ms and retry.max_backoff_ms together must be less than "
                "a third of retry.patience_ms, because a content, a course and a user may fail one after the other",
                "http.poison_after_ms",
                "http.call_timeout_ms",
                "retry.max_backoff_ms",
                "retry.patience_ms",
            )
        return self
