"""Whether everything is ready for a switch-over from the Scala jobs, a line for each check.

The servers are read in ``preflight_reads``; what is made of the answers is decided here. Pure.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter
from typing import TYPE_CHECKING

from common.domain import questions
from common.domain.events import Refused
from common.domain.native_protocol import shown_fields
from jobs import JOBS
from jobs.activity_aggregate_updater import relations

if TYPE_CHECKING:
    from common.servers.http_answers import Answer


class Level(StrEnum):
    """``FAIL``: a switch-over cannot work. ``WARN``: somebody has to look."""

    OK = "OK"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a check. ``what`` says what was found and, unless all is well, what to do."""

    level: Level
    area: str
    what: str

    def __str__(self) -> str:
        return f"{self.level:4}  {self.area}: {self.what}"


# Cassandra ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its columns, and its key as (partition key, clustering columns)."""

    columns: Collection[str]
    key: tuple[tuple[str, ...], tuple[str, ...]]


COLUMNS: Mapping[str, Collection[str]] = {
    "user_enrolments": [
        "active",
        "status",
        "progress",
        "contentstatus",
        "completedon",
        "datetime",
        "issued_certificates",
    ],
    "user_content_consumption": ["status", "viewcount", "completedcount"],
    "assessment_aggregator": [
        "created_on",
        "last_attempted_on",
        "total_score",
        "total_max_score",
        "grand_total",
        "question",
    ],
    "user_activity_agg": ["agg", "aggregates", "agg_last_updated", "agg_details"],
    "course_batch": ["cert_templates", "name"],
}
"""The columns that the jobs and readers need, beside the key."""

