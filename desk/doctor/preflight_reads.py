"""Asks the servers what a preflight wants to know."""

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from common.config import loader
from common.config.model import JobConfig
from common.config.section import Section
from common.domain.events import Refused
from common.domain.faults import TaskFault, WorldFault
from common.domain.relations import leaf_nodes_key
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, StatementError, token_ranges
from common.servers.http import ApiClient
from common.servers.http_answers import Answer
from common.servers.redis import RedisClient
from desk.config import DeskConfig
from desk.doctor import preflight, preflight_kafka
from desk.doctor.job_files import desk_values, job_of
from desk.doctor.preflight import Level, Result, Table
from jobs import JOBS, config_class
from jobs.activity_aggregate_updater import relations
from jobs.collection_cert_pre_processor.answers import USER_FIELDS

FLINK = "2.3.0"
MAX_COURSES = 1_000
"""Courses with a running batch that are looked up."""
_TIMEOUT_SECONDS = 15.0
_NOBODY = "preflight"
"""An id that no user, content or course has. An API that works says so."""


async def run(config: DeskConfig, job_files: Sequence[Path] = ()) -> list[Result]:
    """All results, area by area. A server that does not answer is a result.

    ``job_files`` are the jobs' configuration files, each named after its job.
    """
    jobs = _jobs(job_files)
    results = _configuration(jobs, job_files)
    started = {name: job for name, job in jobs.items() if isinstance(job, JobConfig)}
    for area, read in (
        ("Kafka", partial(preflight_kafka.results, jobs=started)),
        ("Cassandra", _cassandra),
        ("Redis", _redis),
        ("APIs", _apis),
        ("Flink", _flink),
    ):
        try:
            results += await read(config)
        except (WorldFault, TaskFault, StatementError) as fault:
            results.append(Result(Level.FAIL, area, str(fault)))
    return results


def variables_of_the_desk(environ: Mapping[str, str]) -> dict[str, str]:
    """Without the variables that only jobs know: a preflight is run with theirs, and the desk would refuse them.

    The variable of ``kafka.group_id`` stays, so that it is refused: each job has a group of its own, and the desk has
    ``kafka.group_ids`` for them.
    """
    of_jobs = {variable for name in JOBS for variable in _variables(config_class(name))}
    refused_if_unknown = _variables(DeskConfig) | {loader.variable(("kafka", "group_id"))}
    return {name: value for name, value in environ.items() if name in refused_if_unknown or name not in of_jobs}


def _variables(config: type[Section]) -> set[str]:
    return {loader.variable(location) for location, _ in loader.fields(config)}


def _jobs(job_files: Sequence[Path]) -> dict[str, JobConfig | loader.ConfigError]:
    """Each job with those of the variables here that it knows: it refuses others, and the desk has some of its own."""
    file_of = {job_of(file): file for file in job_files}
    found: dict[str, JobConfig | loader.ConfigError] = {}
    for name in JOBS:
        job = config_class(name)
        known = _variables(job)
        try:
            variables = {key: value for key, value in os.environ.items() if key in known}
            found[name] = loader.load(job, file_of.get(name), variables)
        except loader.ConfigError as error:
            found[name] = error
    return found


def _configuration(jobs: Mapping[str, JobConfig | loader.ConfigError], job_files: Sequence[Path]) -> list[Result]:
    results = []
    for name, job in jobs.items():
        if isinstance(job, loader.ConfigError):
            problems = " ".join(str(job).split())
            results.append(Result(Level.FAIL, "Configuration", f"{name} would not start: {problems}"))
        else:
            results.append(Result(Level.OK, "Configuration", f"{name} has all keys that it needs"))
    _, differences = desk_values(job_files)
    return results + [Result(Level.WARN, "Configuration", difference) for difference in differences]


@asynccontextmanager
async def _session(config: DeskConfig) -> AsyncIterator[Cassandra]:
    cassandra = Cassandra(config.cassandra, Metrics())
    try:
        await cassandra.open()
        yield cassandra
    finally:
        await cassandra.close()


