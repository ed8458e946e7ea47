"""Events that are sent to a job in transactions: those that are committed count, and no others."""

import json

from local.world import World
from tests.support.assessment import INPUT, PARTITIONS, Assessment, Learner
from tests.support.strategies import T0
from tests.support.tables import Tables
from tests.support.transactions import transaction


def test_what_is_not_committed_has_no_effect(
    world: World, assessment: Assessment, learner: Learner, tables: Tables, unique: str
) -> None:
    def attempt(attempt_id: str, time_ms: int) -> bytes:
        return json.dumps(learner.attempt("do_1", attempt_id, [(1, 1)], time_ms)).encode()

    topic = assessment.topic(INPUT)
    transaction(world, topic, [attempt("aborted", T0)]).abort_transaction(30)
    assessment.produce(INPUT, [attempt("after the abort", T0 + 1)])
    # The events of a partition are applied in their order.
    assert assessment.attempt_ids(learner, 1) == ["after the abort"]

    pending = transaction(world, topic, [attempt("pending", T0 + 2)])
    try:
        others = [Learner.unique(f"{unique}-{partition}") for partition in range(1, PARTITIONS)]
        for partition, other in enumerate(others, 1):
            event = json.dumps(other.attempt("do_1", "a1", [(1, 1)])).encode()
            assessment.produce(INPUT, [event], partition=partition)
        # Each subtask has gone on.
        for other in others:
            assessment.requests(other, 1)
        assert assessment.attempt_ids(learner, 1) == ["after the abort"]
    finally:
        pending.commit_transaction(30)
    assert assessment.attempt_ids(learner, 2) == ["after the abort", "pending"]
    assert {attempt.attempt_id for attempt in tables.attempts(learner)} == {"after the abort", "pending"}
