"""Several events of one enrolment, one after another and in one batch."""

import json
from typing import Any

from common.config.loader import load
from common.metrics import Metrics
from common.servers.cassandra import next_timestamp_us
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from jobs.assessment_aggregator.job import AssessmentAggregator
from local.expected import content_aggregates
from local.world import World
from tests.support.assessment import Assessment, Learner
from tests.support.assessment_rows import (
    detail,
)
from tests.support.strategies import T0
from tests.support.tables import Tables


class TestSeveralEventsOfOneEnrolment:
    """In one batch they come to the same as one after another."""

    EVENTS = (
        ("do_1", "a1", 5.0, T0),
        ("do_1", "a2", 7.5, T0 + 1),
        ("do_1", "a1", 6.0, T0 + 2),  # replaces the first
        ("do_1", "a2", 9.0, T0),  # is late
        ("do_2", "b1", 1.0, T0),
        ("do_2", "b1", 2.0, T0),  # has been seen
    )

    def events(self, learner: Learner) -> list[dict[str, Any]]:
        return [
            learner.attempt(content_id, attempt_id, [(score, 10)], time_ms)
            for content_id, attempt_id, score, time_ms in self.EVENTS
        ]

    def check(self, learner: Learner, tables: Tables) -> None:
        assert [(row.content_id, row.attempt_id, row.total_score) for row in tables.attempts(learner)] == [
            ("do_1", "a1", 6.0),
            ("do_1", "a2", 7.5),
            ("do_2", "b1", 1.0),
        ]
        row = tables.aggregates(learner)
        assert row.aggregates == {
            **content_aggregates("do_1", [(6, 10), (7.5, 10)]),
            **content_aggregates("do_2", [(1, 10)]),
        }
        assert row.agg_details == [
            detail("do_1", "a1", 6.0, 10.0),
            detail("do_1", "a2", 7.5, 10.0),
            detail("do_2", "b1", 1.0, 10.0),
        ]

    def test_sent_one_after_another_end_in_the_same_rows(
        self, assessment: Assessment, learner: Learner, tables: Tables
    ) -> None:
        messages = 0
        for event, (*_, score, _) in zip(self.events(learner), self.EVENTS, strict=True):
            assessment.send(event)
            messages += score != 9.0
            assessment.requests(learner, messages)
        self.check(learner, tables)

    def test_sent_at_once_end_in_the_same_rows(self, assessment: Assessment, learner: Learner, tables: Tables) -> None:
        assessment.send(*self.events(learner))
        assert len(assessment.requests(learner, 5)) == 5
        self.check(learner, tables)

    async def test_in_one_batch_end_in_the_same_rows_with_one_read_and_one_write_per_table(
        self, world: World, learner: Learner, tables: Tables
    ) -> None:
        job = AssessmentAggregator(
            load(AssessmentAggregatorConfig, environ=world.job_environment("jobs.assessment_aggregator"))
        )
        values = [json.dumps(event).encode() for event in self.events(learner)]
        metrics = Metrics()

        await job.open(metrics, next_timestamp_us)
        try:
            outcomes = await job.apply_batch([job.decode(value, 0) for value in values])
        finally:
            await job.close()

        assert [len(outcome) for outcome in outcomes] == [1, 1, 1, 0, 1, 1]
        self.check(learner, tables)
        # One read and one write of each table.
        assert metrics.counts["rows_written"] == 4
        effects = {key[2]: count for key, count in metrics.counts.items() if key[0] == "events_applied"}
        assert effects == {"written": 4, "replayed": 1}
        assert metrics.counts["skipped", "reason", "stale"] == 1
