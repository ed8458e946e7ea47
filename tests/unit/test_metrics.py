"""Counts of the event loop's thread reach Flink in the bundle's thread, each once."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from apache_beam.metrics.execution import MetricsContainer
from apache_beam.metrics.metricbase import MetricName
from apache_beam.runners.worker import statesampler
from apache_beam.utils.counters import CounterFactory
from pyflink.fn_execution.metrics.process.metric_impl import GenericMetricGroup

from common.metrics import Metrics

ROOT = "[]"
GENERIC, KEY, VALUE = (f"MetricGroupType.{kind}" for kind in ("generic", "key", "value"))


@pytest.fixture
def group() -> GenericMetricGroup:
    """PyFlink's own, of a Python worker."""
    return GenericMetricGroup(None, None)


@pytest.fixture
def container() -> MetricsContainer:
    return MetricsContainer("step")


@contextmanager
def bundle(container: MetricsContainer) -> Iterator[None]:
    """Makes this thread that of a bundle, as Beam does while it runs one."""
    sampler = statesampler.StateSampler("", CounterFactory())
    statesampler.set_current_tracker(sampler)
    sampler.start()
    try:
        with sampler.scoped_state("step", "process", metrics_container=container):
            yield
    finally:
        sampler.stop()
        statesampler.set_current_tracker(None)


def in_another_thread(run: Callable[[], object]) -> None:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def counted(container: MetricsContainer, namespace: str, name: str) -> int:
    return int(container.get_counter(MetricName(namespace, name)).get_cumulative())


def labelled(label: str, value: str) -> str:
    return json.dumps([label, value, KEY, VALUE])


def test_what_another_thread_has_counted_is_reported_in_the_bundles(
    group: GenericMetricGroup, container: MetricsContainer
) -> None:
    metrics = Metrics()

    def count() -> None:
        metrics.counts["events_in"] += 3
        metrics.counts["failed", "reason", "not_json"] += 2
        metrics.counts["failed", "reason", "wrong_type"] += 1
        metrics.observe("batch_size", 4)
        metrics.observe("batch_size", 8)

    in_another_thread(count)
    with bundle(container):
        metrics.report(group)
    assert counted(container, ROOT, "events_in") == 3
    assert counted(container, labelled("reason", "not_json"), "failed") == 2
    assert counted(container, labelled("reason", "wrong_type"), "failed") == 1
    assert counted(container, ROOT, "batch_size_count") == 2
    assert counted(container, ROOT, "batch_size_sum") == 12


def test_a_second_report_adds_what_is_new(group: GenericMetricGroup, container: MetricsContainer) -> None:
    metrics = Metrics()
    with bundle(container):
        for _ in range(3):
            metrics.counts["events_in"] += 2
            metrics.observe("batch_size", 2)
            metrics.report(group)
            metrics.report(group)
    assert counted(container, ROOT, "events_in") == 6
    assert counted(container, ROOT, "batch_size_count") == 3


def test_a_report_from_any_other_thread_would_be_lost(group: GenericMetricGroup, container: MetricsContainer) -> None:
    """Why the stage reports at the end of a bundle. Should this fail after an upgrade, it may report at once."""
    metrics = Metrics()
    metrics.counts["events_in"] += 1
    with bundle(container):
        in_another_thread(lambda: metrics.report(group))
    assert counted(container, ROOT, "events_in") == 0


def test_counting_goes_on_while_a_report_runs(group: GenericMetricGroup, container: MetricsContainer) -> None:
    metrics = Metrics()
    total = 20_000

    def count() -> None:
        for number in range(total):
            # A new key changes the size of the map that the other thread walks over.
            metrics.counts["rows_read", "table", str(number % 500)] += 1
            metrics.counts["events_in"] += 1

    thread = threading.Thread(target=count)
    with bundle(container):
        thread.start()
        while thread.is_alive():
            metrics.report(group)
        metrics.report(group)
    assert counted(container, ROOT, "events_in") == total
    assert sum(counted(container, labelled("table", str(n)), "rows_read") for n in range(500)) == total
