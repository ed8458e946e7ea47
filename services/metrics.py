"""The Prometheus metrics: requests by path and status, and the counts of the Cassandra client.

Several workers share one port, so a scrape reaches any of them. Each worker therefore writes its values to files of a
common folder (``PROMETHEUS_MULTIPROC_DIR``), and the worker that is scraped adds them up.
"""

import os
from collections import Counter as Counts
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from common.metrics import Key, Metrics
from services.admission import Admission

MULTIPROCESS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that switches prometheus_client to files. It has to be set before that is imported."""

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds, up to the time after which a request is answered with 500."""


class RequestMetrics:
    """The metrics of one worker."""

    def __init__(self, counts: Metrics, admission: Admission) -> None:
        """``counts`` are shown as ``aggregates_<name>_total``."""
        self._counts = counts
        self._shown: Counts[Key] = Counts()
        self._counters: dict[str, Counter] = {}
        self._admission = admission
        self._registry = CollectorRegistry()
        self._limits: dict[str, Gauge] = {}
        self._histograms: dict[tuple[str, int], Histogram] = {}
        self._in_flight = Gauge(
            "aggregates_requests_in_flight",
            "Requests in flight.",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._limit = Gauge(
            "aggregates_requests_in_flight_limit",
            "Requests that are admitted at a time.",
            ("operation",),
            registry=self._registry,
            multiprocess_mode="livesum",
        )
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
        """Counts an answer. ``path`` is the path of a route, never one that a client made up."""
        histogram = self._histograms.get((path, status))
        if histogram is None:
            histogram = self._histograms[path, status] = self._seconds.labels(path, str(status))
        histogram.observe(seconds)
        self._sample()

    def text(self) -> bytes:
        """The metrics of all workers in Prometheus' text format."""
        self._sample()
        folder = os.environ.get(MULTIPROCESS_FOLDER)
        if folder is None:
            return generate_latest(self._registry)
        _forget_ended_workers(Path(folder))
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _sample(self) -> None:
        self._in_flight.set(self._admission.in_flight)
        for operation, limit in self._admission.limits.items():
            if operation not in self._limits:
                self._limits[operation] = self._limit.labels(operation)
            self._limits[operation].set(limit.value)
        for key, count in list(self._counts.counts.items()):
            if new := count - self._shown[key]:
                self._counter(key).inc(new)
                self._shown[key] = count

    def _counter(self, key: Key) -> Counter:
        name, *label = (key,) if isinstance(key, str) else key
        if name not in self._counters:
            text = "A count of the clients."
            self._counters[name] = Counter(f"aggregates_{name}", text, label[:1], registry=self._registry)
        return self._counters[name].labels(label[1]) if label else self._counters[name]


def _forget_ended_workers(folder: Path) -> None:
    """Removes the gauges of workers that were killed. Those that ended in order leave files, too."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]
