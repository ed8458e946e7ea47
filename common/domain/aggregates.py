"""The aggregates of a learner: the merge of the old and the new column, the metric keys, the best score.

Pure: plain values in, plain values out. One set of functions for jobs, services and reports, so that no two
readers of ``user_activity_agg`` can disagree about a learner's score.
"""

from collections.abc import Mapping

COMPLETED_COUNT = "completedCount"
SCORE = "score"
MAX_SCORE = "max_score"
ATTEMPTS_COUNT = "attempts_count"

ACTIVITY_TYPE = "Course"
"""``activity_type`` of every row, those of a course's units too."""


def context_id(batch_id: str) -> str:
    """The ``context_id`` of a batch: ``cb:<batchId>``."""
    return f"cb:{batch_id}"


def metric_key(metric: str, content_id: str) -> str:
    """The map key of one content's metric, such as ``score:do_1``."""
    return f"{metric}:{content_id}"


def contents_of(metric: str, aggregates: Mapping[str, float]) -> dict[str, float]:
    """The values of one metric by content id.

    The prefix is matched up to its colon, never "contains": ``max_score:do_1`` holds the text ``score:do_1``,
    and a dashboard that once looked for that showed maximum scores as best scores.
    """
    prefix = f"{metric}:"
    return {key[len(prefix) :]: value for key, value in aggregates.items() if key.startswith(prefix)}


def merge(agg: Mapping[str, int] | None, aggregates: Mapping[str, float] | None) -> dict[str, float]:
    """Both columns as one map: ``agg`` as doubles, ``aggregates`` laid over it key by key.

    ``aggregates`` wins even when it is lower, because a recomputation may lower a best score. A missing column, a
    null map and an empty map are the same.
    """
    return {key: float(value) for column in (agg, aggregates) for key, value in (column or {}).items()}


def percent(score: float, max_score: float | None) -> float:
    """A score in percent (0 to 100 and above). A missing or zero ``max_score`` counts as 1."""
    return score * 100 / (max_score or 1.0)


def overall_best_score(percents: Mapping[str, float]) -> float:
    """The best score of a course: the greatest percent of its contents, 0 without any."""
    return max(percents.values(), default=0.0)
