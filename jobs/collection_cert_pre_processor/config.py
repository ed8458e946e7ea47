"""The configuration of the collection certificate pre-processor; what each key means is in ``config.yaml``."""

from typing import ClassVar

from common.config.model import BatchConfig, CacheConfig, JobConfig
from common.config.values import BaseUrl, Positive, Text, Texts, TimeZone
from common.domain import topics


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
    # The type of a content, the name of a course, and a user are asked for one after the other.
    share_of_patience: ClassVar[tuple[int, str]] = (
        3,
        "a third of retry.patience_ms, because a content, a course and a user may fail one after the other",
    )

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
