"""The Kafka topics of the suite, without the environment: `telemetry.assess` is `dev.telemetry.assess` in a cluster.

The names are Sunbird's: other services write to these topics and read them.
"""

ASSESS = "telemetry.assess"
"""Learners' attempts at assessments."""
ASSESS_FAILED = "telemetry.assess.failed"
BATCH_JOB_REQUEST = "coursebatch.job.request"
"""Contents that learners have finished."""
ENROLMENT_SYNC_REQUEST = "batch.enrolment.sync.request"
"""Requests to bring an enrolment in line with the contents that the learner has finished."""
ACTIVITY_AGG_FAILED = "activity.agg.failed"
TELEMETRY_RAW = "telemetry.raw"
"""AUDIT events."""
ISSUE_CERTIFICATE_REQUEST = "issue.certificate.request"
"""Requests to check whether learners have earned a certificate."""
ISSUE_CERTIFICATE_FAILED = "issue.certificate.failed"
GENERATE_CERTIFICATE_REQUEST = "generate.certificate.request"
"""Requests to generate a certificate."""

ALL = (
    ASSESS,
    ASSESS_FAILED,
    BATCH_JOB_REQUEST,
    ENROLMENT_SYNC_REQUEST,
    ACTIVITY_AGG_FAILED,
    TELEMETRY_RAW,
    ISSUE_CERTIFICATE_REQUEST,
    ISSUE_CERTIFICATE_FAILED,
    GENERATE_CERTIFICATE_REQUEST,
)

INPUT_OF = {
    ASSESS_FAILED: ASSESS,
    ACTIVITY_AGG_FAILED: BATCH_JOB_REQUEST,
    ISSUE_CERTIFICATE_FAILED: ISSUE_CERTIFICATE_REQUEST,
}
"""The input topic of the job that writes a failed topic: its events are sent there again. A job may read others."""


def key(topic: str) -> str:
    """The configuration key that gives a topic another name: ``telemetry_assess`` for ``telemetry.assess``."""
    return topic.replace(".", "_")
