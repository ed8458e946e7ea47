"""``python -m desk check --all``: 100,000 learners with 5 contents each, against the plain read of the same rows."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

from benchmarks.http_services import HttpServices
from benchmarks.progress_report import MEASURED
from benchmarks.rows import aggregates, cassandra_config, open_cassandra, write_rows
from common.domain.aggregates import ACTIVITY_TYPE, COMPLETED_COUNT, context_id
from common.domain.attempts import AssessmentEvent
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_datetime
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Statement, Write, token_ranges
from desk.doctor.findings import read
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.rules import Attempt, Settings
from local import generator
from local.config import REPOSITORY
from local.generator import Course
from local.readers import desk_environment
from local.world import CASSANDRA, KAFKA, REDIS, World

SERVERS = frozenset({CASSANDRA, KAFKA, REDIS})
LEARNERS = int(os.environ.get("DESK_CHECK_LEARNERS", "100000"))
CONTENTS = 5
CHECKS = "scores,progress,certificates,cut,phantoms,times"
"""Without ``details``, which reads the questions of all attempts."""
PAGE_SIZE, SCAN_RANGES = 500, 64
"""Of the plain read, as in desk/config.yaml."""

_TIME_MS = 1_715_657_560_000
_ATTEMPT_ID = "attempt-1"


def run(world: World) -> None:
    """Prints time and memory of the check, and the ratio to the plain read. Raises RuntimeError for a finding."""
    course = generator.course(0, units=1, contents_per_unit=CONTENTS)
    world.publish_relations(course)
    services = HttpServices(world)
    services.start()
    try:
        asyncio.run(_prepare(world, course))
        seconds, cpu_seconds, peak_memory = _check(world, services.base_url)
    finally:
        services.stop()
    plain_seconds = asyncio.run(_plain(world, course))
    print(
        f"  check of {LEARNERS} learners with {CONTENTS} contents: {seconds:.1f} s "
        f"({LEARNERS / seconds:.0f} a second), {cpu_seconds:.1f} CPU-s, peak memory {peak_memory / 2**20:.0f} MiB"
    )
    print(f"    plain read of the same rows: {plain_seconds:.1f} s   ratio {seconds / plain_seconds:.2f}", flush=True)


def _check(world: World, http_services_url: str) -> tuple[float, float, int]:
    """Seconds, CPU seconds and bytes of peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        findings = Path(folder) / "findings.jsonl"
        arguments = ["check", "--all", "--checks", CHECKS, "--findings", str(findings)]
        started = time.perf_counter()
        measured = subprocess.run(
            [sys.executable, "-c", MEASURED, "-m", "desk", *arguments],
            env={**os.environ, **desk_environment(world, http_services_url)},
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            check=False,
        )
        seconds = time.perf_counter() - started
        if measured.returncode:
            raise RuntimeError(f"the check has ended with exit code {measured.returncode}")
        if (found := next(read(findings), None)) is not None:
            raise RuntimeError(f"nothing is wrong, but the check has found: {found}")
    cpu_seconds, peak_memory_kib = measured.stdout.split()[-2:]
    return seconds, float(cpu_seconds), int(peak_memory_kib) * 1024


