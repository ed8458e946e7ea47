"""Both reports and the job requests on real servers: Cassandra, Redis, PostgreSQL, a content search over HTTP."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
import pyzipper
import redis
from cassandra.cluster import Session
from psycopg.rows import dict_row

from common.config.loader import load
from local.config import REPOSITORY, Config
from local.http_services import SEARCH, HttpServices, Switch
from local.postgres import Postgres
from local.readers import report_environment
from local.world import World
from reports import __main__ as command
from reports.config import RequestsReportsConfig
from reports.exhaust import JOB_IDS
from reports.postgres import open_job_requests
from reports.requests import INVALID
from tests.support.waiting import wait_until

NOON = "2024-05-14 12:00:00.000Z"
HIERARCHY_KEYSPACE = "test_hierarchy_store"
PROGRESS, RESPONSE = JOB_IDS
CHANNEL = "owner"

Csv = list[dict[str, str]]


@pytest.fixture(scope="module")
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        yield services


@pytest.fixture(scope="module")
def user_database(world: World) -> Iterator["redis.Redis"]:
    with world.redis.client(db=12, decode_responses=True) as client:
        yield client


@pytest.fixture(scope="module")
def session(cassandra_session: Session) -> Session:
    cassandra_session.execute(
        f"CREATE KEYSPACE IF NOT EXISTS {HIERARCHY_KEYSPACE} "
        "WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    cassandra_session.execute(
        f"CREATE TABLE IF NOT EXISTS {HIERARCHY_KEYSPACE}.content_hierarchy "
        "(identifier text PRIMARY KEY, hierarchy text)"
    )
    cassandra_session.execute(
        "CREATE TABLE IF NOT EXISTS report_user_enrolments (batchid text, courseid text, userid text, active boolean, "
        "enrolled_date timestamp, enrolleddate text, completedon timestamp, contentstatus frozen<map<text, int>>, "
        "certificates frozen<list<frozen<map<text, text>>>>, issued_certificates "
        "frozen<list<frozen<map<text, text>>>>, PRIMARY KEY (batchid, courseid, userid))"
    )
    return cassandra_session


@dataclass
class Course:
    """A course with one batch at first, and everything that the reports read of it."""

    session: Session
    users: "redis.Redis"
    relations: "redis.Redis"
    services: HttpServices
    course_id: str
    batches: list[str] = field(default_factory=list)

    @property
    def batch_id(self) -> str:
        return self.batches[0]

    def content(self, name: str) -> str:
        return f"{self.course_id}-{name}"

    def insert(self, table: str, columns: Mapping[str, Any]) -> None:
        self.session.execute(f"INSERT INTO {table} JSON %s", [json.dumps(columns)])

    def create(self, *assessments: str, leaf_nodes: int = 4) -> None:
        """Its tree, its name in the search and its first batch."""
        children = [{"identifier": each, "contentType": "SelfAssess"} for each in assessments]
        tree = {"identifier": self.course_id, "leafNodesCount": leaf_nodes, "children": [{"children": children}]}
        columns = {"identifier": self.course_id, "hierarchy": json.dumps(tree)}
        self.insert(f"{HIERARCHY_KEYSPACE}.content_hierarchy", columns)
        self.services.contents[self.course_id] = {"name": "Roses", "channel": CHANNEL, "status": "Live"}
        self.add_batch()

    def add_batch(self) -> str:
        self.batches.append(f"{self.course_id}-b{len(self.batches)}")
        self.insert("course_batch", {"courseid": self.course_id, "batchid": self.batches[-1], "name": "May"})
        return self.batches[-1]

    def user(self, name: str, **fields: str | bytes) -> str:
        user_id = f"{self.course_id}-{name}"
        self.users.hset(f"user:{user_id}", mapping={"userid": user_id, "state": "Kerala", **fields})
        return user_id

    def enrol(self, user_id: str, batch_id: str | None = None, table: str = "user_enrolments", **columns: Any) -> None:
        key = {"userid": user_id, "courseid": self.course_id, "batchid": batch_id or self.batch_id}
        self.insert(table, {**key, "active": True, "enrolled_date": NOON, **columns})

    def learner(self, name: str, agg: Mapping[str, int] | None = None, aggregates: Any = None, **columns: Any) -> str:
        """An enrolled one with a row of aggregates, if either of its columns is given."""
        user_id = self.user(name)
        self.enrol(user_id, **columns)
        if agg is not None or aggregates is not None:
            self.insert(
                "user_activity_agg",
                {
                    "activity_type": "Course",
                    "activity_id": self.course_id,
                    "user_id": user_id,
                    "context_id": f"cb:{self.batch_id}",
                    "agg": agg,
                    "aggregates": aggregates,
                },
            )
        return user_id

    def attempt(self, user_id: str, content_id: str, attempt_id: str, **columns: Any) -> None:
        key = {"user_id": user_id, "course_id": self.course_id, "batch_id": self.batch_id}
        self.insert("assessment_aggregator", {**key, "content_id": content_id, "attempt_id": attempt_id, **columns})


@pytest.fixture
def course(
    session: Session,
    user_database: "redis.Redis",
    world: World,
    services: HttpServices,
    unique: str,
) -> Iterator[Course]:
    with world.redis.client(db=10) as relations:
        yield Course(session, user_database, relations, services, f"do_{unique}")


@pytest.fixture
def variables(world: World, services: HttpServices, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of the configuration, which is the checked-in one for these servers; set in this process."""
    variables = {
        **report_environment(world, services.base_url),
        # Not the demo's.
        "AGGREGATES__HIERARCHY_KEYSPACE": HIERARCHY_KEYSPACE,
        # Several pages in a batch of a handful of learners.
        "AGGREGATES__PAGE_SIZE": "2",
        "AGGREGATES__SCAN_RANGES": "3",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


class Reports:
    """The command line in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *arguments: str) -> int:
        return command.main(arguments)

    def of(self, kind: str, batch_id: str, *arguments: str) -> Csv:
        """The rows of one batch by user and question."""
        assert self.run(kind, "--batch", batch_id, "--out", str(self.folder), "--csv", *arguments) == 0
        return read_csv(self.path(kind, batch_id, "csv").read_bytes())

    def path(self, kind: str, batch_id: str, extension: str, request_id: str = "") -> Path:
        date = datetime.now(ZoneInfo("Asia/Kolkata")).strftime("%Y%m%d")
        return self.folder / f"{kind}-exhaust" / request_id / f"{batch_id}_{kind}_{date}.{extension}"


@pytest.fixture
def reports(tmp_path: Path, variables: dict[str, str]) -> Reports:
    return Reports(tmp_path)


def read_csv(data: bytes) -> Csv:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def by_user(rows: Csv) -> dict[str, dict[str, str]]:
    assert len({row["User UUID"] for row in rows}) == len(rows)
    return {row["User UUID"]: row for row in rows}


def scored(**contents: tuple[float, float]) -> dict[str, float]:
    """Aggregates with a score and a maximum for each content."""
    return {
        key: value
        for content, (score, max_score) in contents.items()
        for key, value in ((f"score:{content}", score), (f"max_score:{content}", max_score))
    }


class TestProgress:
    def test_both_columns_merged(self, course: Course, reports: Reports) -> None:
        """Points 1 to 4 and 12 of the parity checklist."""
        course.create("quiz")
        old = {"score:quiz": 7, "max_score:quiz": 10, "completedCount": 2}
        expected = {
            course.learner("new-over-old", agg=old, aggregates={"score:quiz": 7.5}): "75%",
            course.learner("new-is-lower", agg=old, aggregates={"score:quiz": 6.0}): "60%",
            course.learner("only-old", agg=old): "70%",
            course.learner("only-new", aggregates=scored(quiz=(7.5, 10))): "75%",
            course.learner("both-empty", agg={}, aggregates={}): "",
            course.learner("no-row"): "",
        }
        rows = by_user(reports.of("progress", course.batch_id))
        assert {user_id: row["quiz - Score"] for user_id, row in rows.items()} == expected
        assert {user_id: row["Total Score"] for user_id, row in rows.items()} == expected

    def test_several_contents(self, course: Course, reports: Reports) -> None:
        """Points 5 and 8: ids that are part of each other, contents that are no assessments, no maximum."""
        course.create("do_1", "do_11", "do_111")
        asha = course.learner("asha", aggregates=scored(do_1=(3, 5), do_11=(1, 1), do_111=(1, 10), do_2=(9, 9)))
        binu = course.learner("binu", aggregates={"score:do_1": 3.0})
        rows = by_user(reports.of("progress", course.batch_id))
        titles = [title for title in rows[asha] if title.endswith(" - Score")]
        assert titles == ["do_1 - Score", "do_11 - Score", "do_111 - Score"]
        assert [rows[asha][title] for title in (*titles, "Total Score")] == ["60%", "100%", "10%", "32%"]
        assert [rows[binu][title] for title in (*titles, "Total Score")] == ["", "", "", ""]

    def test_a_batch_without_any_aggregates(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        asha = course.learner("asha")
        (row,) = reports.of("progress", course.batch_id)
        assert row == {
            "Collection Id": course.course_id,
            "Collection Name": "Roses",
            "Batch Id": f"BatchId_{course.batch_id}",
            "Batch Name": "May",
            "User UUID": asha,
            "State": "Kerala",
            **dict.fromkeys(["District", "Org Name", "School Id", "School Name", "Block Name", "Cluster Name"], ""),
            **dict.fromkeys(["User Type", "User Sub Type", "Declared Board"], ""),
            "Enrolment Date": "14/05/2024",
            "Completion Date": "",
            "Certificate Status": "",
            "Progress": "0",
            "Total Score": "",
        }

    def test_who_is_listed(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        listed = {course.learner(f"learner-{number}") for number in range(11)}
        course.learner("ended", active=False)
        course.learner("never-active", active=None)
        course.learner("undated", enrolled_date=None)
        listed.add(course.learner("text-date", enrolled_date=None, enrolleddate="2024-05-14 09:12:44:310+0530"))
        listed.add(course.user("bytes", schoolname=b"\xff"))
        course.enrol(f"{course.course_id}-bytes")
        # Made by a content state update.
        phantom = course.user("phantom")
        course.insert(
            "user_enrolments",
            {
                "userid": phantom,
                "courseid": course.course_id,
                "batchid": course.batch_id,
                "lastreadcontentid": "quiz",
            },
        )
        course.enrol("without-a-hash")
        course.users.set(f"user:{course.course_id}-no-hash", "text")
        course.enrol(f"{course.course_id}-no-hash")
        course.enrol(course.user("elsewhere"), course.add_batch())
        assert by_user(reports.of("progress", course.batch_id)).keys() == listed

    def test_an_organisation_sees_its_own_learners(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        course.learner("theirs")
        ours = course.user("ours", rootorgid="us")
        course.enrol(ours)
        assert by_user(reports.of("progress", course.batch_id, "--channel", "us")).keys() == {ours}
        assert len(reports.of("progress", course.batch_id, "--channel", CHANNEL)) == 2

    def test_progress_of_learners(self, course: Course, reports: Reports) -> None:
        course.create("quiz", leaf_nodes=3)
        course.relations.sadd(f"{course.course_id}:{course.course_id}:optionalnodes", "optional")
        some = {"a": 2, "b": 2, "c": 1, "optional": 2}
        expected = {
            course.learner("two-of-three", contentstatus=some): ("67", "", ""),
            course.learner("done", completedon="2024-05-14 19:00:00.000Z"): ("100", "15/05/2024", ""),
            course.learner("certified", issued_certificates=[{"name": "x"}]): ("0", "", "Issued"),
        }
        rows = by_user(reports.of("progress", course.batch_id))
        titles = ("Progress", "Completion Date", "Certificate Status")
        assert {user_id: tuple(row[title] for title in titles) for user_id, row in rows.items()} == expected

    def test_of_the_copy_of_the_enrolments(
        self, course: Course, reports: Reports, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AGGREGATES__ENROLMENTS_TABLE", "report_user_enrolments")
        course.create("quiz")
        users = {course.user(f"learner-{number}") for number in range(5)}
        for user_id in users:
            course.enrol(user_id, table="report_user_enrolments", contentstatus={"quiz": 2})
        rows = by_user(reports.of("progress", course.batch_id))
        assert {user_id: row["Progress"] for user_id, row in rows.items()} == dict.fromkeys(users, "25")

    def test_chosen_columns(self, course: Course, reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AGGREGATES__PROGRESS_COLUMNS", "{status: Status, userid: User UUID}")
        course.create("quiz")
        user_id = course.user("asha", status="1")
        course.enrol(user_id)
        (row,) = reports.of("progress", course.batch_id)
        assert list(row.items()) == [("Status", "1"), ("User UUID", user_id)]

    def test_huge_texts(self, course: Course, reports: Reports) -> None:
        course.create("quiz")
        course.enrol(course.user("asha", schoolname="x" * 100_000))
        (row,) = reports.of("progress", course.batch_id)
        assert row["School Name"] == "x" * 100_000

    def test_all_batches_of_a_course_and_of_a_file(
        self, course: Course, reports: Reports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        course.create("quiz")
        course.add_batch()
        course.add_batch()
        assert reports.run("progress", "--course", course.course_id, "--out", str(tmp_path)) == 0
        assert all(reports.path("progress", each, "zip").exists() for each in course.batches)
        listed, unlisted = course.batches[:2], course.batches[2]
        (tmp_path / "batches").write_text("\n".join(listed))
        file, folder = str(tmp_path / "batches"), tmp_path / "of-file"
        assert reports.run("progress", "--batches", file, "--out", str(folder)) == 0
        assert len(list(folder.glob("progress-exhaust/*.zip"))) == len(listed)
        assert unlisted not in capsys.readouterr().err.partition(str(folder))[2]

    def test_what_cannot_be_reported(
        self, course: Course, reports: Reports, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        course.session.execute(
            f"DELETE FROM {HIERARCHY_KEYSPACE}.content_hierarchy WHERE identifier = %s", [course.course_id]
        )
        arguments = ["progress", "--batch", course.batch_id, "--out", str(tmp_path)]
        assert reports.run(*arguments) == 1
        assert f"No hierarchy found for the collection {course.course_id}" in capsys.readouterr().err
        course.services.contents[course.course_id]["status"] = "Retired"
        assert reports.run(*arguments) == 1
        assert "is retired or unknown" in capsys.readouterr().err
        assert reports.run("progress", "--batch", f"{course.batch_id}-x", "--out", str(tmp_path)) == 1
        assert f"There is no batch {course.batch_id}-x" in capsys.readouterr().err
        assert reports.run("progress", "--course", f"{course.course_id}-x", "--out", str(tmp_path)) == 1
        assert f"There is no batch of {course.course_id}-x" in capsys.readouterr().err
        assert reports.run(*arguments, "--course", f"{course.course_id}-x") == 1
        assert f"There is no batch {course.batch_id} of {course.course_id}-x" in capsys.readouterr().err
        assert reports.run("progress", "--batches", "/dev/null", "--out", str(tmp_path)) == 1
        assert "/dev/null names no batch" in capsys.readouterr().err
        assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")] == []

    def test_a_password(self, course: Course, reports: Reports, tmp_path: Path) -> None:
        course.create("quiz")
        user_id = course.learner("asha")
        (tmp_path / "password").write_text("secret\n")
        arguments = ["progress", "--batch", course.batch_id, "--out", str(tmp_path)]
        assert reports.run(*arguments, "--password-file", str(tmp_path / "password")) == 0
        assert {row["User UUID"] for row in unzip(reports.path("progress", course.batch_id, "zip"), "secret")} == {
            user_id
        }

    def test_a_server_that_is_down(
        self, reports: Reports, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AGGREGATES__CASSANDRA__PORT", "1")
        assert reports.run("progress", "--batch", "b", "--out", str(tmp_path)) == 1
        errors = capsys.readouterr().err
        assert "Cassandra" in errors
        assert "Traceback" not in errors


def unzip(file: Path, password: str | None = None) -> Csv:
    if password is None:
        with zipfile.ZipFile(file) as archive:
            (name,) = archive.namelist()
            return read_csv(archive.read(name))
    with pyzipper.AESZipFile(file) as encrypted:
        (name,) = encrypted.namelist()
        return read_csv(encrypted.read(name, password.encode()))


QUESTION = {
    "id": "q1",
    "assess_ts": NOON,
    "max_score": 2.0,
    "score": 1.5,
    "type": "mcq",
    "title": 'Which of these\nis a \\ "flower"?',
    "resvalues": [{"1": '{"text":"Rose"}'}],
    "params": [{"1": '{"text":"Rose"}'}, {"2": "line\nbreak"}],
    "description": "",
    "duration": 12.5,
}


class TestResponse:
    def test_question_scores_keep_decimals(self, course: Course, reports: Reports) -> None:
        """Point 9."""
        course.create()
        quiz = course.content("quiz")
        course.services.contents[quiz] = {"name": "Quiz", "status": "Live"}
        asha = course.learner("asha")
        course.attempt(asha, quiz, "a1", last_attempted_on=NOON, question=[QUESTION, {"id": "q2"}])
        first, second = reports.of("response", course.batch_id)
        assert first == {
            "Collection Id": course.course_id,
            "Collection Name": "Roses",
            "Batch Id": f"BatchId_{course.batch_id}",
            "Batch Name": "May",
            "User UUID": asha,
            "QuestionSet Id": quiz,
            "QuestionSet Title": "Quiz",
            "Attempt Id": "a1",
            "Attempted On": "2024-05-14T17:30:00.000+05:30",
            "Question Id": "q1",
            "Question Type": "mcq",
            "Question Title": QUESTION["title"],
            "Question Description": "",
            "Question Duration": "13",
            "Question Score": "1.5",
            "Question Max Score": "2.0",
            "Question Options": "[{'1':'{'text':'Rose'}'},{'2':'linebreak'}]",
            "Question Response": "[{'1':'{'text':'Rose'}'}]",
        }
        assert (second["Question Id"], second["Question Score"], second["Question Duration"]) == ("q2", "", "")

    def test_attempts_of_enrolled_learners_alone(self, course: Course, reports: Reports) -> None:
        course.create()
        asha = course.learner("asha")
        for number in range(5):  # more than a page
            course.attempt(asha, "do_unknown", f"a{number}", question=[{"id": f"q{number}"}])
        course.attempt(asha, "do_other", "empty")
        course.attempt(course.user("stranger"), "do_unknown", "a9", question=[QUESTION])
        course.learner("without-attempts")
        rows = reports.of("response", course.batch_id)
        assert [(row["QuestionSet Id"], row["Attempt Id"], row["Question Id"]) for row in rows] == [
            ("do_other", "empty", ""),
            *(("do_unknown", f"a{number}", f"q{number}") for number in range(5)),
        ]
        assert {(row["User UUID"], row["QuestionSet Title"], row["Attempted On"]) for row in rows} == {(asha, "", "")}


@pytest.fixture(scope="module")
def postgres(world_config: Config) -> Iterator[Postgres]:
    with Postgres(world_config) as postgres:
        with psycopg.connect(**postgres.connection) as connection:
            connection.execute((REPOSITORY / "schema" / "job_request.sql").read_text())
        yield postgres


class JobRequests:
    """The table, empty at first."""

    def __init__(self, connection: "psycopg.Connection[dict[str, Any]]", reports: Reports) -> None:
        self._connection = connection
        self._reports = reports
        self._submitted = 0
        connection.execute("TRUNCATE dev_job_request")

    def submit(self, data: Any, **columns: Any) -> str:
        """The id of a new request, younger than those before it."""
        self._submitted += 1
        row = {
            "tag": "course_batch:channel",
            "request_id": uuid.uuid4().hex.upper(),
            "job_id": PROGRESS,
            "status": "SUBMITTED",
            "request_data": json.dumps(data),
            "requested_by": "u-1",
            "requested_channel": CHANNEL,
            "dt_job_submitted": datetime(2024, 5, 14, 0, 0, self._submitted),
            **columns,
        }
        places = ", ".join(["%s"] * len(row))
        self._connection.execute(
            f"INSERT INTO dev_job_request ({', '.join(row)}) VALUES ({places})",
            list(row.values()),
        )
        return str(row["request_id"])

    def run(self, *arguments: str) -> None:
        assert self._reports.run("requests", "--out", str(self._reports.folder), *arguments) == 0

    def __getitem__(self, request_id: str) -> dict[str, Any]:
        row = self._connection.execute("SELECT * FROM dev_job_request WHERE request_id = %s", [request_id]).fetchone()
        assert row is not None
        return row

    def outcome(self, request_id: str) -> tuple[str, int | None, str | None]:
        row = self[request_id]
        return row["status"], row["iteration"], row["err_message"]

    def processed(self, request_id: str) -> list[str]:
        return [batch["batchId"] for batch in self[request_id]["processed_batches"] or []]


@pytest.fixture
def job_requests(
    postgres: Postgres, reports: Reports, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[JobRequests]:
    own = {
        "AGGREGATES__POSTGRES__HOST": "127.0.0.1",
        "AGGREGATES__POSTGRES__PORT": str(postgres.connection["port"]),
        "AGGREGATES__POSTGRES__DATABASE": "analytics",
        "AGGREGATES__POSTGRES__TABLE": "dev_job_request",
        "AGGREGATES__POSTGRES__USERNAME": "postgres",
    }
    variables |= own
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with psycopg.connect(**postgres.connection, autocommit=True, row_factory=dict_row) as connection:
        yield JobRequests(connection, reports)


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
        job_requests.run()
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
        for iteration in (1, 2, 3, 3):
            job_requests.run()
            assert job_requests.outcome(request_id) == ("FAILED", iteration, "No data found")

    def test_what_is_no_request(self, course: Course, job_requests: JobRequests) -> None:
        course.create("quiz")
        course.services.contents[course.course_id]["status"] = "Retired"
        retired = job_requests.submit({"batchId": course.batch_id})
        many = job_requests.submit({"batchFilter": [str(number) for number in range(101)]})
        nothing = job_requests.submit({})
        job_requests.run()
        too_many = "Number of batches in request exceeded. It should be within 100"
        assert job_requests.outcome(retired) == ("FAILED", 1, "The request is made for retired collection")
        assert job_requests.outcome(many) == ("FAILED", 1, too_many)
        assert job_requests.outcome(nothing) == ("FAILED", 1, INVALID)

    def test_an_id_that_leads_elsewhere(self, course: Course, job_requests: JobRequests, tmp_path: Path) -> None:
        course.create("quiz")
        request_id = job_requests.submit({"batchId": course.batch_id}, request_id="../../outside")
        job_requests.run()
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
        copied = ("status", "download_urls", "dt_job_completed", "execution_time", "iteration", "err_message")
        assert [job_requests[second][column] for column in copied] == [job_requests[first][column] for column in copied]
        assert not reports.path("progress", course.batch_id, "zip", second).exists()
        assert job_requests[other]["download_urls"] != job_requests[first]["download_urls"]

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

    def test_one_of_several_runs_gets_a_request(self, postgres: Postgres, job_requests: JobRequests) -> None:
        config = load(RequestsReportsConfig).postgres

        async def claims() -> list[bool]:
            async with open_job_requests(config) as one, open_job_requests(config) as other:
                (request,) = await one.fetch(PROGRESS, 3, None)
                return [await one.claim(request), await other.claim(request)]

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
            job_requests.submit(data, batch_number=2, status="PROCESSING"),
        ]
        job_requests.run("--job", PROGRESS)
        assert job_requests.outcome(ours)[0] == "SUCCESS"
        assert [job_requests.outcome(each)[0] for each in theirs] == [*["SUBMITTED"] * 3, "PROCESSING"]

    def test_a_run_that_is_told_to_end_gives_its_request_back(
        self, course: Course, job_requests: JobRequests, variables: dict[str, str], tmp_path: Path
    ) -> None:
        course.create("quiz")
        request_id, duplicate = (job_requests.submit({"batchId": course.batch_id}) for _ in range(2))
        course.services.switch(SEARCH, Switch(delay_ms=60_000))
        process = subprocess.Popen(
            [sys.executable, "-m", "reports", "requests", "--out", str(tmp_path)],
            cwd=REPOSITORY,
            env=os.environ | variables,
            stderr=subprocess.PIPE,
        )
        try:
            wait_until(lambda: job_requests.outcome(duplicate)[0] == "PROCESSING", "both requests are claimed", 60)
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
            course.services.switch(SEARCH, Switch())
        assert process.returncode == 1
        assert b"ended before all was done" in errors
        assert [job_requests.outcome(each) for each in (request_id, duplicate)] == [("SUBMITTED", 0, None)] * 2
