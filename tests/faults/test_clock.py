"""A clock that jumps back and forth by hours: rows and messages are those of a steady one.

What jumps here is the clock of the job's own code. The times of writes are the driver's
(``common.servers.cassandra``).
"""

import json
import random
import time
from collections.abc import Sequence
from typing import Any

import pytest
from cassandra.cluster import Session

from common.config.loader import load
from common.metrics import Metrics
from common.servers.cassandra import next_timestamp_us
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from local.world import World
from tests.support.activity_model import batches
from tests.support.activity_servers import Arrivals, Running, Servers
from tests.support.assessment import Learner
from tests.support.strategies import T0, JsonObject
from tests.support.tables import Tables as AssessmentTables

MINUTE_NS = 60 * 1_000_000_000
CLOCK_COLUMNS = {"created_on", "updated_on", "agg_last_updated"}
ID_COLUMNS = {"user_id", "course_id", "batch_id", "activity_id", "context_id"}


class Clock:
    """The machine's, but for its jumps."""

    def __init__(self) -> None:
        self._time_ns = time.time_ns
        self._jumps = random.Random(7)
        self._off_by_ns = 0

    def jump(self) -> None:
        self._off_by_ns = self._jumps.randint(-180, 180) * MINUTE_NS

    def time_ns(self) -> int:
        return self._time_ns() + self._off_by_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time_ns", clock.time_ns)
    return clock


async def test_a_jumping_clock_changes_no_row_of_the_assessment_aggregator(
    world: World, tables: AssessmentTables, clock: Clock, unique: str
) -> None:
    job = AssessmentAggregator(
        load(AssessmentAggregatorConfig, environ=world.job_environment("jobs.assessment_aggregator"))
    )
    steady, jumping = Learner.unique(f"steady-{unique}"), Learner.unique(f"jumping-{unique}")

    def events(learner: Learner) -> list[JsonObject]:
        return [
            learner.attempt("do_1", "a1", [(5, 10)]),
            learner.attempt("do_1", "a2", [(9, 10)], T0 + 1),
            learner.attempt("do_1", "a2", [(4, 10)], T0 + 2),  # replaces the one before
            learner.attempt("do_1", "a1", [(8, 10)], T0 - 1),  # is late
            learner.attempt("do_2", "b1", [(1, 10)], T0),
            learner.attempt("do_1", "a1", [(7, 10)], T0 + 3),  # replaces the first
            learner.attempt("do_2", "b1", [(1, 10)], T0),  # comes again
            learner.recompute("do_1", T0 + 4),
        ]

    async def apply(learner: Learner, *, jumps: bool) -> list[int]:
        """How many messages each event has sent."""
        sent = []
        for event in events(learner):
            if jumps:
                clock.jump()
            (outcome,) = await job.apply_batch([job.decode(json.dumps(event).encode(), T0)])
            assert not isinstance(outcome, Exception), outcome
            sent.append(len(outcome))
        return sent

    await job.open(Metrics(), next_timestamp_us)
    try:
        assert await apply(steady, jumps=False) == await apply(jumping, jumps=True) == [1, 1, 1, 0, 1, 1, 1, 1]
    finally:
        await job.close()
    assert [row.total_score for row in tables.attempts(steady)] == [7, 4, 1]
    assert _steady_columns(tables.attempts(jumping)) == _steady_columns(tables.attempts(steady))
    assert _steady_columns([tables.aggregates(jumping)]) == _steady_columns([tables.aggregates(steady)])


def _steady_columns(rows: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {name: value for name, value in row._asdict().items() if name not in CLOCK_COLUMNS | ID_COLUMNS} for row in rows
    ]


async def test_a_jumping_clock_changes_no_row_of_the_activity_aggregate_updater(
    world: World, cassandra_session: Session, clock: Clock
) -> None:
    servers, source = Servers(world, cassandra_session), random.Random(7)
    config = servers.config()
    units = {"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}
    arrivals = Arrivals.random(servers, config, source, units, 40, contents="ABCDE", days=20)

    async with Running(config) as process:
        sent = []
        for batch in batches(arrivals.events, [source.randint(1, 3) for _ in arrivals.events]):
            clock.jump()
            sent += await process.apply(*batch)
    assert sent == arrivals.expected
    assert servers.rows(arrivals.learners, arrivals.course) == arrivals.tables.rows()
