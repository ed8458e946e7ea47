"""Jobs that are submitted at the same time: all of them run, or none."""

from collections.abc import Iterable
from threading import Barrier

import pytest

from local.errors import LocalWorldError
from local.flink import submit_all


def refuse(_: Iterable[str]) -> None:
    raise AssertionError("there is nothing to cancel")


def test_all_submissions_run_at_the_same_time() -> None:
    both = Barrier(2, timeout=60)

    def submit(job: str) -> str:
        both.wait()
        return job

    assert submit_all({"a": lambda: submit("id-a"), "b": lambda: submit("id-b")}, refuse) == {"a": "id-a", "b": "id-b"}


def test_a_submission_that_fails_leaves_none_of_the_other_jobs_running() -> None:
    cancelled: list[str] = []

    def fail() -> str:
        raise LocalWorldError("jobs.b could not be submitted")

    with pytest.raises(LocalWorldError, match=r"jobs\.b could not be submitted"):
        submit_all({"a": lambda: "id-a", "b": fail, "c": lambda: "id-c"}, cancelled.extend)
    assert cancelled == ["id-a", "id-c"]
