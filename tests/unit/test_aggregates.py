"""The merge of ``agg`` and ``aggregates``, the metric keys, the best score of a course."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.aggregates import (
    ATTEMPTS_COUNT,
    COMPLETED_COUNT,
    MAX_SCORE,
    SCORE,
    contents_of,
    context_id,
    merge,
    metric_key,
    overall_best_score,
    percent,
)

keys = st.sampled_from(["completedCount", "score:x", "max_score:x", "attempts_count:x"])
old_columns = st.none() | st.dictionaries(keys, st.integers(-(2**31), 2**31 - 1))
new_columns = st.none() | st.dictionaries(keys, st.floats(allow_nan=False))


@pytest.mark.parametrize(
    ("agg", "aggregates", "merged"),
    [
        ({"score:x": 7, "completedCount": 2}, {"score:x": 7.5}, {"score:x": 7.5, "completedCount": 2.0}),
        ({"score:x": 7}, {"score:x": 6.0}, {"score:x": 6.0}),
        ({"score:x": 7}, {"score:x": 0.0}, {"score:x": 0.0}),
        ({"score:x": 7}, None, {"score:x": 7.0}),
        ({"score:x": 7}, {}, {"score:x": 7.0}),
        (None, {"score:x": 7.5}, {"score:x": 7.5}),
        (None, None, {}),
        ({}, {}, {}),
    ],
)
def test_aggregates_are_laid_over_agg_key_by_key(
    agg: dict[str, int] | None, aggregates: dict[str, float] | None, merged: dict[str, float]
) -> None:
    assert merge(agg, aggregates) == merged


@given(old_columns, new_columns)
def test_aggregates_win(agg: dict[str, int] | None, aggregates: dict[str, float] | None) -> None:
    merged = merge(agg, aggregates)

    assert merged.keys() == (agg or {}).keys() | (aggregates or {}).keys()
    for key, value in merged.items():
        assert type(value) is float
        assert value == (aggregates or {}).get(key, (agg or {}).get(key))


def test_max_score_is_not_a_score_although_its_key_holds_that_text() -> None:
    aggregates = {"max_score:do_1": 10.0, "score:do_1": 7.5, "score:do_11": 3.0, "attempts_count:do_1": 2.0}

    assert contents_of(SCORE, aggregates) == {"do_1": 7.5, "do_11": 3.0}
    assert contents_of(MAX_SCORE, aggregates) == {"do_1": 10.0}
    assert contents_of(ATTEMPTS_COUNT, aggregates) == {"do_1": 2.0}
    assert contents_of(COMPLETED_COUNT, {COMPLETED_COUNT: 4.0}) == {}


@given(st.text(), st.floats(allow_nan=False))
def test_the_content_of_a_metric_key_is_found_again_whatever_its_id(content_id: str, value: float) -> None:
    assert contents_of(SCORE, {metric_key(SCORE, content_id): value}) == {content_id: value}


def test_context_id() -> None:
    assert context_id("0130929928739635200") == "cb:0130929928739635200"


@pytest.mark.parametrize(
    ("score", "max_score", "expected"),
    [(7.5, 10.0, 75.0), (0.0, 10.0, 0.0), (2.0, None, 200.0), (2.0, 0.0, 200.0), (7.0, 25.0, 28.0)],
)
def test_percent(score: float, max_score: float | None, expected: float) -> None:
    assert percent(score, max_score) == expected


@given(st.integers(1, 10_000), st.integers(0, 100), st.sampled_from([1, 2, 5, 10, 20, 25, 50, 100]))
def test_a_score_that_is_a_whole_percent_reaches_it(maximum: int, whole: int, divisor: int) -> None:
    """Scores and maxima with decimals, as an author gives them: 0.7 of 0.7, 2.55 of 3."""
    assert percent(maximum * whole / (100 * divisor), maximum / divisor) == whole


def test_the_best_score_of_a_course_is_that_of_its_best_content() -> None:
    assert overall_best_score({"do_1": 60.0, "do_2": 100.0, "do_3": 10.0}) == 100.0
    assert overall_best_score({}) == 0.0
