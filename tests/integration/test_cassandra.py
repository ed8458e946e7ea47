"""Statements on a real Cassandra: order, batches, bounds, and which failure is whose fault."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import acsylla
import pytest
from acsylla import errors
from cassandra.cluster import Session

from common.config.model import CassandraConfig
from common.domain import native_protocol
from common.domain.faults import TaskFault, WorldFault
from common.metrics import Metrics
from common.servers.cassandra import DOUBLE, TEXT, Cassandra, Unprepared, Write, timestamp
from local.world import World

TABLE = "sunbird_courses.user_content_consumption"
INSERT = f"INSERT INTO {TABLE} (userid, courseid, batchid, contentid, status) VALUES (?, ?, ?, ?, ?)"
SELECT = f"SELECT contentid, status FROM {TABLE} WHERE userid = ? AND courseid = ?"


@pytest.fixture
def config(world: World) -> CassandraConfig:
    return CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)


@asynccontextmanager
async def opened(config: CassandraConfig, **changes: Any) -> AsyncIterator[tuple[Cassandra, Metrics]]:
    metrics = Metrics()
    cassandra = Cassandra(config.model_copy(update=changes), metrics)
    try:
        await cassandra.open()
        yield cassandra, metrics
    finally:
        await cassandra.close()


class TestStatements:
    async def test_results_are_in_the_order_of_the_parameters(self, config: CassandraConfig, unique: str) -> None:
        # Fewer at a time than there are, so that they end in another order than they began.
        async with opened(config, max_concurrent_statements=7) as (cassandra, metrics):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            await cassandra.write([[Write(insert, (f"{unique}-{n}", "c", "b", "do_1", n))] for n in range(300)])
            rows = await cassandra.read(select, [(f"{unique}-{n}", "c") for n in reversed(range(301))])
            assert rows == [[], *([("do_1", n)] for n in reversed(range(300)))]
            assert metrics.counts["rows_written"] == metrics.counts["rows_read"] == 300
            assert await cassandra.read(select, []) == []

    async def test_writes_of_a_partition_go_as_one_batch(self, config: CassandraConfig, unique: str) -> None:
        async with opened(config) as (cassandra, metrics):
            insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
            update = await cassandra.prepare(
                f"UPDATE {TABLE} SET status = ? WHERE userid = ? AND courseid = ? AND batchid = ? AND contentid = ?"
            )
            key = (unique, "c", "b", "do_1")
            await cassandra.write(
                [
                    [Write(insert, (*key[:3], "do_2", 5)), Write(update, (1, *key))],
                    [],
                    [Write(insert, (f"{unique}-other", "c", "b", "do_3", 6))],
                ]
            )
            assert await cassandra.read(select, [(unique, "c"), (f"{unique}-other", "c")]) == [
                [("do_1", 1), ("do_2", 5)],
                [("do_3", 6)],
            ]
            assert metrics.counts["rows_written"] == 3

    async def test_one_that_is_not_prepared_takes_encoded_values(
        self, config: CassandraConfig, unique: str, cassandra_session: Session
    ) -> None:
        statement = Unprepared(
            "INSERT INTO sunbird_courses.assessment_aggregator (user_id, course_id, batch_id, content_id, attempt_id, "
            "total_score, updated_on, question) VALUES (?, 'c', 'b', 'do_1', 'a1', ?, ?, ?)",
            partition_key=(0,),
            encoders=(TEXT, DOUBLE, timestamp, native_protocol.list_value),
        )
        moment = datetime(2024, 5, 14, 9, 12, 40, 2_000, UTC)

        async with opened(config) as (cassandra, _):
            values: tuple[object, ...] = (unique, 0.1, moment, [])
            await cassandra.write([[Write(statement, values)]])
            with pytest.raises(TypeError, match="doesn't apply to a 'float' object"):
                await cassandra.write([[Write(statement, (0.1, 0.1, moment, []))]])
        query = (
            "SELECT total_score, updated_on, question FROM assessment_aggregator WHERE user_id = %s AND course_id = 'c'"
        )
        assert cassandra_session.execute(query, [unique]).one() == (0.1, moment.replace(tzinfo=None), None)

    async def test_a_session_can_be_closed_twice_and_opened_again(self, config: CassandraConfig) -> None:
        cassandra = Cassandra(config, Metrics())
        await cassandra.close()
        for _ in range(2):
            await cassandra.open()
            await cassandra.prepare(SELECT)
            await cassandra.close()
        await cassandra.close()
        with pytest.raises(RuntimeError, match="not open"):
            await cassandra.prepare(SELECT)


class TestFaults:
    @pytest.mark.parametrize(
        ("statement", "text"),
        [
            ("SELECT a FROM nowhere.t WHERE a = ?", "nowhere"),
            ("SELECT a FROM sunbird_courses.nothing WHERE a = ?", "nothing"),
            ("SELECT none FROM sunbird_courses.course_batch WHERE courseid = ?", "none"),
            ("SELEKT 1", "SELEKT"),
        ],
    )
    async def test_a_statement_that_the_schema_does_not_fit_ends_the_task(
        self, config: CassandraConfig, statement: str, text: str
    ) -> None:
        async with opened(config) as (cassandra, _):
            with pytest.raises(TaskFault, match=f"Cassandra refuses a statement: .*{text}"):
                await cassandra.prepare(statement)

    async def test_a_value_that_cannot_be_stored_is_nobody_elses_fault(
        self, config: CassandraConfig, unique: str
    ) -> None:
        async with opened(config) as (cassandra, _):
            insert = await cassandra.prepare(INSERT)
            for key in ("", "x" * 70_000):
                with pytest.raises(errors.CassException) as caught:
                    await cassandra.write([[Write(insert, (key, "c", "b", "do_1", 1))]])
                assert not isinstance(caught.value, WorldFault | TaskFault)

    async def test_no_server_is_the_world(self, config: CassandraConfig) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]

        with pytest.raises(WorldFault, match="Cassandra: "):
            async with opened(config, port=port):
                raise AssertionError("there is no server")

    async def test_a_server_that_does_not_answer_is_the_world(self, config: CassandraConfig) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(WorldFault, match="Cassandra: "):
            async with opened(config, port=server.getsockname()[1], connect_timeout_ms=200):
                raise AssertionError("it took no connection")


class FakeSession:
    """A session whose statements end when the test says so."""

    def __init__(self, end: Callable[[str], Awaitable[None]]) -> None:
        self._end = end
        self.started: list[str] = []
        self.under_way = 0

    async def execute(self, statement: acsylla.Statement) -> list[Any]:
        name = f"statement-{len(self.started)}"
        self.started.append(name)
        self.under_way += 1
        try:
            await self._end(name)
        finally:
            self.under_way -= 1
        return []

    async def close(self) -> None:
        pass


def session_of(cassandra: Cassandra, end: Callable[[str], Awaitable[None]]) -> FakeSession:
    cassandra._session = session = FakeSession(end)
    return session


def writes(count: int) -> Iterator[list[Write]]:
    return ([Write(Unprepared("INSERT", (), ()), ())] for _ in range(count))


class TestConcurrency:
    async def test_is_bounded_over_all_calls_of_a_session(self, config: CassandraConfig) -> None:
        most = 0

        async def end(_: str) -> None:
            nonlocal most
            most = max(most, session.under_way)
            await asyncio.sleep(0)

        cassandra = Cassandra(config.model_copy(update={"max_concurrent_statements": 3}), Metrics())
        session = session_of(cassandra, end)
        await asyncio.gather(*(cassandra.write(writes(20)) for _ in range(4)))
        assert len(session.started) == 80
        assert most == 3

    async def test_after_a_failure_nothing_starts_and_what_is_under_way_is_waited_for(
        self, config: CassandraConfig
    ) -> None:
        slow = asyncio.Event()

        async def end(name: str) -> None:
            if name == "statement-0":
                await slow.wait()
            elif name == "statement-1":
                raise errors.CassErrorServerOverloaded("overloaded")

        cassandra = Cassandra(config.model_copy(update={"max_concurrent_statements": 2}), Metrics())
        session = session_of(cassandra, end)
        call = asyncio.ensure_future(cassandra.write(writes(10)))
        while len(session.started) < 2 or session.under_way > 1:  # noqa: ASYNC110 - two turns of the loop
            await asyncio.sleep(0)
        assert not call.done()
        slow.set()
        with pytest.raises(WorldFault, match="overloaded"):
            await call
        assert (session.started, session.under_way) == (["statement-0", "statement-1"], 0)

    async def test_what_waits_for_its_turn_while_another_of_its_call_fails_is_not_started(
        self, config: CassandraConfig
    ) -> None:
        turn = asyncio.Event()

        async def end(name: str) -> None:
            if name == "statement-0":
                await turn.wait()
            else:
                raise errors.CassErrorServerOverloaded("overloaded")

        cassandra = Cassandra(config.model_copy(update={"max_concurrent_statements": 2}), Metrics())
        session = session_of(cassandra, end)
        # Holds one of the two places, so of the other call's two workers one waits.
        first = asyncio.ensure_future(cassandra.write(writes(1)))
        while not session.started:  # noqa: ASYNC110 - two turns of the loop
            await asyncio.sleep(0)
        with pytest.raises(WorldFault, match="overloaded"):
            await cassandra.write(writes(2))
        assert len(session.started) == 2
        turn.set()
        await first
