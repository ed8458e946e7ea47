"""The response report with attempts that were archived, in a real S3 server."""

import logging
import socket
from collections.abc import Iterator

import pytest

from tests.support.archive import COLUMNS, csv_file, csv_gz_file, row
from tests.support.object_storage import CREDENTIALS, bucket_of, s3_server
from tests.support.reports import NOON, QUESTION, RESPONSE, Course, JobRequests, Reports

Attempt = tuple[str, str, str, str]
"""Of a row: user, attempt, question, score."""


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


class Archive:
    """The folder ``archival-data`` of a bucket, and a course whose attempts are in it."""

    def __init__(self, endpoint: str, course: Course) -> None:
        self._bucket = bucket_of(endpoint, "lake")
        self.course = course

    def row(self, user_id: str, attempt_id: str, *questions: str, **columns: object) -> dict[str, str]:
        asked = [{**QUESTION, "id": question, "score": 1.0} for question in questions]
        values = {"attempt_id": attempt_id, "content_id": "do_quiz", "question": asked, **columns}
        return row(user_id, self.course.course_id, self.course.batch_id, **values)

    def put(self, name: str, content: bytes, folder: str | None = None) -> None:
        folder = folder or f"{self.course.batch_id}_{self.course.course_id}"
        self._bucket.put_object(Key=f"archival-data/{folder}/{name}", Body=content)


