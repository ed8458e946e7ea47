"""One user's events are spread over the partitions of the topic, and read by different subtasks."""

import json

from local.expected import content_aggregates
from tests.support.assessment import INPUT, PARTITIONS, Assessment, Learner
from tests.support.strategies import T0
from tests.support.tables import Tables

ATTEMPTS = range(120)


def test_the_attempts_of_one_user_are_all_counted(assessment: Assessment, learner: Learner, tables: Tables) -> None:
    """Two subtasks would both read the aggregates, and one would write over what the other has written."""
    scores = {f"a{number:03}": float(number % 10) for number in ATTEMPTS}
    for partition in range(PARTITIONS):
        events = [
            learner.attempt("do_1", attempt_id, [(score, 10)], T0 + number)
            for number, (attempt_id, score) in enumerate(scores.items())
            if number % PARTITIONS == partition
        ]
        assessment.produce(INPUT, [json.dumps(event).encode() for event in events], partition=partition)
    assessment.requests(learner, len(ATTEMPTS))
    row = tables.aggregates(learner)
    assert row.aggregates == content_aggregates("do_1", [(score, 10) for score in scores.values()])
    assert len(row.agg_details) == len(ATTEMPTS)
    assert {attempt.attempt_id: attempt.total_score for attempt in tables.attempts(learner)} == scores
