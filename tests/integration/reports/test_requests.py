"""Job requests on real servers: what is run, what becomes of it, and what is in the table then."""

import asyncio
import os
import signal
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from common.config.loader import load
from local.config import REPOSITORY
from local.http_services import SEARCH, Switch
from local.postgres import Postgres
from reports.config import RequestsReportsConfig
from reports.job_requests import INVALID, JobRequest, ProcessedBatch, RequestOutcome
from reports.postgres import open_job_requests
from tests.support.reports import (
    CHANNEL,
    HIERARCHY_KEYSPACE,
    PROGRESS,
    QUESTION,
    RESPONSE,
    Course,
    JobRequests,
    Reports,
    scored,
    unzip,
)
from tests.support.waiting import TIMEOUT_SECONDS, wait_until


class TestJobRequests:
    def test_success(self, course: Course, reports: Reports, job_requests: JobRequests) -> None:
        course.create("quiz")
        asha = course.learner("asha", aggregates=scored(quiz=(7.5, 10)))
        course.attempt(asha, "quiz", "a1", question=[QUESTION])
        request_id = job_requests.submit({"batchId": course.batch_id})
        answers = job_requests.submit({"batchId": course.batch_id}, job_id=RESPONSE)
        started = datetime.now(UTC).replace(tzinfo=None)
        job_requests.run()
        row = job_requests[request_id]
        file = reports.path("progress", course.batch_id, "zip", request_id)
        path = str(file.relative_to(reports.folder))
        assert (row["status"], row["err_message"], row["download_urls"]) == ("SUCCESS", None, [path])
        assert row["iteration"] == 0
        assert row["processed_batches"] == [
            {"channel": CHANNEL, "batchId": course.batch_id, "filePath": path, "fileSize": file.stat().st_size}
        ]
        assert started <= row["dt_job_completed"] <= datetime.now(UTC).replace(tzinfo=None)
        assert row["execution_time"] >= 0
        assert row["dt_file_created"] is None
        assert [line["Total Score"] for line in unzip(file)] == ["75%"]
        assert job_requests.outcome(answers)[0] == "SUCCESS"
        (answer,) = unzip(reports.path("response", course.batch_id, "zip", answers))
        assert answer["Question Score"] == "1.5"

    def test_encrypted_where_the_request_has_a_key(
        self, course: Course, reports: Reports, job_requests: JobRequests
    ) -> None:
        course.create("quiz")
        asha = course.learner("asha")
        request_id = job_requests.submit({"batchId": course.batch_id}, encryption_key="secret")
        job_requests.run()
        file = reports.path("progress", course.batch_id, "zip", request_id)
        with zipfile.ZipFile(file) as archive, pytest.raises((RuntimeError, NotImplementedError)):
            archive.read(archive.namelist()[0])
        assert [row["User UUID"] for row in unzip(file, "secret")] == [asha]
        assert list(file.parent.iterdir()) == [file]

    def test_a_failed_batch_is_tried_again_and_the_others_are_not(
        self, course: Course, reports: Reports, job_requests: JobRequests
    ) -> None:
        course.create("quiz")
        course.learner("asha")
        broken = Course(course.session, course.users, course.relations, course.services, f"{course.course_id}-broken")
        broken.create("quiz")
        broken.insert(f"{HIERARCHY_KEYSPACE}.content_hierarchy", {"identifier": broken.course_id, "hierarchy": None})
        request_id = job_requests.submit({"batchFilter": [broken.batch_id, course.batch_id]})
        job_requests.run(code=1)
        message = f"No hierarchy found for the collection {broken.course_id}"
        assert job_requests.outcome(request_id) == ("FAILED", 1, message)
        assert job_requests.processed(request_id) == [course.batch_id]
        assert job_requests[request_id]["download_urls"] == []
        done = reports.path("progress", course.batch_id, "zip", request_id)
        first = done.stat()
        broken.insert(f"{HIERARCHY_KEYSPACE}.content_hierarchy", {"identifier": broken.course_id, "hierarchy": "{}"})
        job_requests.run()
        assert job_requests.outcome(request_id) == ("SUCCESS", 1, None)
        assert len(job_requests[request_id]["download_urls"]) == 2
        assert done.stat().st_ino == first.st_ino

    def test_no_more_than_three_tries(self, job_requests: JobRequests) -> None:
        request_id = job_requests.submit({"batchId": "b-unknown"})
        # Nothing is tried in the fourth run.
        for iteration, code in ((1, 1), (2, 1), (3, 1), (3, 0)):
            job_requests.run(code=code)
            assert job_requests.outcome(request_id) == ("FAILED", iteration, "No data found")

    def test_what_is_no_request(self, course: Course, job_requests: JobRequests) -> None:
        course.create("quiz")
        course.services.contents[course.course_id]["status"] = "Retired"
        retired = job_requests.submit({"batchId": course.batch_id})
        many = job_requests.submit({"batchFilter": [str(number) for number in range(101)]})
        nothing = job_requests.submit({})
        job_requests.run(code=1)
        too_many = "Number of batches in request exceeded. It should be within 100"
        assert job_requests.outcome(retired) == ("FAILED", 1, "The request is made for retired collection")
        assert job_requests.outcome(many) == ("FAILED", 1, too_many)
        assert job_requests.outcome(nothing) == ("FAILED", 1, INVALID)

    def test_an_id_that_leads_elsewhere(self, course: Course, job_requests: JobRequests, tmp_path: Path) -> None:
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id}, request_id="../../outside")
        job_requests.run(code=1)
        assert job_requests.outcome(request_id) == (
            "FAILED",
            1,
            "The id '../../outside' cannot be part of a file name",
        )
        assert not list(tmp_path.parent.glob("outside*"))

    def test_duplicates_get_the_outcome_of_the_first(
        self, course: Course, reports: Reports, job_requests: JobRequests
    ) -> None:
        course.create("quiz")
        data = {"batchId": course.batch_id}
        first, second = (job_requests.submit(data) for _ in range(2))
        other = job_requests.submit(data, requested_by="u-2")
        job_requests.run()
        copied = (
            "status",
            "download_urls",
            "dt_job_completed",
            "execution_time",
            "iteration",
            "err_message",
            "processed_batches",
        )
        assert [job_requests[second][column] for column in copied] == [job_requests[first][column] for column in copied]
        assert not reports.path("progress", course.batch_id, "zip", second).exists()
        assert job_requests[other]["download_urls"] != job_requests[first]["download_urls"]

    def test_duplicates_keep_the_number_of_their_own_tries(self, job_requests: JobRequests) -> None:
        first = job_requests.submit({"batchId": "b-unknown"}, iteration=2)
        second = job_requests.submit({"batchId": "b-unknown"})
        job_requests.run(code=1)
        assert [job_requests.outcome(each)[:2] for each in (first, second)] == [("FAILED", 3), ("FAILED", 1)]

    def test_a_channel_that_has_had_enough_waits_for_the_next_run(
        self, course: Course, job_requests: JobRequests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AGGREGATES__REQUESTS__BATCHES_LIMIT_PER_CHANNEL", "2")
        course.create("quiz")
        course.add_batch()
        course.add_batch()
        long = job_requests.submit({"batchFilter": course.batches})
        waiting = job_requests.submit({"batchId": course.batch_id})
        other = job_requests.submit({"batchId": course.batch_id}, requested_channel="other", requested_by="u-2")
        job_requests.run()
        assert (job_requests.outcome(long), job_requests.processed(long)) == (
            ("SUBMITTED", 0, None),
            course.batches[:2],
        )
        assert job_requests.outcome(waiting)[0] == "SUBMITTED"
        assert job_requests.outcome(other)[0] == "SUCCESS"
        job_requests.run()
        assert job_requests.outcome(long)[0] == job_requests.outcome(waiting)[0] == "SUCCESS"
        assert len(job_requests[long]["download_urls"]) == 3

    def test_one_of_several_runs_gets_a_request(self, job_requests: JobRequests) -> None:
        config = load(RequestsReportsConfig).postgres

        async def claims() -> list[bool]:
            async with open_job_requests(config) as one, open_job_requests(config) as other:
                (key,) = await one.free([PROGRESS], 3, None)
                assert await other.free([PROGRESS], 3, None) == [key]
                claimed = [await one.claim(key, 3) is not None, await other.claim(key, 3) is not None]
                assert await other.free([PROGRESS], 3, None) == []
                return claimed

        request_id = job_requests.submit({"batchId": "b"})
        assert asyncio.run(claims()) == [True, False]
        assert job_requests.outcome(request_id)[0] == "PROCESSING"

    def test_columns_that_are_unset_or_not_ours(self, course: Course, job_requests: JobRequests) -> None:
        course.create("quiz")
        data = {"batchId": course.batch_id}
        unset = job_requests.submit(data, iteration=None, processed_batches=None)
        strange = job_requests.submit(data, requested_by="u-2", processed_batches='[{"batchId": null}]')
        job_requests.run()
        assert [job_requests.outcome(each) for each in (unset, strange)] == [("SUCCESS", 0, None)] * 2
        assert job_requests.processed(strange) == [course.batch_id]

    def test_a_search(self, course: Course, job_requests: JobRequests) -> None:
        course.create("quiz")
        course.add_batch()
        course.services.contents[course.course_id]["channel"] = f"channel-of-{course.course_id}"
        request_id = job_requests.submit({"searchFilter": {"channel": f"channel-of-{course.course_id}"}})
        job_requests.run()
        assert job_requests.outcome(request_id)[0] == "SUCCESS"
        assert sorted(job_requests.processed(request_id)) == course.batches

    def test_only_the_requests_of_this_instance(
        self, course: Course, job_requests: JobRequests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AGGREGATES__REQUESTS__BATCH_NUMBER", "2")
        course.create("quiz")
        data = {"batchId": course.batch_id}
        ours = job_requests.submit(data, batch_number=2)
        theirs = [
            job_requests.submit(data, batch_number=1),
            job_requests.submit(data),
            job_requests.submit(data, batch_number=2, job_id=RESPONSE),
        ]
        job_requests.run("--job", PROGRESS)
        assert job_requests.outcome(ours)[0] == "SUCCESS"
        assert [job_requests.outcome(each)[0] for each in theirs] == ["SUBMITTED"] * 3

    def test_a_run_that_is_told_to_end_gives_its_request_back(
        self, course: Course, job_requests: JobRequests, variables: dict[str, str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        request_id, duplicate = (job_requests.submit({"batchId": course.batch_id}) for _ in range(2))
        course.services.switch(SEARCH, Switch(delay_ms=60_000))
        process = start_requests(tmp_path, variables)
        try:
            wait_until(lambda: job_requests.outcome(duplicate)[0] == "PROCESSING", "both requests are claimed")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
            course.services.switch(SEARCH, Switch())
        assert process.returncode == 1
        assert b"ended before all was done" in errors
        assert [job_requests.outcome(each) for each in (request_id, duplicate)] == [("SUBMITTED", 0, None)] * 2

    def test_requests_that_cannot_be_read(self, course: Course, job_requests: JobRequests) -> None:
        """PostgreSQL stores as json what no parser reads."""
        course.create("quiz")
        good = job_requests.submit({"batchId": course.batch_id})
        bad = [
            job_requests.submit_text('{"batchId": 1e999}'),
            job_requests.submit_text('{"batchId": "b", "note": "\\ud800"}'),
            job_requests.submit_text('{"batchId": "b", "note": ' + "[" * 1_500 + "]" * 1_500 + "}"),
        ]
        strange = job_requests.submit(
            {"batchId": course.batch_id},
            requested_by="u-2",
            processed_batches='[{"note": ' + "[" * 1_500 + "]" * 1_500 + "}]",
        )
        job_requests.run(code=1)
        assert [job_requests.outcome(each)[0] for each in (good, strange)] == ["SUCCESS"] * 2
        for request_id in bad:
            status, iteration, message = job_requests.outcome(request_id)
            assert (status, iteration) == ("FAILED", 1)
            assert message is not None and message.startswith("request_data cannot be read: ")

    def test_a_server_that_is_down_is_no_failure_of_the_request(
        self, course: Course, job_requests: JobRequests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AGGREGATES__HTTP__REQUEST_TIMEOUT_MS", "200")
        monkeypatch.setenv("AGGREGATES__HTTP__CALL_TIMEOUT_MS", "300")
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id})
        course.services.switch(SEARCH, Switch(status=503))
        try:
            for _ in range(4):
                job_requests.run(code=1)
                assert job_requests.outcome(request_id) == ("SUBMITTED", 0, None)
        finally:
            course.services.switch(SEARCH, Switch())
        job_requests.run()
        assert job_requests.outcome(request_id) == ("SUCCESS", 0, None)

    def test_a_folder_that_takes_no_file_is_no_failure_of_the_request(
        self, course: Course, job_requests: JobRequests, tmp_path: Path
    ) -> None:
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id})
        (tmp_path / PROGRESS).write_text("no folder")
        job_requests.run(code=1)
        assert job_requests.outcome(request_id) == ("SUBMITTED", 0, None)

    def test_batches_that_are_unknown_or_retired_are_named(self, course: Course, job_requests: JobRequests) -> None:
        course.create("quiz")
        retired = Course(course.session, course.users, course.relations, course.services, f"{course.course_id}-old")
        retired.create("quiz")
        course.services.contents[retired.course_id]["status"] = "Retired"
        request_id = job_requests.submit({"batchFilter": ["unknown", course.batch_id, retired.batch_id]})
        job_requests.run(code=1)
        message = (
            f"No data found for batch unknown,The request is made for retired collection, batch {retired.batch_id}"
        )
        assert job_requests.outcome(request_id) == ("FAILED", 1, message)
        assert job_requests.processed(request_id) == [course.batch_id]

    def test_another_channel_gets_its_own_file(
        self, course: Course, reports: Reports, job_requests: JobRequests
    ) -> None:
        """The same person asks for two organisations: the second must not get the learners of the first."""
        course.create("quiz")
        course.learner("theirs", aggregates={})
        ours = course.user("ours", rootorgid="us")
        course.enrol(ours)
        data = {"batchId": course.batch_id}
        owner, other = job_requests.submit(data), job_requests.submit(data, requested_channel="us")
        job_requests.run()
        assert len(unzip(reports.path("progress", course.batch_id, "zip", owner))) == 2
        (row,) = unzip(reports.path("progress", course.batch_id, "zip", other))
        assert row["User UUID"] == ours


class TestLeases:
    def test_a_run_that_is_told_to_end_between_two_claims(
        self, course: Course, job_requests: JobRequests, postgres: Postgres, variables: dict[str, str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        first, second = (job_requests.submit({"batchId": course.batch_id}, requested_by=f"u-{n}") for n in range(2))
        with psycopg.connect(**postgres.connection) as other:
            # The claim of the second request waits for this lock.
            other.execute("SELECT FROM dev_job_request WHERE request_id = %s FOR UPDATE", [second])
            process = start_requests(tmp_path, variables)
            try:
                wait_until(lambda: job_requests.outcome(first)[0] == "PROCESSING", "the first is claimed")
                process.send_signal(signal.SIGTERM)
                _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
            finally:
                process.kill()
        assert b"ended before all was done" in errors
        assert [job_requests.outcome(each)[0] for each in (first, second)] == ["SUBMITTED"] * 2

    def test_what_nobody_holds_is_taken_up(self, course: Course, job_requests: JobRequests) -> None:
        course.create("quiz")
        data = {"batchId": course.batch_id}
        without = job_requests.submit(data, status="PROCESSING")
        expired = job_requests.submit(
            data, status="PROCESSING", requested_by="u-2", lease_owner="dead", lease_expires=datetime(2024, 5, 14)
        )
        held = job_requests.submit(
            data, status="PROCESSING", requested_by="u-3", lease_owner="alive", lease_expires=datetime(2099, 5, 14)
        )
        other = job_requests.submit(data, status="PROCESSING", job_id="userinfo-exhaust")
        job_requests.run()
        statuses = [job_requests.outcome(each)[0] for each in (without, expired, held, other)]
        assert statuses == ["SUCCESS", "SUCCESS", "PROCESSING", "PROCESSING"]

    def test_what_another_run_has_finished_since_is_not_made_again(
        self, course: Course, reports: Reports, job_requests: JobRequests
    ) -> None:
        """The claim reads the row anew: between the list and the claim another run may have given the request back."""
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id})
        config = load(RequestsReportsConfig).postgres
        done = [ProcessedBatch(CHANNEL, course.batch_id, "elsewhere.zip", 1)]

        async def claim() -> JobRequest | None:
            async with open_job_requests(config) as one, open_job_requests(config) as other:
                (key,) = await one.free([PROGRESS], 3, None)
                assert await other.claim(key, 3)
                assert await other.save_processed(key, done)
                await other.give_back()
                return await one.claim(key, 3)

        claimed = asyncio.run(claim())
        assert claimed is not None and list(claimed.processed_batches) == done
        assert job_requests.processed(request_id) == [course.batch_id]

    def test_who_has_lost_the_lease_saves_nothing(self, job_requests: JobRequests) -> None:
        request_id = job_requests.submit({"batchId": "b"})
        config = load(RequestsReportsConfig).postgres

        async def overtake() -> list[bool]:
            async with open_job_requests(config) as slow, open_job_requests(config) as other:
                (key,) = await slow.free([PROGRESS], 3, None)
                assert await slow.claim(key, 3)
                job_requests.expire_leases()
                assert await other.free([PROGRESS], 3, None) == [key]
                assert await other.claim(key, 3)
                await slow.renew()
                outcome = RequestOutcome("SUCCESS", 0, download_urls=("slow.zip",))
                saved = [await slow.is_owned(key), await slow.save_processed(key, [])]
                saved.append(await slow.save_outcome(key, outcome))
                await slow.give_back()
                return saved

        assert asyncio.run(overtake()) == [False, False, False]
        row = job_requests[request_id]
        assert (row["status"], row["download_urls"], row["processed_batches"]) == ("PROCESSING", None, None)

    def test_a_long_scan_keeps_its_lease(
        self, course: Course, job_requests: JobRequests, variables: dict[str, str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id})
        course.services.switch(SEARCH, Switch(delay_ms=60_000))
        process = start_requests(tmp_path, variables | {"AGGREGATES__POSTGRES__LEASE_SECONDS": "3"})
        try:
            wait_until(lambda: job_requests[request_id]["lease_expires"] is not None, "the request is claimed")
            first = job_requests[request_id]["lease_expires"]
            wait_until(lambda: job_requests[request_id]["lease_expires"] > first, "the lease is renewed", 30)
        finally:
            process.kill()
            process.communicate()
            course.services.switch(SEARCH, Switch())

    def test_a_connection_that_is_lost_in_mid_run(
        self, course: Course, job_requests: JobRequests, variables: dict[str, str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id})
        course.services.switch(SEARCH, Switch(delay_ms=2_000))
        process = start_requests(tmp_path, variables)
        try:
            wait_until(lambda: job_requests.outcome(request_id)[0] == "PROCESSING", "the request is claimed")
            assert job_requests.end_connections() > 0
            _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
            course.services.switch(SEARCH, Switch())
        assert process.returncode == 0, errors
        assert job_requests.outcome(request_id) == ("SUCCESS", 0, None)

    def test_a_table_without_the_columns_of_the_lease(
        self, job_requests: JobRequests, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        job_requests.execute("CREATE TABLE IF NOT EXISTS old_job_request (tag text, request_id text)")
        monkeypatch.setenv("AGGREGATES__POSTGRES__TABLE", "old_job_request")
        job_requests.run(code=1)
        told = "the table old_job_request lacks lease_expires, lease_owner: apply schema/job_request.sql"
        assert told in capsys.readouterr().err
        monkeypatch.setenv("AGGREGATES__POSTGRES__TABLE", "no_job_request")
        job_requests.run(code=1)
        assert "PostgreSQL has no table no_job_request" in capsys.readouterr().err


class TestStatus:
    def test_counts_and_the_latest_requests(
        self, job_requests: JobRequests, reports: Reports, capsys: pytest.CaptureFixture[str]
    ) -> None:
        job_requests.submit({}, request_id="A1", status="FAILED", iteration=2, err_message="No [data] found")
        job_requests.submit(
            {}, request_id="A2", status="PROCESSING", lease_owner="host:1:x", lease_expires=datetime(2024, 5, 14)
        )
        job_requests.submit({}, request_id="A3", job_id="userinfo-exhaust")
        assert reports.run("status", "--limit", "1") == 0
        shown = capsys.readouterr().out
        assert "0 SUBMITTED, 1 PROCESSING, 0 SUCCESS, 1 FAILED" in shown
        assert "A2" in shown and "A1" not in shown and "A3" not in shown
        assert reports.run("status") == 0
        assert "[data]" in capsys.readouterr().out

    def test_watched_until_it_is_told_to_end(self, job_requests: JobRequests, variables: dict[str, str]) -> None:
        job_requests.submit({}, request_id="A1")
        process = subprocess.Popen(
            [sys.executable, "-m", "reports", "status", "--watch"],
            cwd=REPOSITORY,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            wait_until(job_requests.has_other_connections, "it has connected")
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
        assert (process.returncode, errors) == (0, b"")


def start_requests(folder: Path, variables: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "reports", "requests", "--out", str(folder)],
        cwd=REPOSITORY,
        env=os.environ | variables,
        stderr=subprocess.PIPE,
    )
