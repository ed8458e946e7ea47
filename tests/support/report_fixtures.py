"""Fixtures of the tests of the reports, on real servers: Cassandra, Redis, PostgreSQL, a content search over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from cassandra.cluster import Session
from psycopg.rows import dict_row

from local.config import REPOSITORY, Config
from local.http_services import HttpServices
from local.postgres import Postgres
from local.readers import report_environment
from local.world import World
from tests.support.reports import HIERARCHY_KEYSPACE, Course, JobRequests, Reports


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


@pytest.fixture
def reports(tmp_path: Path, variables: dict[str, str]) -> Reports:
    return Reports(tmp_path)


@pytest.fixture(scope="module")
def postgres(world_config: Config) -> Iterator[Postgres]:
    with Postgres(world_config) as postgres:
        with psycopg.connect(**postgres.connection) as connection:
            connection.execute((REPOSITORY / "schema" / "job_request.sql").read_text())
        yield postgres


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
