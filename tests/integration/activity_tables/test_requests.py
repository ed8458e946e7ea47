"""How many requests the activity job sends to Cassandra."""

from sys import getsizeof

import pytest

from jobs.activity_aggregate_updater import store
from jobs.activity_aggregate_updater.events import ContentsCompleted
from tests.support.activity_learner import Learner
from tests.support.activity_model import (
    ASHA,
    T0,
    Killed,
    RelationCache,
    Tables,
    Updater,
    completed,
)
from tests.support.activity_servers import SETTINGS, Ids, Running, Servers


class TestRequests:
    """To Cassandra, which is what the job's speed depends on."""

    async def test_of_an_event(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config()) as process:
            before = process.requests

            async def requests_of(*events: ContentsCompleted) -> int:
                started = process.requests
                await process.apply(*events)
                return process.requests - started

            # Contents, enrolment, course; two units, course, and the learner's rows in one batch.
            assert await requests_of(learner.completed("A", "C")) == 3 + 4
            # The enrolment is known now.
            assert await requests_of(learner.completed("B", at=T0 + 1)) == 2 + 3
            assert await requests_of(learner.completed("A", at=T0 + 2), learner.completed("B", at=T0 + 2)) == 2
            assert process.requests - before == 7 + 5 + 2
            assert process.count("cache_hits", "known_enrolments") == 2
            assert process.counts["rows_written"] == 6 + 4

    async def test_an_enrolment_with_long_ids_is_not_remembered(
        self, servers: Servers, learner: Learner, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "MAX_KNOWN_IDS_BYTES", sum(map(getsizeof, learner.enrolment)) - 1)
        async with Running(servers.config()) as process:
            await process.apply(learner.completed("A"))
            await process.apply(learner.completed("B", at=T0 + 1))
            assert process.count("cache_hits", "known_enrolments") == 0

    async def test_of_many_events_of_an_enrolment_are_those_of_one(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config()) as process:
            before = process.requests
            await process.apply(*(learner.completed(content, at=T0 + n) for n, content in enumerate("ABCDE" * 4)))
            assert process.requests - before == 3 + 4

    async def test_what_became_of_events_is_counted(self, servers: Servers, learner: Learner) -> None:
        async with Running(servers.config()) as process:
            first = learner.completed("A", "B")
            await process.apply(first, first, learner.completed("A", "B", at=T0 + 1))
            await process.apply(learner.completed("A", "C", at=T0 + 2))
            for effect, count in (("written", 2), ("replayed", 1), ("duplicate", 1)):
                assert process.count("events_applied", effect) == count
            assert process.counts["duplicates"] == 3


class TestManyContents:
    async def test_need_few_requests(self, servers: Servers, learner: Learner) -> None:
        contents = [f"do_3128870328040161281{number:04d}" for number in range(1_100)]
        course = RelationCache({learner.unit_1: contents}, course_id=learner.course_id)
        servers.publish(course)

        async with Running(servers.config()) as process:
            before = process.requests
            messages = (await process.run([learner.completed(*contents)]))[0]
            assert len(messages) == 2 * len(contents) + 2
            # The learner's rows in batches of 1,000.
            assert process.requests - before == 3 + 2 + 2
        rows = servers.rows([learner.enrolment], course)
        assert len([key for key in rows if key[-1] == "completedcount"]) == len(contents)
        assert rows["enrolments", learner.enrolment, "progress"] == len(contents)

    async def test_killed_between_two_batches_it_is_completed_by_the_event_that_completed_it(
        self, servers: Servers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The only content that the course needs is in the first batch, or in the last one."""
        monkeypatch.setattr(store, "MAX_BATCH_STATEMENTS", 3)
        course = RelationCache({"do_unit_1": ["A"]})
        arrived = [completed("A", at=T0), completed(*"BCDEFGHI", at=T0 + 1)]
        for order in (arrived, arrived[::-1]):
            writes = 0
            is_killed = True
            while is_killed:
                is_killed = await self._is_killed(servers, course, order, writes)
                writes += 1
            assert writes > 5

    @staticmethod
    async def _is_killed(
        servers: Servers, course: RelationCache, arrived: list[ContentsCompleted], writes: int
    ) -> bool:
        ids = Ids()
        course, arrived = ids.course(course), [ids.event(event) for event in arrived]
        learner = ids.enrolment(ASHA)
        tables = Tables()
        tables.enrol(learner)
        servers.publish(course)
        servers.put(tables)
        expected = Updater(tables, course, SETTINGS).run(arrived, [2])
        killed = False
        async with Running(servers.config(), writes_left=writes) as process:
            try:
                await process.apply(*arrived)
            except Killed:
                killed = True
        async with Running(servers.config()) as process:
            assert await process.run(arrived, [2]) == [list(result.messages) for result in expected]
        assert servers.rows([learner], course) == tables.rows()
        return killed
