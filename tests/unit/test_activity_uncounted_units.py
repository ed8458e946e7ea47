"""The metric of units that got no count: each decision is counted once, however often its batch is tried."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest

from common.config.loader import load
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.metrics import Metrics
from jobs.activity_aggregate_updater.config import ActivityAggregateUpdaterConfig
from jobs.activity_aggregate_updater.events import LearnerEvent
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater, Checked
from jobs.activity_aggregate_updater.rules import Decision
from tests.support.activity_model import ASHA, COURSE
from tests.support.required_keys import REQUIRED

RAVI = EnrolmentKey("ravi", COURSE, "b1")
BOTH: Mapping[EnrolmentKey, Sequence[LearnerEvent]] = {ASHA: [], RAVI: []}


class Updater(ActivityAggregateUpdater):
    """Decides the same until it is written. Both learners have a unit without leaf nodes."""

    def __init__(self) -> None:
        super().__init__(load(ActivityAggregateUpdaterConfig, environ=REQUIRED[ActivityAggregateUpdaterConfig]))
        metrics = Metrics()
        self._counts = metrics.counts
        self._store: Any = self
        self.left = {ASHA: ("do_unit_1",), RAVI: ("do_unit_1", "do_unit_2")}
        self.written: list[set[EnrolmentKey]] = []
        """What each write stores before it fails; all is stored when there is none left."""

    @property
    def uncounted(self) -> int:
        return self._counts["uncounted_units"]

    async def _decide(
        self, events_by_enrolment: Mapping[EnrolmentKey, Sequence[LearnerEvent]]
    ) -> tuple[dict[EnrolmentKey, Sequence[Checked]], dict[EnrolmentKey, Decision]]:
        decisions = {key: Decision((), (), (), self.left.get(key, ())) for key in events_by_enrolment}
        return dict(events_by_enrolment), decisions

    async def write(self, decisions: Mapping[EnrolmentKey, Decision], _: datetime) -> None:
        for key in self.written[0] if self.written else decisions:
            self.left.pop(key, None)
        if self.written:
            self.written.pop(0)
            raise WorldFault("Cassandra does not answer")


@pytest.mark.parametrize("tries", [[], [set()], [set()] * 20, [{ASHA}], [set(), {ASHA}, set(), {RAVI}], [{ASHA, RAVI}]])
async def test_each_unit_is_counted_once_however_often_its_batch_is_tried(tries: list[set[EnrolmentKey]]) -> None:
    job = Updater()
    job.written = list(tries)
    for _ in tries:
        with pytest.raises(WorldFault):
            await job.apply(BOTH)
        assert job.uncounted == 0
    await job.apply(BOTH)
    assert job.uncounted == 3
    await job.apply(BOTH)
    assert job.uncounted == 3


async def test_a_unit_that_has_no_count_at_the_next_event_either_is_counted_again() -> None:
    job = Updater()
    for expected in (1, 2):
        job.left = {ASHA: ("do_unit_1",)}
        await job.apply(BOTH)
        assert job.uncounted == expected


async def test_a_unit_of_an_event_that_is_refused_is_not_counted_with_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = Updater()

    async def refuse(*_: object) -> None:
        raise ValueError("Cassandra refuses the statement")

    with monkeypatch.context() as patch:
        patch.setattr(job, "write", refuse)
        with pytest.raises(ValueError, match="refuses"):
            await job.apply(BOTH)
    job.left = {}
    await job.apply(BOTH)
    assert job.uncounted == 0
