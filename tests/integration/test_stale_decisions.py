"""A worker that stands still between a read and its write must not cover what its successor has written meanwhile."""

import asyncio
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from common.config.loader import load
from common.flink.pauses import task_clock
from common.metrics import Metrics
from jobs import JOBS, config_class
from jobs.assessment_aggregator import rules
from local.config import REPOSITORY
from local.world import World
from tests.support.assessment import Learner
from tests.support.frozen_worker import JOB_CLASSES
from tests.support.strategies import T0, JsonObject
from tests.support.tables import Tables

MAX_PAUSE_MS = 1_000
ASSESSMENT, ACTIVITY = "assessment_aggregator", "activity_aggregate_updater"


def environment(world: World, name: str, max_pause_ms: int) -> dict[str, str]:
    return world.job_environment(JOBS[name]) | {"AGGREGATES__RETRY__MAX_PAUSE_MS": str(max_pause_ms)}


@asynccontextmanager
async def running(world: World, name: str, max_pause_ms: int = MAX_PAUSE_MS) -> AsyncIterator[Any]:
    job = JOB_CLASSES[name](load(config_class(name), environ=world.job_environment(JOBS[name])))
    try:
        await job.open(Metrics(), task_clock(max_pause_ms / 1000))
        yield job
    finally:
        await job.close()


async def apply(job: Any, *events: JsonObject) -> None:
    await job.apply_batch([job.decode(json.dumps(event).encode(), T0) for event in events])


def below_a_task_manager(folder: Path, worker: Sequence[str]) -> list[str]:
    """A command whose process stands for a TaskManager. It starts a script, which starts the worker."""
    shell = Path("/bin/bash").resolve()
    task_manager = folder / "java"
    task_manager.symlink_to(shell)
    # A shell replaces itself by its last command, hence the command behind it.
    script = [str(shell), "-c", f"{shlex.join(worker)}; true"]
    return [str(task_manager), "-c", f"{shlex.join(script)}; true"]


