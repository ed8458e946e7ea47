"""Job requests: what is asked for, duplicates, limits, and what becomes of a try."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from reports.job_requests import (
    FAILED,
    INVALID,
    SUBMITTED,
    SUCCESS,
    JobRequest,
    ProcessedBatch,
    Quota,
    Selection,
    Try,
    group_duplicates,
    select,
)
from reports.model import ReportError

NOW = datetime(2024, 5, 14, 9, 0, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1.5)


def request(**changes: Any) -> JobRequest:
    values = {
        "tag": "course_b:channel",
        "request_id": "A1",
        "job_id": "progress-exhaust",
        "request_text": '{"batchId":"b"}',
        "requested_by": "u-1",
        "requested_channel": "channel",
        "encryption_key": None,
        "iteration": 0,
    }
    return JobRequest(**{**values, **changes})


def processed(batch_id: str, size: int = 10, channel: str = "channel") -> ProcessedBatch:
    return ProcessedBatch(channel, batch_id, f"progress-exhaust/A1/{batch_id}.zip", size)


class TestSelection:
    @pytest.mark.parametrize(
        ("data", "selection"),
        [
            ({"batchId": "b"}, Selection(["b"])),
            ({"batchId": "b", "batchFilter": ["c"]}, Selection(["b"])),
            ({"batchFilter": ["b", "c", "b"]}, Selection(["b", "c"])),
            ({"batchId": "", "batchFilter": ["b"]}, Selection(["b"])),
            ({"searchFilter": {"channel": "c"}}, Selection(search={"filters": {"channel": "c"}})),
            ({"searchFilter": {"request": {"filters": {}}}}, Selection(search={"filters": {}})),
        ],
    )
    def test_of_batches(self, data: Any, selection: Selection) -> None:
        assert select(request(request_text=json.dumps(data)), 3) == selection

    @pytest.mark.parametrize("channel", ["", "  "])
    def test_a_request_of_no_organisation_is_refused(self, channel: str) -> None:
        with pytest.raises(ReportError, match="no requested_channel"):
            select(request(requested_channel=channel), 3)

    @pytest.mark.parametrize(
        "data",
        [
            None,
            [],
            {},
            {"batchId": None},
            {"batchId": 1},
            {"batchFilter": []},
            {"batchFilter": [1]},
            {"searchFilter": {}},
        ],
    )
    def test_of_nothing(self, data: Any) -> None:
        with pytest.raises(ReportError) as error:
            select(request(request_text=json.dumps(data)), 3)
        assert str(error.value) == INVALID

    @pytest.mark.parametrize(
        "text",
        [
            '{"batchId": 1e999}',
            '{"batchId": "b", "note": "\\ud800"}',
            '{"batchId": "b", "note": ' + "[" * 5_000 + "]" * 5_000 + "}",
            "{",
        ],
    )
    def test_of_what_only_postgresql_takes_for_json(self, text: str) -> None:
        with pytest.raises(ReportError, match=r"^request_data cannot be read: "):
            select(request(request_text=text), 3)

    def test_of_too_many(self) -> None:
        data = {"batchFilter": ["a", "b", "c", "d"]}
        assert select(request(request_text=json.dumps(data)), 4).batch_ids == ["a", "b", "c", "d"]
        with pytest.raises(ReportError, match=r"^Number of batches in request exceeded. It should be within 3$"):
            select(request(request_text=json.dumps(data)), 3)


class TestDuplicates:
    def test_the_first_is_run_for_all(self) -> None:
        first, second, third = (request(request_id=each) for each in ("A1", "A2", "A3"))
        assert group_duplicates([first, second, third]) == [(first, [second, third])]

    def test_who_has_finished_batches_keeps_them(self) -> None:
        first, second, third = request(), request(processed_batches=(processed("a"),)), request(request_id="A3")
        assert group_duplicates([first, second, third]) == [(first, [third]), (second, [])]
        assert group_duplicates([second, first]) == [(second, []), (first, [])]

    @pytest.mark.parametrize(
        "change",
        [
            {"job_id": "response-exhaust"},
            {"request_text": '{"batchId":"c"}'},
            {"encryption_key": "secret"},
            {"requested_by": "u-2"},
            # The same person for another organisation, whose learners are others.
            {"requested_channel": "other"},
            {"encryption_key": "u-1", "requested_by": ""},
        ],
    )
    def test_who_asks_for_something_else(self, change: dict[str, Any]) -> None:
        assert [len(others) for _, others in group_duplicates([request(), request(**change)])] == [0, 0]


class TestQuota:
    def test_of_batches(self) -> None:
        quota = Quota(2, 1_000)
        assert [quota.reserve("channel") for _ in range(3)] == [True, True, False]
        assert quota.reserve("other")
        quota.release("channel")
        assert quota.reserve("channel")

    def test_of_bytes(self) -> None:
        quota = Quota(100, 1_000)
        quota.add_file("channel", 999)
        assert quota.allows_file("channel") and quota.reserve("channel")
        quota.add_file("channel", 1)
        assert not quota.allows_file("channel") and not quota.reserve("channel")
        assert quota.allows_file("other")


class TestTry:
    def test_success_has_the_files_of_all_tries(self) -> None:
        attempt = Try(request(iteration=1, processed_batches=(processed("a"),)), NOW)
        assert attempt.is_processed("a") and not attempt.is_processed("b")
        attempt.succeed(processed("b"))
        outcome = attempt.end(LATER)
        assert (outcome.status, outcome.iteration, outcome.err_message) == (SUCCESS, 1, None)
        assert outcome.download_urls == ("progress-exhaust/A1/a.zip", "progress-exhaust/A1/b.zip")
        assert (outcome.completed_at, outcome.execution_time_ms) == (LATER, 1_500)

    def test_failure_keeps_what_is_finished(self) -> None:
        attempt = Try(request(iteration=1), NOW)
        attempt.fail("first")
        attempt.succeed(processed("b"))
        attempt.fail("second")
        outcome = attempt.end(LATER)
        assert (outcome.status, outcome.iteration, outcome.err_message) == (FAILED, 2, "first,second")
        assert outcome.download_urls == ()
        assert attempt.processed == (processed("b"),)

    def test_a_long_message_is_cut(self) -> None:
        attempt = Try(request(), NOW)
        attempt.fail("x" * 400)
        assert attempt.end(LATER).err_message == "x" * 300

    def test_a_message_that_postgresql_would_refuse(self) -> None:
        attempt = Try(request(), NOW)
        attempt.fail("no \0 batch \ud800")
        assert attempt.end(LATER).err_message == "no  batch ?"

    def test_deferred(self) -> None:
        attempt = Try(request(iteration=2), NOW)
        attempt.succeed(processed("a"))
        attempt.defer()
        outcome = attempt.end(LATER)
        assert (outcome.status, outcome.iteration, outcome.completed_at) == (SUBMITTED, 2, None)
        assert (outcome.download_urls, outcome.processed_batches) == ((), (processed("a"),))

    def test_deferred_after_a_failure_is_a_failure(self) -> None:
        attempt = Try(request(), NOW)
        attempt.fail("first")
        attempt.defer()
        assert attempt.end(LATER).status == FAILED

    def test_an_interruption_is_no_failure(self) -> None:
        attempt = Try(request(iteration=2), NOW)
        attempt.fail("first")
        attempt.interrupt()
        outcome = attempt.end(LATER)
        assert (outcome.status, outcome.iteration, outcome.err_message) == (SUBMITTED, 2, None)
