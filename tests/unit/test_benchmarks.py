"""The command line of the benchmarks, and what they make of their samples."""

import pytest

from benchmarks import scala_jobs
from benchmarks.__main__ import DEFAULT_NAMES, parse_arguments
from benchmarks.measure import Sample, memory_by_quarter, percentile, steady_state
from benchmarks.soak import Progress, rates


def test_without_names_all_jobs_and_readers_are_measured() -> None:
    assert parse_arguments([]).names == list(DEFAULT_NAMES)


def test_names_are_measured_in_their_order() -> None:
    assert parse_arguments(["certificate", "assessment", "--events", "7"]).names == ["certificate", "assessment"]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_arguments(["certificate", "certificat"])

    assert "unknown certificat: choose from assessment, activity" in capsys.readouterr().err


def test_what_follows_two_dashes_starts_the_scala_job() -> None:
    command = ["java", "-cp", "a:b", "Main", "--config.file.path", "x.conf"]

    options = scala_jobs.parse_arguments(["certificate", "--events", "7", "--", *command])

    assert (options.name, options.events, options.command) == ("certificate", 7, command)


def at(seconds: float, done: int, cpu: float, memory: int) -> Sample:
    return Sample(seconds, done, {"job": cpu}, {"job": memory})


SAMPLES = [at(0, 0, 0, 10), at(5, 20, 4, 30), at(7, 60, 5, 20), at(10, 100, 8, 25)]


def test_the_steady_state_begins_once_so_many_events_are_done() -> None:
    steady = steady_state(SAMPLES, 20)

    assert (steady.events, steady.seconds, steady.rate) == (80, 5, 16)
    assert steady.cpu_ms == {"job": 50}
    assert steady.peak_memory == {"job": 30}


def test_memory_by_quarter_is_that_of_the_first_sample_after_each() -> None:
    assert memory_by_quarter(SAMPLES) == {"job": [20, 20, 25, 25]}


def test_a_percentile_lies_between_the_values() -> None:
    assert percentile([1.0, 2.0, 3.0], 50) == 2.0


def test_a_soak_has_the_rates_between_its_marks() -> None:
    marks = [Progress(0, {"a": 10, "b": 0}), Progress(2, {"a": 30, "b": 0}), Progress(6, {"a": 50, "b": 8})]

    assert rates(marks) == {"a": [10, 5], "b": [0, 2]}
