"""Of an enrolment with many attempts, the job reads those that its events submit, and its own row."""

from collections.abc import AsyncIterator

import pytest

from common.config.loader import load
from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.metrics import Metrics
from common.servers.cassandra import next_timestamp_us
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from jobs.assessment_aggregator.many_attempts import LARGE
from local.expected import content_aggregates
from local.world import World
from tests.support.assessment import Learner
from tests.support.assessment_rows import detail
from tests.support.strategies import T0
from tests.support.tables import Tables

CONTENTS = ("do_1", "do_2", "do_3")


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def job(world: World, metrics: Metrics) -> AsyncIterator[AssessmentAggregator]:
    job = AssessmentAggregator(
        load(AssessmentAggregatorConfig, environ=world.job_environment("jobs.assessment_aggregator"))
    )
    await job.open(metrics, next_timestamp_us)
    yield job
    await job.close()


def submitted(learner: Learner, content_id: str, number: int, score: float) -> AssessmentEvent:
    return AssessmentEvent(learner, content_id, T0, SubmittedAttempt(f"a{number:03}", (), score, 10.0))


def attempts_of(learner: Learner) -> list[AssessmentEvent]:
    """As many at each content as make an enrolment large."""
    return [submitted(learner, content_id, number, 1.0) for content_id in CONTENTS for number in range(LARGE)]


async def test_what_is_left_unread_is_in_the_row_as_before(
    job: AssessmentAggregator, metrics: Metrics, learner: Learner, tables: Tables
) -> None:
    await job.apply({learner: attempts_of(learner)})
    # From here on it is known to be large.
    await job.apply({learner: [submitted(learner, "do_2", LARGE, 2.0)]})
    before = metrics.counts["rows_read"]
    await job.apply({learner: [submitted(learner, "do_2", LARGE + 1, 3.0)]})

    # The row of aggregates; the attempt is new.
    assert metrics.counts["rows_read"] - before == 1
    assert metrics.counts["cache_hits", "cache", "agg_details"] == 1
    await job.apply({learner: [submitted(learner, "do_2", LARGE + 1, 3.0)]})
    # It is there now, and not counted twice.
    assert metrics.counts["rows_read"] - before == 3
    row = tables.aggregates(learner)
    ones = [(1.0, 10.0)] * LARGE
    assert row.aggregates == {
        **content_aggregates("do_1", ones),
        **content_aggregates("do_2", [*ones, (2.0, 10.0), (3.0, 10.0)]),
        **content_aggregates("do_3", ones),
    }
    scores = {"do_1": ones, "do_2": [*ones, (2.0, 10.0), (3.0, 10.0)], "do_3": ones}
    assert row.agg_details == [
        detail(content_id, f"a{number:03}", score, 10.0)
        for content_id in CONTENTS
        for number, (score, _) in enumerate(scores[content_id])
    ]


async def test_all_are_read_if_the_row_is_not_as_it_was_written(
    job: AssessmentAggregator, metrics: Metrics, learner: Learner, tables: Tables
) -> None:
    await job.apply({learner: attempts_of(learner)})
    await job.apply({learner: [submitted(learner, "do_2", LARGE, 2.0)]})
    tables.insert_aggregates(learner, aggregates={"score:do_1": 99.0})

    await job.apply({learner: [submitted(learner, "do_2", LARGE + 1, 3.0)]})

    assert metrics.counts["cache_misses", "cache", "agg_details"] == 1
    row = tables.aggregates(learner)
    assert row.aggregates["score:do_1"] == 1.0
    assert row.aggregates["score:do_2"] == 3.0
    assert len(row.agg_details) == 3 * LARGE + 2
