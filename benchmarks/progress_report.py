"""The progress report of 100,000 learners against the plain read of its rows, and many batches against one.

The learners have 5 assessments each.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from benchmarks.http_services import HttpServices
from benchmarks.rows import aggregates, cassandra_config, open_cassandra, write_rows
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.events import to_datetime
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write, token_ranges
from local import generator
from local.config import REPOSITORY
from local.generator import Course
from local.readers import HIERARCHY_KEYSPACE, HIERARCHY_TABLES, report_environment
from local.world import CASSANDRA, REDIS, World
from reports.store import chunks

SERVERS = frozenset({CASSANDRA, REDIS})
LEARNERS = (10_000, 100_000)
"""Of each batch, so that the memory of both can be compared."""
ASSESSMENTS = 5
BATCHES, LEARNERS_OF_A_BATCH = 8, 500
"""Of a course that is reported batch by batch and as a whole."""
PAGE_SIZE, SCAN_RANGES = 250, 64
"""Of the plain read, as in reports/config.yaml."""

_FIRST_TIME_MS = 1_715_657_560_000

MEASURED = """
import os, sys
process = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(process, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""
"""Runs Python and prints CPU seconds and KiB of peak memory.

In a process of its own, which is small: a process that is started counts the memory of the one that started it.
"""


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    cpu_seconds: float
    peak_memory: int
    """Bytes."""
    rows: int


def run(world: World) -> None:
    """Prints time and memory of the report of each batch, and the ratio to the plain read."""
    services = HttpServices(world)
    services.start()
    try:
        for number, learners in enumerate(LEARNERS):
            course = generator.course(number, units=1, contents_per_unit=2 * ASSESSMENTS)
            asyncio.run(_prepare(world, course, learners))
            services.put("contents", {course.course_id: {"name": "A course", "status": "Live", "channel": "sunbird"}})
            report = _report(world, services.base_url, "--batch", course.batch_id)
            if report.rows != learners:
                raise RuntimeError(f"the report has {report.rows} learners, not {learners}")
            print(
                f"  {learners} learners: {report.seconds:.1f} s, {report.cpu_seconds:.1f} CPU-s, "
                f"peak memory {report.peak_memory / 2**20:.0f} MiB"
            )
            seconds = asyncio.run(_plain(world, course, learners))
            print(
                f"    plain read of the same rows: {seconds:.1f} s   ratio {report.seconds / seconds:.2f}", flush=True
            )
        _compare_scans(world, services)
    finally:
        services.stop()


def _compare_scans(world: World, services: HttpServices) -> None:
    """Prints what a batch costs alone, and with the other batches of its course in one run."""
    course = generator.course(len(LEARNERS), units=1, contents_per_unit=2 * ASSESSMENTS)
    services.put("contents", {course.course_id: {"name": "A course", "status": "Live", "channel": "sunbird"}})
    batches = [replace(course, batch_id=f"{course.batch_id}-{number}") for number in range(BATCHES)]
    for batch in batches:
        asyncio.run(_prepare(world, batch, LEARNERS_OF_A_BATCH))
    alone = [_report(world, services.base_url, "--batch", batch.batch_id) for batch in batches]
    together = _report(world, services.base_url, "--course", course.course_id)
    if together.rows != BATCHES * LEARNERS_OF_A_BATCH or sum(run.rows for run in alone) != together.rows:
        raise RuntimeError(f"the reports have {together.rows} and {sum(run.rows for run in alone)} learners")
    seconds = sum(run.seconds for run in alone)
    print(
        f"  {BATCHES} batches of {LEARNERS_OF_A_BATCH} learners beside {sum(LEARNERS)} others: {seconds:.1f} s one by "
        f"one, {together.seconds:.1f} s in one run   ratio {together.seconds / seconds:.2f}",
        flush=True,
    )


def _report(world: World, http_services_url: str, *chosen: str) -> _Run:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["progress", *chosen, "--out", folder, "--csv"]
        started = time.perf_counter()
        measured = subprocess.run(
            [sys.executable, "-c", MEASURED, "-m", "reports", *arguments],
            env={**os.environ, **report_environment(world, http_services_url)},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        seconds = time.perf_counter() - started
        if measured.returncode:
            raise RuntimeError(f"the report has ended with exit code {measured.returncode}")
        cpu_seconds, peak_memory_kib = measured.stdout.split()[-2:]
        rows = 0
        for file in Path(folder).rglob("*.csv"):
            with file.open() as lines:
                rows += sum(1 for _ in lines) - 1
    return _Run(seconds, float(cpu_seconds), int(peak_memory_kib) * 1024, rows)


async def _plain(world: World, course: Course, learners: int) -> float:
    """Seconds in which the driver alone reads the enrolments and the aggregates of the batch, as the report does."""
    cassandra = Cassandra(cassandra_config(world), Metrics())
    await cassandra.open()
    enrolments = await cassandra.prepare(
        "SELECT userid, active, enrolled_date, enrolleddate, completedon, contentstatus, certificates, "
        "issued_certificates FROM sunbird_courses.user_enrolments WHERE courseid = ? AND batchid = ? "
        "AND token(userid) > ? AND token(userid) <= ? ALLOW FILTERING"
    )
    read_aggregates = await cassandra.prepare(
        "SELECT agg, aggregates FROM sunbird_courses.user_activity_agg "
        "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
    )
    context = context_id(course.batch_id)
    found = 0
    started = time.perf_counter()
    for bounds in token_ranges(SCAN_RANGES):
        async for page in cassandra.pages(enrolments, (course.course_id, course.batch_id, *bounds), PAGE_SIZE):
            keys = [(ACTIVITY_TYPE, course.course_id, row[0], context) for row in page]
            found += sum(map(len, await cassandra.read(read_aggregates, keys)))
    seconds = time.perf_counter() - started
    await cassandra.close()
    if found != learners:
        raise RuntimeError(f"{found} learners were read, not {learners}")
    return seconds


async def _prepare(world: World, course: Course, learners: int) -> None:
    users = [f"user-{learners}-{number}" for number in range(learners)]
    async with open_cassandra(world) as cassandra:
        for statement in HIERARCHY_TABLES:
            await cassandra.read(await cassandra.prepare(statement), [()])
        for some in chunks(users, 10_000):
            await write_rows(cassandra, await _writes(cassandra, course, some))
    with world.redis.client(db=12) as profiles:
        pipeline = profiles.pipeline(transaction=False)
        for number, user_id in enumerate(users):
            pipeline.hset(f"user:{user_id}", mapping=_profile(user_id))
            if number % 1_000 == 0:
                pipeline.execute()
        pipeline.execute()


def _profile(user_id: str) -> Mapping[str, str]:
    return {
        "userid": user_id,
        "state": "Kerala",
        "district": "Ernakulam",
        "orgname": "Sunbird School",
        "schoolname": "Sunbird School",
        "usertype": "student",
        "board": '["State (Kerala)"]',
        "rootorgid": "sunbird",
    }


async def _writes(cassandra: Cassandra, course: Course, users: Sequence[str]) -> list[list[Write]]:
    batch = await cassandra.prepare(
        "INSERT INTO sunbird_courses.course_batch (courseid, batchid, name) VALUES (?, ?, 'A batch')"
    )
    hierarchy = await cassandra.prepare(
        f"INSERT INTO {HIERARCHY_KEYSPACE}.content_hierarchy (identifier, hierarchy) VALUES (?, ?)"
    )
    enrolment = await cassandra.prepare(
        "INSERT INTO sunbird_courses.user_enrolments (userid, courseid, batchid, active, enrolled_date, contentstatus) "
        "VALUES (?, ?, ?, true, ?, ?)"
    )
    add_aggregates = await cassandra.prepare(
        "INSERT INTO sunbird_courses.user_activity_agg (activity_type, activity_id, user_id, context_id, aggregates) "
        "VALUES (?, ?, ?, ?, ?)"
    )
    quizzes = course.contents[:ASSESSMENTS]
    tree = {
        "identifier": course.course_id,
        "leafNodesCount": len(course.contents),
        "children": [{"identifier": quiz, "contentType": "SelfAssess"} for quiz in quizzes],
    }
    metrics = aggregates(ASSESSMENTS, {quiz: 7.5 - number for number, quiz in enumerate(quizzes)})
    done = dict.fromkeys(quizzes, 2)
    at = to_datetime(_FIRST_TIME_MS)
    writes = [
        Write(batch, (course.course_id, course.batch_id)),
        Write(hierarchy, (course.course_id, msgspec.json.encode(tree).decode())),
    ]
    for user_id in users:
        writes.append(Write(enrolment, (user_id, course.course_id, course.batch_id, at, done)))
        writes.append(
            Write(add_aggregates, (ACTIVITY_TYPE, course.course_id, user_id, context_id(course.batch_id), metrics))
        )
    return [[write] for write in writes]