async def _cassandra(config: DeskConfig) -> list[Result]:
    keyspace = config.cassandra.keyspace
    async with _session(config) as cassandra:
        of_keyspace = await cassandra.prepare(
            "SELECT table_name, column_name, kind, position FROM system_schema.columns WHERE keyspace_name = ?"
        )
        (columns,) = await cassandra.read(of_keyspace, [(keyspace.lower(),)])
        type_of_keyspace = await cassandra.prepare(
            "SELECT field_names, field_types FROM system_schema.types "
            "WHERE keyspace_name = ? AND type_name = 'question'"
        )
        (types,) = await cassandra.read(type_of_keyspace, [(keyspace.lower(),)])
        ((version,),) = await cassandra.execute("SELECT release_version FROM system.local")
        tables_of_system = await cassandra.prepare(
            "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ?"
        )
        (of_system,) = await cassandra.read(tables_of_system, [("system",)])
        differences: dict[str, int] = {}
        unreachable = []
        for node in await cassandra.nodes():
            try:
                differences[node] = await _clock_difference_ms(cassandra, node)
            except WorldFault as fault:
                unreachable.append(Result(Level.WARN, "Clocks", str(fault)))
    results = list(preflight.cassandra(keyspace, _tables(columns), str(version)))
    if columns:
        results.append(preflight.question_type(dict(zip(*types[0], strict=True)) if types else {}))
    # Cassandra has no such table; YugabyteDB shows its tablets there.
    if ("partitions",) in {tuple(row) for row in of_system}:
        results.append(Result(Level.FAIL, "Cassandra", "this is YugabyteDB, which is not supported"))
    return [*results, *unreachable, preflight.clocks(differences)]


async def _clock_difference_ms(cassandra: Cassandra, node: str) -> int:
    """How far a node's clock is ahead of the clock here; 0 if the time that the question took explains it."""
    before = time.time_ns() // 1_000_000
    ((node_ms,),) = await cassandra.execute("SELECT toUnixTimestamp(now()) FROM system.local", node=node)
    after = time.time_ns() // 1_000_000
    return 0 if before <= node_ms <= after else int(node_ms) - (before + after) // 2


def _tables(columns: Iterable[Any]) -> dict[str, Table]:
    by_table: dict[str, list[tuple[str, str, int]]] = {}
    for table, column, kind, position in columns:
        by_table.setdefault(table, []).append((column, kind, position))

    def key_of(found: list[tuple[str, str, int]], kind: str) -> tuple[str, ...]:
        return tuple(name for name, is_kind, _ in sorted(found, key=lambda one: one[2]) if is_kind == kind)

    return {
        table: Table([name for name, _, _ in found], (key_of(found, "partition_key"), key_of(found, "clustering")))
        for table, found in by_table.items()
    }


async def _redis(config: DeskConfig) -> list[Result]:
    courses: dict[str, None] = {}
    async with _session(config) as cassandra:
        batches = await cassandra.prepare(
            f"SELECT courseid, status FROM {config.cassandra.keyspace}.course_batch "
            "WHERE token(courseid) > ? AND token(courseid) <= ?"
        )
        for bounds in token_ranges(config.scan_ranges):
            async for rows in cassandra.pages(batches, bounds, config.page_size):
                courses.update(dict.fromkeys(course_id for course_id, status in rows if status == 1))
            if len(courses) >= MAX_COURSES:
                break
    redis = RedisClient(config.redis, config.redis.relation_database)
    try:
        await redis.open()
        looked_up = list(courses)[:MAX_COURSES]
        sets = await redis.sets([leaf_nodes_key(course_id, course_id) for course_id in looked_up])
    finally:
        await redis.close()
    without = [
        course_id
        for course_id in looked_up
        if isinstance(found := sets[leaf_nodes_key(course_id, course_id)], Refused) or not found
    ]
    return [preflight.redis(len(looked_up), without)]


async def _apis(config: DeskConfig) -> list[Result]:
    def client(name: str, url: str) -> ApiClient:
        return ApiClient(name, url, config.http, Metrics())

    user = client("user_read", f"{config.learner_base_url}/private/user/v1/read/")
    content = client("content_read", f"{config.content_base_url}/content/v3/read/")
    search = client("search", config.search_api)
    asked: list[tuple[str, ApiClient, Callable[[], Awaitable[Answer]], Callable[[Answer], bool]]] = [
        ("user read", user, lambda: user.get(_NOBODY, USER_FIELDS), preflight.reads_users),
        ("content read", content, lambda: content.get(_NOBODY), preflight.reads_contents),
        ("search", search, lambda: search.post(relations.search_request(_NOBODY)), preflight.searches),
    ]
    results = []
    for name, api, ask, works in asked:
        try:
            answer = await ask()
            results.append(preflight.api(name, answer, works(answer)))
        except WorldFault as fault:
            results.append(Result(Level.FAIL, "APIs", f"the {name} API does not answer: {fault}"))
        finally:
            await api.close()
    return results


async def _flink(config: DeskConfig) -> list[Result]:
    if config.flink_url is None:
        return [Result(Level.WARN, "Flink", "flink_url is not set, so the cluster was not looked at")]
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def get(path: str) -> Any:
                async with session.get(f"{config.flink_url}{path}") as answer:
                    answer.raise_for_status()
                    return await answer.json()

            overview, entries = await get("/overview"), await get("/jobmanager/config")
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        raise WorldFault(f"{config.flink_url}: {error or type(error).__name__}") from error
    configuration = {entry["key"]: entry["value"] for entry in entries}
    return list(preflight.flink(configuration, overview["flink-version"], overview["slots-available"], FLINK))
