"""What the jobs' rules need to know besides the rows. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC

from jobs.activity_aggregate_updater.rules import Settings as ProgressSettings
from jobs.assessment_aggregator.rules import Settings as AssessmentSettings
from jobs.collection_cert_pre_processor.settings import Settings as CertificateSettings


@dataclass(frozen=True, slots=True)
class JobSettings:
    """The settings of the jobs. Where they decide something they must be those that the jobs run with."""

    assessment: AssessmentSettings
    progress: ProgressSettings
    certificate: CertificateSettings


def job_settings(supported_content_types: Collection[str], *, enable_suppress_exception: bool) -> JobSettings:
    """The settings that decide something, and blanks for those that only address a message: nothing is sent."""
    return JobSettings(
        AssessmentSettings(certificate_topic="", time_zone=UTC),
        # Without the units: an explanation does not read their rows.
        ProgressSettings(audit_topic="", certificate_topic="", module_aggs=False),
        CertificateSettings(
            topic="",
            cert_domain_url="",
            cloud_storage_base_url="",
            content_cloud_storage_container="",
            supported_content_types=frozenset(supported_content_types),
            enable_suppress_exception=enable_suppress_exception,
        ),
    )
