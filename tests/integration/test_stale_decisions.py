"""A worker that is frozen between a read and its write: it must not cover what its successor has written meanwhile."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from common.config.loader import load
from common.domain.events import Skip
from common.domain.faults import WorldFault
from common.flink.job import Job
from common.metrics import Metrics
from jobs import JOBS, config_class
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater
from jobs.assessment_aggregator.job import AssessmentAggregator
from local.world import World
from tests.support.assessment import Learner, Tables
from tests.support.strategies import T0, JsonObject

MAX_AGE_MS = 5_000


@asynccontextmanager
async def running(world: World, job_class: Any, name: str) -> AsyncIterator[Any]:
    environment = world.job_environment(JOBS[name]) | {"AGGREGATES__RETRY__MAX_DECISION_AGE_MS": str(MAX_AGE_MS)}
    job = job_class(load(config_class(name), environ=environment))
    try:
        await job.open(Metrics())
        yield job
    finally:
        await job.close()


def freeze_in_reads(job: Any, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """The reads return their rows when the event is set."""
    thawed, read = asyncio.Event(), job._cassandra.read

    async def read_and_freeze(statement: Any, parameters: Sequence[Any]) -> Any:
        rows = await read(statement, parameters)
        await thawed.wait()
        return rows

    monkeypatch.setattr(job._cassandra, "read", read_and_freeze)
    return thawed


async def apply(job: Job[Any, Any], *events: JsonObject) -> None:
    decoded = [job.decode(json.dumps(event).encode(), T0) for event in events]
    assert not any(isinstance(event, Skip) for event in decoded)
    await job.apply_batch(decoded)


async def frozen(
    job: Any, successor: Any, event: JsonObject, later: JsonObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``job`` reads for ``event`` and freezes; ``successor`` applies it, and a later one; then ``job`` goes on."""
    with monkeypatch.context() as patch:
        thawed = freeze_in_reads(job, patch)
        applying = asyncio.create_task(apply(job, event))
        await apply(successor, event, later)
        # As if the whole process had stood still for that time.
        now = time.monotonic
        patch.setattr(time, "monotonic", lambda: now() + MAX_AGE_MS / 1000)
        thawed.set()
        with pytest.raises(WorldFault, match="which is too long to decide what to write"):
            await applying
    # The batch is applied again.
    await apply(job, event)


async def test_the_assessment_aggregator_reads_again(
    world: World, tables: Tables, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "assessment_aggregator"
    async with (
        running(world, AssessmentAggregator, name) as job,
        running(world, AssessmentAggregator, name) as successor,
    ):
        event = learner.attempt("do_1", "a1", [(4, 10)], T0)
        later = learner.attempt("do_1", "a1", [(9, 10)], T0 + 1)
        await frozen(job, successor, event, later, monkeypatch)
    (attempt,) = tables.attempts(learner)
    assert attempt.total_score == 9.0
    assert tables.aggregates(learner).aggregates["score:do_1"] == 9.0


async def test_the_activity_aggregate_updater_reads_again(
    world: World, tables: Tables, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with world.redis.client(db=10) as relations:
        relations.sadd(f"{learner.course_id}:{learner.course_id}:leafnodes", "A", "B")

    def completed(content_id: str, time_ms: int) -> JsonObject:
        edata = {
            "action": "batch-enrolment-update",
            "userId": learner.user_id,
            "courseId": learner.course_id,
            "batchId": learner.batch_id,
            "contents": [{"contentId": content_id, "status": 2}],
        }
        return {"edata": edata, "ets": time_ms}

    name = "activity_aggregate_updater"
    async with (
        running(world, ActivityAggregateUpdater, name) as job,
        running(world, ActivityAggregateUpdater, name) as successor,
    ):
        await frozen(job, successor, completed("A", T0), completed("B", T0 + 1), monkeypatch)
    assert tables.aggregates(learner).aggregates["completedCount"] == 2.0
