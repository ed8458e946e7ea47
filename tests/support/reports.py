"""What the tests of the reports have in common: courses in the tables, the command, the table of job requests."""

import csv
import io
import json
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pyzipper
import redis
from cassandra.cluster import Session

from local.http_services import HttpServices
from reports import __main__ as command
from reports.writers import JOB_IDS

NOON = "2024-05-14 12:00:00.000Z"
HIERARCHY_KEYSPACE = "test_hierarchy_store"
PROGRESS, RESPONSE = JOB_IDS
CHANNEL = "owner"

Csv = list[dict[str, str]]

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
        """A submitted one, unless ``total_score`` is None."""
        key = {"user_id": user_id, "course_id": self.course_id, "batch_id": self.batch_id}
        row = {**key, "content_id": content_id, "attempt_id": attempt_id, "total_score": 1.5, **columns}
        self.insert("assessment_aggregator", row)


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


def unzip(file: Path, password: str | None = None) -> Csv:
    if password is None:
        with zipfile.ZipFile(file) as archive:
            (name,) = archive.namelist()
            return read_csv(archive.read(name))
    with pyzipper.AESZipFile(file) as encrypted:
        (name,) = encrypted.namelist()
        return read_csv(encrypted.read(name, password.encode()))


_OTHERS = "FROM pg_stat_activity WHERE application_name = 'sunbird-reports'"


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

    def run(self, *arguments: str, code: int = 0) -> None:
        assert self._reports.run("requests", "--out", str(self._reports.folder), *arguments) == code

    def submit_text(self, request_data: str) -> str:
        """With any text as its data."""
        request_id = self.submit({}, requested_by=f"u-{self._submitted}")
        self.execute("UPDATE dev_job_request SET request_data = %s WHERE request_id = %s", request_data, request_id)
        return request_id

    def execute(self, statement: str, *values: Any) -> None:
        self._connection.execute(statement, values)

    def expire_leases(self) -> None:
        self.execute("UPDATE dev_job_request SET lease_expires = now() - interval '1 second'")

    def record_ends(self) -> None:
        """From now on every change of a status to SUCCESS or FAILED is kept."""
        self.execute("DROP TABLE IF EXISTS request_ends CASCADE")
        self.execute("CREATE TABLE request_ends (number bigserial, request_id text, status text)")
        self.execute(
            "CREATE OR REPLACE FUNCTION record_end() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "INSERT INTO request_ends (request_id, status) VALUES (new.request_id, new.status); RETURN new; END $$"
        )
        self.execute(
            "CREATE OR REPLACE TRIGGER record_end AFTER UPDATE OF status ON dev_job_request FOR EACH ROW "
            "WHEN (new.status IN ('SUCCESS', 'FAILED')) EXECUTE FUNCTION record_end()"
        )

    def ends(self) -> dict[str, list[str]]:
        """The recorded statuses by request."""
        ends: dict[str, list[str]] = {}
        for row in self._connection.execute("SELECT request_id, status FROM request_ends ORDER BY number"):
            ends.setdefault(row["request_id"], []).append(row["status"])
        return ends

    def unfinished(self) -> list[str]:
        rows = self._connection.execute("SELECT request_id FROM dev_job_request WHERE status <> 'SUCCESS'").fetchall()
        return [row["request_id"] for row in rows]

    def end_connections(self) -> int:
        """Of everybody else to this database; how many there were."""
        return len(self._connection.execute(f"SELECT pg_terminate_backend(pid) {_OTHERS}").fetchall())

    def has_other_connections(self) -> bool:
        return bool(self._connection.execute(f"SELECT pid {_OTHERS}").fetchall())

    def __getitem__(self, request_id: str) -> dict[str, Any]:
        row = self._connection.execute("SELECT * FROM dev_job_request WHERE request_id = %s", [request_id]).fetchone()
        assert row is not None
        return row

    def outcome(self, request_id: str) -> tuple[str, int | None, str | None]:
        # Not the whole row: the client would read request_data as JSON.
        query = "SELECT status, iteration, err_message FROM dev_job_request WHERE request_id = %s"
        row = self._connection.execute(query, [request_id]).fetchone()
        assert row is not None
        return row["status"], row["iteration"], row["err_message"]

    def processed(self, request_id: str) -> list[str]:
        return [batch["batchId"] for batch in self[request_id]["processed_batches"] or []]
