"""Counters of a stage, kept in its event loop and reported to Flink by the thread that runs the bundle.

PyFlink silently drops metric updates from any other thread, and an ``AsyncFunction`` runs in another thread. So the
event loop counts here, and :meth:`Metrics.report` is called at the end of each bundle.
"""

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflink.metrics import MetricGroup

Key = str | tuple[str, str, str]
"""A counter's name, or its name with one label: ``("failed", "reason", "not_json")``."""


class Metrics:
    """One thread counts, another reports. Neither needs a lock, because only the first one changes a count."""

    def __init__(self) -> None:
        self.counts: Counter[Key] = Counter()
        self._reported: Counter[Key] = Counter()

    def observe(self, name: str, value: int) -> None:
        """Adds a value to the counters ``<name>_count`` and ``<name>_sum``, from which follows its average.

        PyFlink has distributions, but exports them as an object that Prometheus and the web UI leave out.
        """
        self.counts[f"{name}_count"] += 1
        self.counts[f"{name}_sum"] += value

    def report(self, group: "MetricGroup") -> None:
        """Reports what was counted since the last call. Must be called in the thread that runs the bundle."""
        for key, count in dict(self.counts).items():
            new = count - self._reported[key]
            if new:
                _counter(group, key).inc(new)
                self._reported[key] = count


def _counter(group: "MetricGroup", key: Key):  # type: ignore[no-untyped-def]
    if isinstance(key, str):
        return group.counter(key)
    name, label, value = key
    return group.add_group(label, value).counter(name)
