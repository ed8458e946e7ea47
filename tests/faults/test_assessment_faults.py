"""The assessment aggregator on a real cluster where something dies in the middle of its work: nothing is lost.

Killed workers and TaskManagers: test_activity_faults.py and tests/clusters.
"""

import json
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

import pytest

from local.errors import LocalWorldError
from local.expected import content_aggregates
from local.flink import FREQUENT_CHECKPOINTS, submit_all
from local.flink_client import FlinkClient
from local.world import World
from tests.support.assessment import FAILED, REQUESTS, Assessment, Learner
from tests.support.cassandra_session import connect
from tests.support.strategies import T0, JsonObject
from tests.support.tables import Tables
from tests.support.waiting import wait_until

LEARNERS = 40
ATTEMPTS = 16
"""Of each learner."""

OPTIONS = {
    **FREQUENT_CHECKPOINTS,
    "restart-strategy.exponential-delay.initial-backoff": "200 ms",
    "restart-strategy.exponential-delay.max-backoff": "1 s",
}


@pytest.fixture(scope="module")
def world(mortal_world: World) -> World:
    """Not the one of all tests."""
    return mortal_world


@dataclass(frozen=True, slots=True)
class Load:
    """Attempts of some learners, half of them with the fractions of a point, and what has to come of them."""

    topics: Assessment
    learners: list[Learner]

    def start(self) -> None:
        """Sends the first half of the events and returns when some have been applied."""
        self._send(range(ATTEMPTS // 2))
        self.topics.inbox(REQUESTS).wait_for(1)

    def go_on(self) -> None:
        """Sends the others: work that is surely not done yet when something has died before."""
        self._send(range(ATTEMPTS // 2, ATTEMPTS))

    def finished(self) -> int:
        """How many events have been applied."""
        return len({(request["edata"]["userIds"][0], request["ets"]) for request in self._requests()})

    def _send(self, numbers: Iterable[int]) -> None:
        self.topics.send(
            *(
                learner.attempt("do_1", f"a{number:02}", [(number % 17 + 0.5, 20)], T0 + number)
                for number in numbers
                for learner in self.learners
            )
        )

    def _requests(self) -> list[JsonObject]:
        return [json.loads(message.value()) for message in self.topics.inbox(REQUESTS).all()]

    def check(self, world: World) -> None:
        """Waits until all events are applied, and looks at every row."""
        wait_until(lambda: self.finished() == LEARNERS * ATTEMPTS, "all events are applied")
        # Repeats have the same id.
        assert len({request["mid"] for request in self._requests()}) == LEARNERS * ATTEMPTS
        assert self.topics.inbox(FAILED).all() == []
        with connect(world.cassandra) as session:
            tables = Tables(session)
            for learner in self.learners:
                rows = {row.attempt_id: (row.total_score, row.grand_total) for row in tables.attempts(learner)}
                assert rows == {
                    f"a{number:02}": (number % 17 + 0.5, f"{number % 17 + 0.5}/20.0") for number in range(ATTEMPTS)
                }
                row = tables.aggregates(learner)
                scores = [(number % 17 + 0.5, 20.0) for number in range(ATTEMPTS)]
                assert row.aggregates == content_aggregates("do_1", scores)
                assert len(row.agg_details) == ATTEMPTS


def submit(world: World, topics: Assessment, **variables: str) -> str:
    """A job that works in two subtasks, each with a Python worker; returns its id."""
    environment = {
        "AGGREGATES__KAFKA__ENV": topics.env,
        "AGGREGATES__BATCH__MAX_BATCH_SIZE": "32",
        "AGGREGATES__CASSANDRA__REQUEST_TIMEOUT_MS": "1000",
        "AGGREGATES__RETRY__MAX_BACKOFF_MS": "500",
        **variables,
    }
    return world.submit("jobs.assessment_aggregator", parallelism=2, options=OPTIONS, environment=environment)


def has_restarted(client: FlinkClient, job: str) -> bool:
    return client.checkpoints(job)["restored"] > 0


IMPATIENT = {
    # The patience must be longer than any single wait.
    "AGGREGATES__RETRY__PATIENCE_MS": "1500",
    "AGGREGATES__HTTP__POISON_AFTER_MS": "300",
    "AGGREGATES__REDIS__REQUEST_TIMEOUT_MS": "1000",
    "AGGREGATES__HTTP__CALL_TIMEOUT_MS": "200",
    "AGGREGATES__HTTP__REQUEST_TIMEOUT_MS": "20",
    "AGGREGATES__HTTP__CONNECT_TIMEOUT_MS": "19",
    "AGGREGATES__HTTP__MAX_BACKOFF_MS": "20",
    "AGGREGATES__RETRY__MAX_BACKOFF_MS": "200",
    "AGGREGATES__HTTP__INITIAL_BACKOFF_MS": "10",
}


@pytest.fixture
def loads(world: World, unique: str) -> Iterator[tuple[Load, Load]]:
    """Of a patient and of an impatient job."""
    with closing(Assessment(world)) as one, closing(Assessment(world)) as two:
        yield (
            Load(one, [Learner.unique(f"{unique}-patient-{number}") for number in range(LEARNERS)]),
            Load(two, [Learner.unique(f"{unique}-impatient-{number}") for number in range(LEARNERS)]),
        )


def test_a_frozen_and_killed_cassandra_is_waited_for_or_fails_the_task_and_nothing_is_skipped(
    world: World, loads: tuple[Load, Load]
) -> None:
    """Two jobs at once: the one has the patience that it has by default, and that of the other ends."""
    client = world.flink.client
    patient_load, impatient_load = loads
    jobs = submit_all(
        {
            "patient": lambda: submit(world, patient_load.topics),
            "impatient": lambda: submit(world, impatient_load.topics, **IMPATIENT),
        },
        client.cancel_all,
    )
    patient, impatient = jobs["patient"], jobs["impatient"]
    try:
        client.wait_until_running(patient)
        client.wait_until_running(impatient, checkpoints=1)
        for load in loads:
            load.start()
        os.kill(world.cassandra.pid, signal.SIGSTOP)
        for load in loads:
            load.go_on()
            assert load.finished() < LEARNERS * ATTEMPTS
        wait_until(lambda: client.exceptions(impatient) != [], "the task has failed")
        assert any("no success within 1500 ms: Cassandra: " in text for text in client.exceptions(impatient))
        # It is frozen, and dies.
        world.cassandra.restart()
        for load in loads:
            load.check(world)
        assert has_restarted(client, impatient)
        wait_until(lambda: sum(client.metrics(patient, "batches_retried").values()) > 0, "batches were tried again")
        # By the stage itself: the task has not failed.
        assert client.exceptions(patient) == []
    finally:
        # If it is still frozen.
        os.kill(world.cassandra.pid, signal.SIGCONT)
        client.cancel_all(jobs.values())


def test_a_wrong_keyspace_stops_the_start_and_says_why(world: World) -> None:
    said = "AssessmentAggregator cannot start: Cassandra refuses a statement: .*nowhere"
    with closing(Assessment(world)) as topics, pytest.raises(LocalWorldError, match=said):
        submit(world, topics, AGGREGATES__CASSANDRA__KEYSPACE="nowhere")