KEYS: Mapping[str, Collection[tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "user_enrolments": [(("userid",), ("courseid", "batchid"))],
    "user_content_consumption": [(("userid",), ("courseid", "batchid", "contentid"))],
    "assessment_aggregator": [
        (("user_id", "course_id"), ("batch_id", "content_id", "attempt_id")),
        (("course_id",), ("batch_id", "user_id", "content_id", "attempt_id")),
        (("course_id", "batch_id"), ("user_id", "content_id", "attempt_id")),
    ],
    "user_activity_agg": [
        (("activity_type", "activity_id", "user_id"), ("context_id",)),
        (("activity_type", "activity_id"), ("context_id", "user_id")),
    ],
    "course_batch": [(("courseid",), ("batchid",))],
}
"""The primary keys that Sunbird's deployments have."""

OF_SPARK = {"collectionid", "contextid", "collection_id"}
"""Key columns that Sunbird Spark has renamed. ``context_id`` is a column of ``user_activity_agg`` in both."""


def cassandra(keyspace: str, tables: Mapping[str, Table], version: str) -> Iterator[Result]:
    """The tables of the keyspace by name."""
    yield Result(Level.OK, "Cassandra", f"version {version}")
    if "hierarchy_relations" in tables:
        what = "table hierarchy_relations exists: this is Sunbird Spark, which is not supported"
        yield Result(Level.FAIL, "Cassandra", what)
    if not tables:
        yield Result(Level.FAIL, "Cassandra", f"keyspace {keyspace} does not exist or is empty")
        return
    for name, columns in COLUMNS.items():
        yield from _table(name, tables.get(name), columns)


def _table(name: str, table: Table | None, columns: Collection[str]) -> Iterator[Result]:
    if table is None:
        yield Result(Level.FAIL, "Cassandra", f"table {name} does not exist: run python -m schema apply")
        return
    key = {*table.key[0], *table.key[1]}
    if renamed := sorted(key & OF_SPARK):
        what = f"table {name} has the key columns {', '.join(renamed)} of Sunbird Spark, which is not supported"
        yield Result(Level.FAIL, "Cassandra", what)
        return
    missing = sorted(set(columns).difference(table.columns))
    shown = f"(({', '.join(table.key[0])}), {', '.join(table.key[1])})"
    if missing == ["aggregates"]:
        what = f"table {name} has no column aggregates: run python -m schema apply"
        yield Result(Level.FAIL, "Cassandra", what)
    elif missing:
        yield Result(Level.FAIL, "Cassandra", f"table {name} lacks {', '.join(missing)}")
    elif table.key not in KEYS[name]:
        yield Result(Level.FAIL, "Cassandra", f"table {name} has an unknown primary key: {shown}")
    elif name == "user_activity_agg" and "user_id" not in table.key[0]:
        what = f"table {name}, key {shown}: the services do not start, because they read all batches of a learner"
        yield Result(Level.WARN, "Cassandra", what)
    else:
        yield Result(Level.OK, "Cassandra", f"table {name}, key {shown}")


def question_type(fields: Mapping[str, str]) -> Result:
    """The type ``question``: the CQL type of each field, in their order. Empty if there is no such type."""
    unfrozen = {name: re.sub(r"frozen<(.+)>(?=>)", r"\1", cql) for name, cql in fields.items()}
    if questions.COLUMN.fits(unfrozen):
        return Result(Level.OK, "Cassandra", "type question")
    what = "does not exist: run python -m schema apply"
    if fields:
        expected = shown_fields(questions.COLUMN.fields)
        what = f"has the fields ({shown_fields(unfrozen)}), and must begin with ({expected})"
    return Result(Level.FAIL, "Cassandra", f"type question {what}")


def clocks(differences_ms: Mapping[str, int]) -> Result:
    """How far the nodes' clocks are from the clock of this machine, in ms by the node's address."""
    node, worst = max(((node, abs(difference)) for node, difference in differences_ms.items()), key=itemgetter(1))
    what = f"the clock of {node} is {worst} ms away from the clock here"
    if worst > 10_000:
        return Result(
            Level.FAIL, "Clocks", f"{what}: writes of one would cover those of another. Synchronise them (NTP)"
        )
    if worst > 1_000:
        return Result(Level.WARN, "Clocks", f"{what}: check NTP")
    return Result(Level.OK, "Clocks", f"{len(differences_ms)} Cassandra node(s), at most {worst} ms away from here")


# Redis, APIs, Flink, configuration ------------------------------------------------------------------------------------


def redis(courses: int, without: Sequence[str]) -> Result:
    """The relation cache: how many courses of running batches, and those that have no leaf nodes in it."""
    if not courses:
        return Result(Level.WARN, "Redis", "there is no running batch whose course could be looked up")
    if without:
        level = Level.FAIL if len(without) == courses else Level.WARN
        what = f"{len(without)} of {courses} courses with a running batch have no leaf nodes: {', '.join(without[:5])}"
        return Result(level, "Redis", f"{what}. Their events would go to the failed topic: publish them again")
    return Result(Level.OK, "Redis", f"the leaf nodes of {courses} courses with a running batch are there")


def api(name: str, answer: "Answer", works: bool) -> Result:
    """What an API has answered about an id that does not exist, and whether that is the answer of one that works."""
    if works:
        return Result(Level.OK, "APIs", f"the {name} API answers")
    what = f"the {name} API answered {answer.status} {answer.at('responseCode') or ''}".rstrip()
    return Result(Level.FAIL, "APIs", f"{what}: check its address, and whether the jobs may ask it from here")


def reads_users(answer: "Answer") -> bool:
    """Whether the user read API has looked for the user. The 404 of a gateway has no ``responseCode``."""
    is_gateways = answer.status == 404 and answer.at("responseCode") is None
    return answer.status not in (401, 403) and not is_gateways


def reads_contents(answer: "Answer") -> bool:
    """Whether the content read API has looked for the content."""
    return answer.is_sunbirds


def searches(answer: "Answer") -> bool:
    """Whether the job could use the answer of the search API."""
    return not isinstance(relations.course_status("", answer), Refused)


def flink(configuration: Mapping[str, str], version: str, slots: int, wanted_version: str) -> Iterator[Result]:
    """The cluster: its configuration by key, and the slots that are free."""
    wanted = wanted_version.rpartition(".")[0]
    if version.rpartition(".")[0] != wanted:
        yield Result(Level.FAIL, "Flink", f"version {version}: the jobs are built for {wanted}")
    else:
        yield Result(Level.OK, "Flink", f"version {version}")
    if slots < len(JOBS):
        yield Result(Level.WARN, "Flink", f"{slots} free slots: {len(JOBS)} jobs need at least one each")
    else:
        yield Result(Level.OK, "Flink", f"{slots} free slots")
    folder = configuration.get("execution.checkpointing.dir") or configuration.get("state.checkpoints.dir")
    if not folder:
        what = "execution.checkpointing.dir is not set: after a restart a job would not know where it was"
        yield Result(Level.FAIL, "Flink", what)
    else:
        yield Result(Level.OK, "Flink", f"checkpoints in {folder}")