async def pause_worker(
    world: World,
    name: str,
    events: Sequence[JsonObject],
    max_pause_ms: int,
    folder: Path | None = None,
    killed: int | None = None,
) -> list[str]:
    """A process has read for the first event when it is stopped. A successor applies all; then the process goes on.

    With ``folder`` it is started by a TaskManager and its script, of which the one with the number ``killed`` is killed
    meanwhile. Returns what the worker says about the first and the second event, which it had not begun.
    """
    command = [sys.executable, "-m", "tests.support.frozen_worker", name, *map(json.dumps, events[:2])]
    started = await asyncio.create_subprocess_exec(
        *(command if folder is None else below_a_task_manager(folder, command)),
        cwd=REPOSITORY,
        env={**os.environ, **environment(world, name, max_pause_ms)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    processes = [psutil.Process(started.pid)]
    try:
        assert started.stdout is not None
        assert await started.stdout.readline() == b"read\n"
        processes += processes[0].children(recursive=True)
        worker = processes[-1]
        worker.send_signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        if killed is not None:
            processes[killed].kill()
        # Its own pauses do not count: the machine may be busy.
        async with running(world, name, 600_000) as successor:
            await apply(successor, *events)
        await asyncio.sleep(max(0.0, stopped_at + 2 * MAX_PAUSE_MS / 1000 - time.monotonic()))
        worker.send_signal(signal.SIGCONT)
        output, _ = await started.communicate(b"go on\n")
        assert killed is not None or started.returncode == 0
        return output.decode().splitlines()
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        await started.wait()


def attempts(learner: Learner) -> list[JsonObject]:
    scores = enumerate((4, 7, 9))
    return [learner.attempt("do_1", "a1", [(score, 10)], T0 + number) for number, score in scores]


def completions(world: World, learner: Learner) -> list[JsonObject]:
    contents = ("A", "B", "C")
    with world.redis.client(db=10) as relations:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", *contents)

    def completed(content_id: str, time_ms: int) -> JsonObject:
        edata = {
            "action": "batch-enrolment-update",
            "userId": learner.user_id,
            "courseId": learner.course_id,
            "batchId": learner.batch_id,
            "contents": [{"contentId": content_id, "status": 2}],
        }
        return {"edata": edata, "ets": time_ms}

    return [completed(content_id, T0 + number) for number, content_id in enumerate(contents)]


class TestAWorkerThatWasStopped:
    async def test_writes_nothing_any_more_in_the_assessment_aggregator(
        self, world: World, tables: Tables, learner: Learner
    ) -> None:
        results = await pause_worker(world, ASSESSMENT, attempts(learner), MAX_PAUSE_MS)
        assert_ended(results)
        (attempt,) = tables.attempts(learner)
        assert attempt.total_score == 9.0
        assert tables.aggregates(learner).aggregates["score:do_1"] == 9.0

    async def test_writes_nothing_any_more_in_the_activity_aggregate_updater(
        self, world: World, tables: Tables, learner: Learner
    ) -> None:
        results = await pause_worker(world, ACTIVITY, completions(world, learner), MAX_PAUSE_MS)
        assert_ended(results)
        assert tables.aggregates(learner).aggregates["completedCount"] == 3.0

    async def test_would_cover_its_successors_rows_if_no_pause_were_too_long(
        self, world: World, tables: Tables, learner: Learner
    ) -> None:
        """Why there is a limit."""
        first = attempts(learner)[0]
        later = learner.attempt("do_1", "a1", [(9, 10)], T0 + 1)
        results = await pause_worker(world, ASSESSMENT, [first, first, later], 600_000)
        assert results == ["applied", "applied"]
        assert tables.aggregates(learner).aggregates["score:do_1"] == 4.0

    @pytest.mark.parametrize("killed", [0, 1], ids=["TaskManager", "script"])
    async def test_writes_nothing_any_more_if_its_task_has_ended_although_the_pause_was_short(
        self, world: World, tables: Tables, learner: Learner, tmp_path: Path, killed: int
    ) -> None:
        """Without the thread that ends it, which may come too late."""
        results = await pause_worker(world, ASSESSMENT, attempts(learner), 600_000, tmp_path, killed)
        assert_ended(results, "the task of this worker has ended")
        (attempt,) = tables.attempts(learner)
        assert attempt.total_score == 9.0
        assert tables.aggregates(learner).aggregates["score:do_1"] == 9.0


def assert_ended(results: Sequence[str], why: str = "this worker or its TaskManager stood still for ") -> None:
    """Neither the event that was read for is decided again, nor is the one begun that waited for it."""
    assert len(results) == 2
    for result in results:
        assert result.startswith(f"TaskFault: {why}"), result


class TestABatchThatIsSlow:
    """It takes longer than any pause may: it must end nevertheless, when it is applied for the first time."""

    async def test_because_its_reads_are(
        self, world: World, tables: Tables, learner: Learner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with running(world, ASSESSMENT, max_pause_ms=300) as job:
            read = job._cassandra.read

            async def read_slowly(statement: Any, parameters: Sequence[Any]) -> Any:
                rows = await read(statement, parameters)
                await asyncio.sleep(1)
                return rows

            monkeypatch.setattr(job._cassandra, "read", read_slowly)
            await apply(job, attempts(learner)[0])
        assert tables.aggregates(learner).aggregates["score:do_1"] == 4.0

    async def test_because_the_rules_are(
        self, world: World, tables: Tables, learner: Learner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The event loop gets no turn meanwhile."""
        decide = rules.decide

        def decide_slowly(*arguments: Any) -> Any:
            end = time.monotonic() + 1
            while time.monotonic() < end:
                pass
            return decide(*arguments)

        monkeypatch.setattr(rules, "decide", decide_slowly)
        async with running(world, ASSESSMENT, max_pause_ms=300) as job:
            await apply(job, attempts(learner)[0])
        assert tables.aggregates(learner).aggregates["score:do_1"] == 4.0