async def _plain(world: World, course: Course) -> float:
    """Seconds in which the driver alone reads what the check reads, in the same pages."""
    cassandra = Cassandra(cassandra_config(world), Metrics())
    await cassandra.open()
    enrolments = await cassandra.prepare(
        "SELECT userid, courseid, batchid, active, status, enrolled_date, completedon, progress, contentstatus, "
        "issued_certificates FROM sunbird_courses.user_enrolments WHERE token(userid) > ? AND token(userid) <= ?"
    )
    contents = await cassandra.prepare(
        "SELECT contentid, status, viewcount, completedcount, WRITETIME(viewcount), WRITETIME(completedcount) "
        "FROM sunbird_courses.user_content_consumption WHERE userid = ? AND courseid = ? AND batchid = ?"
    )
    attempts = await cassandra.prepare(
        "SELECT content_id, attempt_id, last_attempted_on, created_on, total_score, total_max_score "
        "FROM sunbird_courses.assessment_aggregator WHERE user_id = ? AND course_id = ? AND batch_id = ?"
    )
    of_activity = await cassandra.prepare(
        "SELECT agg, aggregates, agg_last_updated, agg_details FROM sunbird_courses.user_activity_agg "
        "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?"
    )
    activities = (course.course_id, *(unit for unit, _ in course.units))
    found = 0
    started = time.perf_counter()
    for bounds in token_ranges(SCAN_RANGES):
        async for page in cassandra.pages(enrolments, bounds, PAGE_SIZE):
            keys = [row[:3] for row in page]
            await cassandra.read(contents, keys)
            await cassandra.read(attempts, keys)
            rows = [(ACTIVITY_TYPE, one, key[0], context_id(key[2])) for key in keys for one in activities]
            found += sum(map(len, await cassandra.read(of_activity, rows)))
    seconds = time.perf_counter() - started
    await cassandra.close()
    if found != LEARNERS * len(activities):
        raise RuntimeError(f"{found} rows of aggregates were read, not {LEARNERS * len(activities)}")
    return seconds


async def _prepare(world: World, course: Course) -> None:
    async with open_cassandra(world) as cassandra:
        prepare = cassandra.prepare
        statements = [
            await prepare(
                "INSERT INTO sunbird_courses.user_enrolments (userid, courseid, batchid, active, status, progress, "
                "completedon, contentstatus) VALUES (?, ?, ?, true, 2, ?, ?, ?)"
            ),
            await prepare(
                "INSERT INTO sunbird_courses.user_content_consumption (userid, courseid, batchid, contentid, status, "
                "viewcount, completedcount) VALUES (?, ?, ?, ?, 2, 1, 1)"
            ),
            await prepare(
                "INSERT INTO sunbird_courses.assessment_aggregator (user_id, course_id, batch_id, content_id, "
                "attempt_id, last_attempted_on, total_score, total_max_score) VALUES (?, ?, ?, ?, ?, ?, 7.5, 10)"
            ),
            await prepare(
                "INSERT INTO sunbird_courses.user_activity_agg (activity_type, activity_id, user_id, context_id, "
                "aggregates, agg_details) VALUES (?, ?, ?, ?, ?, ?)"
            ),
        ]
        await write_rows(cassandra, _writes(course, *statements))


def _writes(
    course: Course, enrolment: Statement, content: Statement, attempt: Statement, of_activity: Statement
) -> Iterator[list[Write]]:
    """All rows of each learner, as the jobs leave them: a completed course, with one attempt at its first content."""
    quiz, at = course.contents[0], to_datetime(_TIME_MS)
    details = _details(quiz)
    done = dict.fromkeys(course.contents, 2)
    metrics = aggregates(CONTENTS, {quiz: 7.5})
    for number in range(LEARNERS):
        key = (f"learner-{number}", course.course_id, course.batch_id)
        context = context_id(course.batch_id)
        yield [Write(enrolment, (*key, CONTENTS, at, done))]
        yield [Write(content, (*key, one)) for one in course.contents]
        yield [Write(attempt, (*key, quiz, _ATTEMPT_ID, at))]
        yield [Write(of_activity, (ACTIVITY_TYPE, course.course_id, key[0], context, metrics, details))]
        for unit, contents in course.units:
            count = {COMPLETED_COUNT: float(len(contents))}
            yield [Write(of_activity, (ACTIVITY_TYPE, unit, key[0], context, count, None))]


def _details(quiz: str) -> list[str]:
    attempt = Attempt(quiz, _ATTEMPT_ID, to_datetime(_TIME_MS), None, 7.5, 10.0)
    request = AssessmentEvent(EnrolmentKey("", "", ""), quiz, _TIME_MS, attempt=None)
    changes = rules.decide([attempt], [request], [], Settings("", UTC), _TIME_MS).aggregates
    assert changes is not None  # a recompute request is never stale
    return list(changes.agg_details)
