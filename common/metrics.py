"""Counts of a stage, gathered in its event loop and handed to Flink by the thread of the bundle.

PyFlink's metrics belong to the thread that runs the bundle: an update from any other thread, and so from an
``AsyncFunction``, is dropped without a word. So the event loop writes here, and the bundle's end calls
:meth:`Metrics.report`.
"""

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflink.metrics import MetricGroup

Key = str | tuple[str, str, str]
"""A counter's name, or its name with one label: ``("failed", "reason", "not_json")``."""


class Metrics:
    """Written by one thread, reported by another; neither needs a lock, because only the writer changes a count."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self.counts: Counter[Key] = Counter()
        self._reported: Counter[Key] = Counter()

    def observe(self, name: str, value: int) -> None:
        """Adds one value to the counters ``<name>_count`` and ``<name>_sum``, which give its average over any time.

        PyFlink has distributions, but shows one as an object which Prometheus and the web UI leave out.
        """
        self.counts[f"{name}_count"] += 1
        self.counts[f"{name}_sum"] += value

    def report(self, group: "MetricGroup") -> None:
        """Hands what is new since the last call to Flink. Must be called in the thread of the bundle."""
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
