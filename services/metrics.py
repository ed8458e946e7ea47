"""What Prometheus is told: requests by path and status, and the counts of the clients of Cassandra."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from common.metrics import Metrics

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds, up to the time after which a request ends with 500."""


class RequestMetrics:
    """The metrics of one application, in a registry of its own."""

    def __init__(self, counts: Metrics) -> None:
        """``counts`` are shown as ``aggregates_<name>_total``."""
        self._registry = CollectorRegistry()
        self._registry.register(_Counts(counts))
        self.in_flight = Gauge("aggregates_requests_in_flight", "Requests under way.", registry=self._registry)
        self.cache_failures = Counter(
            "aggregates_group_cache_failures",
            "Answers that could not be read from or written to the cache.",
            registry=self._registry,
        )
        self._seconds = Histogram(
            "aggregates_request_duration_seconds",
            "From the head of a request to its answer.",
            ("path", "status"),
            buckets=_BUCKETS,
            registry=self._registry,
        )

    def observe(self, path: str, status: int, seconds: float) -> None:
        """``path`` is that of a route, never what a client made up."""
        self._seconds.labels(path, str(status)).observe(seconds)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)


class _Counts(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[CounterMetricFamily]:
        for key, count in sorted(self._metrics.counts.items(), key=str):
            if isinstance(key, str):
                yield CounterMetricFamily(f"aggregates_{key}", "A count of the clients.", value=count)
