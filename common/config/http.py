"""The sections about calls to Sunbird's APIs, and about the wait between two tries of anything."""

from typing import Self

from pydantic import model_validator

from common.config.section import Section, conflict
from common.config.values import Positive


class BackoffConfig(Section):
    """The wait between two tries. It doubles from the initial one up to the maximum."""

    initial_backoff_ms: Positive = 100
    max_backoff_ms: Positive = 10_000

    @model_validator(mode="after")
    def _initial_is_not_above_max(self) -> Self:
        if self.initial_backoff_ms > self.max_backoff_ms:
            raise conflict(
                "initial_backoff_ms must not be greater than max_backoff_ms", "initial_backoff_ms", "max_backoff_ms"
            )
        return self


class HttpConfig(BackoffConfig):
    """Calls to Sunbird's APIs. Each API has its own connections and its own circuit breaker."""

    connect_timeout_ms: Positive = 2_000
    request_timeout_ms: Positive = 5_000
    """For one request, until the last byte of its response."""
    call_timeout_ms: Positive = 30_000
    """For a call with all its retries, and with the waits while the service is down and for one of ``max_connections``.

    Until it sends its first request, each answer to another call begins the time anew. So all calls end within this
    time once the service is down, and none fails because a service that answers is asked for much.
    """
    max_connections: Positive = 100
    breaker_failures: Positive = 5
    """After this many failures in a row, only one probe at a time is sent until one succeeds."""
    breaker_delay_ms: Positive = 1_000
    """Between the last failure and the probe."""
    max_backoff_ms: Positive = 2_000

    @model_validator(mode="after")
    def _a_request_fits_a_call(self) -> Self:
        if self.request_timeout_ms >= self.call_timeout_ms:
            raise conflict(
                "request_timeout_ms must be less than call_timeout_ms", "request_timeout_ms", "call_timeout_ms"
            )
        return self


class JobHttpConfig(HttpConfig):
    """Calls of a job, which needs an answer for every event."""

    poison_after_ms: Positive = 30_000
    """An id that an API fails to answer for this long and eight times, while it answers others, sends its events to the
    failed topic. If the answers do not come in time: for twice as long."""

    @model_validator(mode="after")
    def _a_connection_fits_a_request(self) -> Self:
        # Otherwise a connection that cannot be opened is a request without an answer, which speaks against its id.
        if self.connect_timeout_ms >= self.request_timeout_ms:
            raise conflict(
                "connect_timeout_ms must be less than request_timeout_ms", "connect_timeout_ms", "request_timeout_ms"
            )
        return self
