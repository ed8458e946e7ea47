"""Creates the tables and adds the column `aggregates`. A second run changes nothing.

It works on an empty cluster, on one that has the tables, and on one whose `user_activity_agg` does not have the new
column yet. Rows are never changed: the column is null in existing rows.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from common.config.model import CassandraConfig
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Row, StatementError

HERE = Path(__file__).parent
_KEYSPACE_OF_FILES = "sunbird_courses"
_TABLE = "user_activity_agg"
_COLUMN = "aggregates"
_COLUMN_TYPE = "map<text, double>"

AGREEMENT_TIMEOUT_SECONDS = 30.0
_AGREEMENT_POLL_SECONDS = 0.2


class SchemaError(Exception):
    """The schema is wrong and this command cannot repair it. The message says what to do."""


async def apply_schema(config: CassandraConfig, report: Callable[[str], None], replication: str | None = None) -> None:
    """Creates what is missing in `config.keyspace`, adds the column `aggregates`, and tells `report` each step.

    `replication` is a CQL map such as `{'class': 'NetworkTopologyStrategy', 'dc1': 3}`. It is only used if the keyspace
    does not exist yet. Raises SchemaError if the column has another type, or if the nodes do not agree on the schema
    in time. Raises StatementError if the cluster rejects a statement, WorldFault if no node answers, TaskFault if the
    nodes refuse this user.
    """
    cassandra = Cassandra(config, Metrics())
    try:
        await cassandra.open()
        # As Cassandra stores a name without quotes, and as its system tables have it.
        keyspace = config.keyspace.lower()
        await _create(cassandra, keyspace, replication, report)
        await _migrate(cassandra, keyspace, report)
    finally:
        await cassandra.close()


def statements(cql: str) -> list[str]:
    """Splits CQL into its statements. Comments must be on their own lines."""
    code = "\n".join(line for line in cql.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in code.split(";") if statement.strip()]


async def _create(cassandra: Cassandra, keyspace: str, replication: str | None, report: Callable[[str], None]) -> None:
    create_keyspace, *create_rest = _statements_of("sunbird_courses.cql", keyspace)
    if replication is not None:
        create_keyspace = f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}"
    before = await _objects(cassandra, keyspace)
    # A user of the keyspace often lacks the permission to create keyspaces, which IF NOT EXISTS also requires.
    for statement in create_rest if f"keyspace {keyspace}" in before else (create_keyspace, *create_rest):
        await _execute(cassandra, statement)
        # The next statement may reach any node, so all nodes must know the new keyspace or type first.
        await _wait_for_agreement(cassandra)
    created = sorted(await _objects(cassandra, keyspace) - before)
    report(f"created {', '.join(created)}" if created else "keyspace, type and tables are there")


async def _migrate(cassandra: Cassandra, keyspace: str, report: Callable[[str], None]) -> None:
    if await _has_column(cassandra, keyspace):
        report(f"{_TABLE} has the column {_COLUMN}")
        return
    (add_column,) = _statements_of("add_aggregates.cql", keyspace)
    try:
        await _execute(cassandra, add_column)
    except StatementError:
        # Another run may have added it meanwhile. Not all versions of Cassandra support ADD IF NOT EXISTS.
        if not await _has_column(cassandra, keyspace):
            raise
        report(f"{_TABLE} has the column {_COLUMN}, which another run has just added")
        return
    await _wait_for_agreement(cassandra)
    report(f"added the column {_COLUMN} to {_TABLE}")


def _statements_of(file: str, keyspace: str) -> list[str]:
    return statements((HERE / file).read_text(encoding="utf-8").replace(_KEYSPACE_OF_FILES, keyspace))


async def _has_column(cassandra: Cassandra, keyspace: str) -> bool:
    rows = await _execute(
        cassandra,
        "SELECT type FROM system_schema.columns "
        f"WHERE keyspace_name = '{keyspace}' AND table_name = '{_TABLE}' AND column_name = '{_COLUMN}'",
    )
    if not rows:
        return False
    ((found,),) = rows
    if found != _COLUMN_TYPE:
        raise SchemaError(f"{keyspace}.{_TABLE}.{_COLUMN} is {found} and must be {_COLUMN_TYPE}: drop or rename it")
    return True


async def _objects(cassandra: Cassandra, keyspace: str) -> set[str]:
    found = set()
    for kind, table, column in (
        ("keyspace", "keyspaces", "keyspace_name"),
        ("type", "types", "type_name"),
        ("table", "tables", "table_name"),
    ):
        query = f"SELECT {column} FROM system_schema.{table} WHERE keyspace_name = '{keyspace}'"
        found |= {f"{kind} {name}" for (name,) in await _execute(cassandra, query)}
    return found


async def _wait_for_agreement(cassandra: Cassandra) -> None:
    deadline = time.monotonic() + AGREEMENT_TIMEOUT_SECONDS
    # One node for both tables: it has itself in the one and all others in the other.
    node, *_ = await cassandra.nodes()
    while True:
        versions = {
            version
            for table in ("local", "peers")
            for (version,) in await _execute(cassandra, f"SELECT schema_version FROM system.{table}", node)
        }
        if len(versions) == 1:
            return
        if time.monotonic() > deadline:
            raise SchemaError(
                f"the nodes hold {len(versions)} versions of the schema after {AGREEMENT_TIMEOUT_SECONDS:g} s: "
                "see `nodetool describecluster`; run this again when all nodes are up"
            )
        await asyncio.sleep(_AGREEMENT_POLL_SECONDS)


async def _execute(cassandra: Cassandra, cql: str, node: str | None = None) -> list[Row]:
    return await cassandra.execute(cql, AGREEMENT_TIMEOUT_SECONDS, node)
