"""The aggregates of a learner: the merge of the old and the new column, the metric keys, the best score. Pure.

Jobs, services and reports use the same functions, so that no two readers of ``user_activity_agg`` can disagree about a
learner's score.
"""

from collections.abc import Mapping

COMPLETED_COUNT = "completedCount"
SCORE = "score"
MAX_SCORE = "max_score"
ATTEMPTS_COUNT = "attempts_count"

ACTIVITY_TYPE = "Course"
"""``activity_type`` of every row, including those of a course's units."""


def context_id(batch_id: str) -> str:
    """The ``context_id`` of a batch: ``cb:<batchId>``."""
    return f"cb:{batch_id}"


def metric_key(metric: str, content_id: str) -> str:
    """The key of a content's metric in ``aggregates``, such as ``score:do_1``."""
    return f"{metric}:{content_id}"


def contents_of(metric: str, aggregates: Mapping[str, float]) -> dict[str, float]:
    """The values of one metric by content id.

    A key must start with the metric and a colon. ``max_score:do_1`` contains ``score:do_1``: a dashboard that searched
    for that text showed maximum scores as best scores.
    """
    prefix = f"{metric}:"
    return {key[len(prefix) :]: value for key, value in aggregates.items() if key.startswith(prefix)}


def merge(agg: Mapping[str, float] | None, aggregates: Mapping[str, float] | None) -> dict[str, float]:
    """Rule G8: both columns as one map, ``aggregates`` laid over ``agg`` key by key.

    ``aggregates`` wins even if it is lower, because a recomputation may lower a best score. A missing column, a null
    map and an empty map are the same.
    """
    merged = {key: float(value) for key, value in (agg or {}).items()}
    merged.update(aggregates or {})
    return merged


def percent(score: float, max_score: float | None) -> float:
    """A score in percent (100 is full marks, more is possible). A missing or zero ``max_score`` counts as 1.

    It is rounded to 9 decimals. In binary 2.55 of 3 are 84.99999999999999 percent, and the learner would not reach 85.
    """
    return round(score * 100 / (max_score or 1.0), 9)


def overall_best_score(percents: Mapping[str, float]) -> float:
    """The best score of a course: the greatest percent of its contents, 0 if there are none."""
    return max(percents.values(), default=0.0)
