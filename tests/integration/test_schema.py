"""`python -m schema apply` on a real Cassandra: fresh, again, and over a table from before the migration."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cassandra.cluster import Session

from common.config.model import CassandraConfig
from local.config import REPOSITORY, load_config
from local.world import CASSANDRA, World
from schema.apply import HERE, apply_schema, statements
from tests.support.cassandra_session import connect

TABLES = {"assessment_aggregator", "course_batch", "user_activity_agg", "user_content_consumption", "user_enrolments"}


@pytest.fixture(scope="module")
def cassandra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A node of our own: these tests drop the keyspace."""
    with World(load_config({}).isolated(tmp_path_factory.mktemp("schema")), {CASSANDRA}) as world:
        yield world


@pytest.fixture
def session(cassandra: World) -> Iterator[Session]:
    """Without the keyspace."""
    with connect(cassandra.cassandra, keyspace=None) as session:
        session.execute("DROP KEYSPACE IF EXISTS sunbird_courses")
        yield session


def apply(world: World, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schema", "apply", "--contact-points", "127.0.0.1"]
    command += ["--port", str(world.cassandra.port), *arguments]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def columns(session: Session, table: str, keyspace: str = "sunbird_courses") -> dict[str, str]:
    rows = session.execute(
        "SELECT column_name, type FROM system_schema.columns WHERE keyspace_name = %s AND table_name = %s",
        [keyspace, table],
    )
    return {row.column_name: row.type for row in rows}


def tables(session: Session) -> set[str]:
    rows = session.execute("SELECT table_name FROM system_schema.tables WHERE keyspace_name = 'sunbird_courses'")
    return {row.table_name for row in rows}


def replication(session: Session) -> dict[str, str]:
    query = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = 'sunbird_courses'"
    return dict(session.execute(query).one().replication)


def make_old_table(session: Session, keyspace: str = "sunbird_courses") -> None:
    """As it was before the migration, with a row that was written then."""
    for statement in statements((HERE / "sunbird_courses.cql").read_text().replace("sunbird_courses", keyspace)):
        session.execute(statement.replace("    aggregates map<text, double>,\n", ""))
    assert "aggregates" not in columns(session, "user_activity_agg", keyspace)
    session.execute(
        f"INSERT INTO {keyspace}.user_activity_agg (activity_type, activity_id, user_id, context_id, agg) "
        "VALUES ('Course', 'c', 'u', 'cb:b', {'score:x': 7})"
    )


def test_a_fresh_cluster_gets_everything_and_a_second_run_changes_nothing(cassandra: World, session: Session) -> None:
    first = apply(cassandra)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("created keyspace sunbird_courses, table assessment_aggregator")
    assert tables(session) == TABLES
    assert columns(session, "user_activity_agg")["aggregates"] == "map<text, double>"
    before = {table: columns(session, table) for table in TABLES}

    second = apply(cassandra)
    assert second.returncode == 0, second.stderr
    assert second.stdout == "keyspace, type and tables are there\nuser_activity_agg has the column aggregates\n"
    assert {table: columns(session, table) for table in TABLES} == before


def test_an_old_table_gets_the_column_and_keeps_its_rows(cassandra: World, session: Session) -> None:
    make_old_table(session)
    result = apply(cassandra)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "keyspace, type and tables are there\nadded the column aggregates to user_activity_agg\n"
    row = session.execute("SELECT agg, aggregates FROM sunbird_courses.user_activity_agg").one()
    assert (dict(row.agg), row.aggregates) == ({"score:x": 7}, None)

    session.execute(
        "UPDATE sunbird_courses.user_activity_agg SET aggregates = aggregates + {'score:x': 7.5} "
        "WHERE activity_type = 'Course' AND activity_id = 'c' AND user_id = 'u' AND context_id = 'cb:b'"
    )
    assert apply(cassandra).returncode == 0
    row = session.execute("SELECT agg, aggregates FROM sunbird_courses.user_activity_agg").one()
    assert (dict(row.agg), dict(row.aggregates)) == ({"score:x": 7}, {"score:x": 7.5})


def test_another_keyspace_gets_the_column_and_sunbird_courses_is_not_created(
    cassandra: World, session: Session
) -> None:
    make_old_table(session, "prod_courses")
    try:
        # Cassandra takes a name without quotes in lower case.
        result = apply(cassandra, "--keyspace", "Prod_Courses")
        assert result.returncode == 0, result.stderr
        assert result.stdout.endswith("added the column aggregates to user_activity_agg\n")
        assert columns(session, "user_activity_agg", "prod_courses")["aggregates"] == "map<text, double>"
        assert not tables(session)
    finally:
        session.execute("DROP KEYSPACE prod_courses")


async def test_runs_at_the_same_time_do_not_disturb_each_other(cassandra: World, session: Session) -> None:
    make_old_table(session)
    node = cassandra.cassandra
    config = CassandraConfig(contact_points=tuple(node.contact_points), port=node.port)

    said: list[str] = []
    await asyncio.gather(*(apply_schema(config, said.append) for _ in range(4)))
    assert said.count("added the column aggregates to user_activity_agg") == 1
    assert columns(session, "user_activity_agg")["aggregates"] == "map<text, double>"


def test_a_column_of_another_type_is_refused(cassandra: World, session: Session) -> None:
    make_old_table(session)
    session.execute("ALTER TABLE sunbird_courses.user_activity_agg ADD aggregates map<text, int>")
    result = apply(cassandra)
    assert result.returncode == 1
    assert "user_activity_agg.aggregates is map<text, int> and must be map<text, double>" in result.stderr


def test_replication_is_taken_for_a_fresh_keyspace_and_left_alone_on_an_old_one(
    cassandra: World, session: Session
) -> None:
    result = apply(cassandra, "--replication", '{"class": "NetworkTopologyStrategy", "datacenter1": 1}')
    assert result.returncode == 0, result.stderr
    chosen = {"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "datacenter1": "1"}
    assert replication(session) == chosen

    assert apply(cassandra).returncode == 0
    assert replication(session) == chosen


def test_what_is_wrong_with_the_arguments_is_said(cassandra: World, tmp_path: Path) -> None:
    arguments = {
        ("--replication", "{"): "not JSON",
        ("--replication", "{}"): 'must be an object with "class"',
        ("--username", "somebody"): "must be set together",
        ("--keyspace", "a.b"): "schema: keyspace String should match pattern",
        ("--tls",): f"Cassandra refuses this user or connection: TLS with 127.0.0.1:{cassandra.cassandra.port}: ",
        ("--username", "somebody", "--password-file", str(tmp_path / "missing")): "No such file",
    }
    with ThreadPoolExecutor() as threads:
        results = threads.map(lambda wrong: apply(cassandra, *wrong), arguments)
    for result, said in zip(results, arguments.values(), strict=True):
        assert result.returncode != 0
        assert said in result.stderr


def test_no_secret_is_ever_printed(cassandra: World) -> None:
    result = apply(
        cassandra, "--username", "somebody", "--tls", AGGREGATES__CASSANDRA__PASSWORD="geheim", PYTHONWARNINGS="error"
    )
    assert result.returncode == 1
    assert "geheim" not in result.stdout + result.stderr


def test_a_cluster_that_does_not_answer_is_an_error() -> None:
    (_, port), *_ = load_config({}).isolated(Path()).ports()
    result = subprocess.run(
        [sys.executable, "-m", "schema", "apply", "--contact-points", "127.0.0.1", "--port", str(port)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert "Connection refused" in result.stderr
