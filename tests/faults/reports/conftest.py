"""The fixtures of the reports."""

from tests.support.report_fixtures import (
    course,
    job_requests,
    postgres,
    reports,
    services,
    session,
    user_database,
    variables,
)

__all__ = ["course", "job_requests", "postgres", "reports", "services", "session", "user_database", "variables"]