@pytest.fixture
def archive(endpoint: str, course: Course, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AGGREGATES__ARCHIVED_ATTEMPTS__URL", "s3://lake/archival-data")
    for name, value in {"endpoint": endpoint, "timeout_seconds": "5", **CREDENTIALS}.items():
        monkeypatch.setenv(f"AGGREGATES__OBJECT_STORAGE__{name.upper()}", value)
    course.create()
    return Archive(endpoint, course)


def shown(course: Course, reports: Reports, *arguments: str) -> list[Attempt]:
    rows = reports.of("response", course.batch_id, *arguments)
    return sorted((row["User UUID"], row["Attempt Id"], row["Question Id"], row["Question Score"]) for row in rows)


def test_archived_and_stored_attempts(archive: Archive, reports: Reports) -> None:
    course = archive.course
    asha, ravi = course.learner("asha"), course.learner("ravi")
    stranger = course.user("stranger")
    course.attempt(asha, "do_quiz", "both", last_attempted_on=NOON, question=[QUESTION])
    course.attempt(asha, "do_quiz", "stored", question=[QUESTION])
    archive.put(
        "2024-20-1.csv.gz",
        csv_gz_file(
            csv_file([archive.row(asha, "both", "q1", "q2"), archive.row(asha, "old", "q1", "q2")]),
            csv_file([archive.row(stranger, "a1", "q1")]).split(b"\n", 1)[1],
        ),
    )
    archive.put("2024-9-2.csv", csv_file([archive.row(ravi, "twice", "first")], COLUMNS[::-1]))
    # Of an older release, and a later week.
    archive.put(
        "2024-21-3.csv",
        csv_file([archive.row(ravi, "twice", "second"), archive.row(ravi, "draft", "q1", total_score=None)]),
        course.batch_id,
    )
    archive.put("2024-20-1.txt", b"no archive")
    # Of another batch whose id begins with the same characters.
    archive.put("2024-20-1.csv", csv_file([archive.row(asha, "other", "q1")]), f"{course.batch_id}x")
    assert shown(course, reports) == [
        (asha, "both", "q1", "1.5"),
        (asha, "old", "q1", "1.0"),
        (asha, "old", "q2", "1.0"),
        (asha, "stored", "q1", "1.5"),
        (ravi, "twice", "second", "1.0"),
    ]


def test_cells_are_those_of_stored_attempts(archive: Archive, reports: Reports) -> None:
    course = archive.course
    asha = course.learner("asha")
    course.attempt(asha, "do_quiz", "a1", last_attempted_on=NOON, question=[QUESTION])
    (stored,) = reports.of("response", course.batch_id)
    archive.put("2024-20-1.csv.gz", csv_gz_file(csv_file([archive.row(asha, "a2", "q1", question=[QUESTION])])))
    _, archived = reports.of("response", course.batch_id)
    assert archived == {**stored, "Attempt Id": "a2"}


def test_learners_of_another_organisation(archive: Archive, reports: Reports) -> None:
    course = archive.course
    mine, theirs = course.user("mine", rootorgid="mine"), course.user("theirs", rootorgid="theirs")
    ended = course.learner("ended", active=False)
    for user_id in (mine, theirs):
        course.enrol(user_id)
    archive.put("2024-20-1.csv", csv_file([archive.row(each, "a1", "q1") for each in (mine, theirs, ended)]))
    assert shown(course, reports, "--channel", "mine") == [(mine, "a1", "q1", "1.0")]
    assert [user for user, *_ in shown(course, reports)] == sorted([mine, theirs])


def test_without_a_folder(archive: Archive, reports: Reports) -> None:
    course = archive.course
    asha = course.learner("asha")
    course.attempt(asha, "do_quiz", "a1", question=[QUESTION])
    assert shown(course, reports) == [(asha, "a1", "q1", "1.5")]


def test_rows_that_cannot_be_read(archive: Archive, reports: Reports, caplog: pytest.LogCaptureFixture) -> None:
    course = archive.course
    asha = course.learner("asha")
    rows = [
        archive.row(asha, "a1", "q1"),
        archive.row(asha, "a2", total_score="ten"),
        archive.row(asha, "a3", question="[{"),
        archive.row(asha, "a4", "q1"),
    ]
    archive.put("2024-20-1.csv", csv_file(rows))
    with caplog.at_level(logging.WARNING, "reports"):
        assert [attempt for _, attempt, *_ in shown(course, reports)] == ["a1", "a4"]
    file = f"{course.batch_id}_{course.course_id}/2024-20-1.csv"
    first, second, total = [each.getMessage() for each in caplog.records if each.name.startswith("reports")]
    assert first == f"archived attempt left out: {file} line 3: total_score is no number: 'ten'"
    assert second.startswith(f"archived attempt left out: {file} line 4: The questions of attempt a3 cannot be read")
    assert total == f"2 archived rows of batch {course.batch_id} are left out of a report"


@pytest.mark.parametrize("cut", [slice(None, -9), slice(3, None)])
def test_a_file_that_cannot_be_read(archive: Archive, reports: Reports, job_requests: JobRequests, cut: slice) -> None:
    """Nobody knows which attempts would be missing, so there is no report. The batch is named, no server."""
    course = archive.course
    archive.put("2024-20-1.csv.gz", csv_gz_file(csv_file([archive.row(course.learner("asha"), "a1", "q1")]))[cut])
    request_id = job_requests.submit({"batchId": course.batch_id}, job_id=RESPONSE)
    job_requests.run(code=1)
    status, iteration, message = job_requests.outcome(request_id)
    assert (status, iteration) == ("FAILED", 1)
    file = f"{course.batch_id}_{course.course_id}/2024-20-1.csv.gz"
    assert (message or "").startswith(f"The archived attempts in {file} cannot be read: ")
    assert [file for file in reports.folder.rglob("*") if file.is_file()] == []


def test_a_server_that_is_down(
    archive: Archive, reports: Reports, job_requests: JobRequests, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Costs no try; the next run makes the report."""
    course = archive.course
    asha = course.learner("asha")
    archive.put("2024-20-1.csv", csv_file([archive.row(asha, "a1", "q1")]))
    request_id = job_requests.submit({"batchId": course.batch_id}, job_id=RESPONSE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AGGREGATES__OBJECT_STORAGE__ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AGGREGATES__OBJECT_STORAGE__TIMEOUT_SECONDS", "1")
    job_requests.run(code=1)
    assert job_requests.outcome(request_id) == ("SUBMITTED", 0, None)
    monkeypatch.setenv("AGGREGATES__OBJECT_STORAGE__ENDPOINT", endpoint)
    job_requests.run()
    assert job_requests.outcome(request_id)[0] == "SUCCESS"
    assert reports.path("response", course.batch_id, "zip", request_id).exists()


def test_the_progress_report_reads_no_archive(
    archive: Archive, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGGREGATES__ARCHIVED_ATTEMPTS__URL", "s3://nowhere")
    asha = archive.course.learner("asha")
    assert [line["User UUID"] for line in reports.of("progress", archive.course.batch_id)] == [asha]
    assert reports.run("response", "--batch", archive.course.batch_id, "--out", str(reports.folder)) == 1
