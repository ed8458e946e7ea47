"""What the Scala jobs would have written: truncated integers, and their keys in Redis."""

import math

import pytest

from jobs.go_back import COPIED, deduplication_key, integers_to_copy, main
from jobs.import_config import SCALA_TOPICS

ATTEMPTS = COPIED["assessment_aggregator"]


def test_scores_are_truncated() -> None:
    new = {"score:do_1": 7.5, "max_score:do_1": 10.0, "attempts_count:do_1": 3.0, "score:do_2": -0.5}
    assert integers_to_copy(ATTEMPTS, None, new) == {
        "score:do_1": 7,
        "max_score:do_1": 10,
        "attempts_count:do_1": 3,
        "score:do_2": 0,
    }


def test_only_what_differs_and_what_the_job_writes_is_copied() -> None:
    new = {"score:do_1": 7.5, "score:do_2": 4.0, "completedCount": 5.0}
    agg = {"score:do_1": 7, "score:do_2": 3}
    assert integers_to_copy(ATTEMPTS, agg, new) == {"score:do_2": 4}
    assert integers_to_copy(COPIED["activity_aggregate_updater"], agg, new) == {"completedCount": 5}


@pytest.mark.parametrize("value", [math.nan, math.inf, 2.0**31, -(2.0**40)])
def test_what_an_int_cannot_hold_is_left_out(value: float) -> None:
    assert integers_to_copy(ATTEMPTS, None, {"score:do_1": value}) == {}


def test_the_key_of_a_completion_is_that_of_the_scala_job() -> None:
    # printf 'do_1|b-1|u-1|do_2|2' | md5sum | tr a-z A-Z
    assert deduplication_key("do_1", "b-1", "u-1", "do_2") == "0871A9C76CF13C9927226F1C27B5EBB7"


def test_a_job_that_writes_no_rows_has_nothing_to_take_back() -> None:
    assert set(SCALA_TOPICS) - set(COPIED) == {"collection_cert_pre_processor"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--job", "collection_cert_pre_processor"], "invalid choice"),
        (["--job", "assessment_aggregator", "--deduplication-redis", "redis:6379/3"], "only the activity aggregate"),
        (["--job", "activity_aggregate_updater", "--deduplication-redis", "redis"], "is not HOST:PORT/DATABASE"),
        (["--job", "assessment_aggregator"], "cassandra.contact_points"),
    ],
)
def test_wrong_arguments_are_explained(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AGGREGATES__CASSANDRA__CONTACT_POINTS", raising=False)
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
