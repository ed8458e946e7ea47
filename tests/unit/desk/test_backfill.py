"""Which entries the back-fill adds to a row that has only ``agg``."""

from datetime import UTC, datetime

from desk.doctor.backfill import AggregatesRow, missing_entries
from desk.explanation.settings import job_settings
from jobs.assessment_aggregator.rules import Attempt

SETTINGS = job_settings([], enable_suppress_exception=True)
NOW = datetime(2024, 5, 14, tzinfo=UTC)
ATTEMPTS = [Attempt("do_1", attempt_id, NOW, NOW, score, 10.0) for attempt_id, score in (("a", 7.5), ("b", 2.25))]


def filled(agg: dict[str, int], aggregates: dict[str, float] | None = None) -> dict[str, float]:
    return missing_entries(AggregatesRow("Course", "c", "asha", "cb:1", agg, aggregates), ATTEMPTS, SETTINGS)


def test_the_exact_values_of_the_attempts() -> None:
    agg = {"score:do_1": 7, "max_score:do_1": 10, "attempts_count:do_1": 2, "completedCount": 3}
    assert filled(agg) == {"score:do_1": 7.5, "max_score:do_1": 10.0, "attempts_count:do_1": 2.0, "completedCount": 3.0}
    assert filled(agg, {"score:do_1": 7.5, "completedCount": 4.0}) == {
        "max_score:do_1": 10.0,
        "attempts_count:do_1": 2.0,
    }


def test_the_integers_where_they_are_more_than_the_attempts_give() -> None:
    """Perhaps the best attempt was archived, or another one."""
    better = {"score:do_1": 18, "max_score:do_1": 20, "score:do_2": 5}
    assert filled(better) == {"score:do_1": 18.0, "max_score:do_1": 20.0, "score:do_2": 5.0}
    more = {"score:do_1": 7, "max_score:do_1": 10, "attempts_count:do_1": 3}
    assert filled(more) == {"score:do_1": 7.5, "max_score:do_1": 10.0, "attempts_count:do_1": 3.0}
