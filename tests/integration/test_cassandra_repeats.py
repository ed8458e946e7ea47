"""Which requests are sent again within one call, and which are not: the node's answers come from a proxy."""

import asyncio
import struct

import pytest

from common.config.model import CassandraConfig
from common.domain.faults import TaskFault, WorldFault
from common.servers.cassandra import Write, next_timestamp_us
from local.world import World
from tests.support.cassandra_proxy import Answer, CassandraProxy, Frame, behind_a_proxy, opened

TABLE = "sunbird_courses.user_content_consumption"
INSERT = f"INSERT INTO {TABLE} (userid, courseid, batchid, contentid, status) VALUES (?, 'c', 'b', 'do_1', ?)"
SELECT = f"SELECT status FROM {TABLE} WHERE userid = ? AND courseid = 'c'"
LISTS = "CREATE TABLE IF NOT EXISTS sunbird_courses.a_list (id text PRIMARY KEY, elements list<text>)"
ROWS = 20
OVERLOADED = 0x1001


@pytest.fixture
def config(world: World) -> CassandraConfig:
    return CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)


def refusing(mark: bytes, times: int) -> Answer:
    """Refuses the first requests that have ``mark`` in them."""
    left = times

    async def answer(frame: Frame) -> Frame | None:
        nonlocal left
        if mark not in frame.body or not left:
            return None
        left -= 1
        return frame.error(OVERLOADED, "overloaded")

    return answer


def time_us(frame: Frame) -> int:
    """The write time of an EXECUTE."""
    (time,) = struct.unpack(">q", frame.body[-8:])
    return int(time)


async def test_of_many_writes_only_the_one_that_failed_is_sent_again(config: CassandraConfig, unique: str) -> None:
    async with CassandraProxy(config.port) as proxy, opened(config, port=proxy.port) as (cassandra, metrics):
        insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
        proxy.answer = refusing(f"{unique}-3-".encode(), 2)
        users = [f"{unique}-{n}-" for n in range(ROWS)]
        await cassandra.write([[Write(insert, (user, n))] for n, user in enumerate(users)])
        assert len(proxy.requests) == ROWS + 2
        tries = [time_us(frame) for frame in proxy.requests if f"{unique}-3-".encode() in frame.body]
        assert tries == sorted(set(tries))
        assert metrics.counts["requests_repeated"] == 2
        assert await cassandra.read(select, [(user,) for user in users]) == [[(n,)] for n in range(ROWS)]


async def test_of_many_reads_only_the_one_that_failed_is_sent_again(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config) as (cassandra, proxy):
        insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
        users = [f"{unique}-{n}-" for n in range(ROWS)]
        await cassandra.write([[Write(insert, (user, n))] for n, user in enumerate(users)])
        proxy.requests.clear()
        proxy.answer = refusing(f"{unique}-7-".encode(), 1)
        assert await cassandra.read(select, [(user,) for user in users]) == [[(n,)] for n in range(ROWS)]
        assert len(proxy.requests) == ROWS + 1


async def test_requests_that_were_not_sent_after_a_failure_are_sent_with_it(
    config: CassandraConfig, unique: str
) -> None:
    async with behind_a_proxy(config, max_concurrent_statements=2) as (cassandra, proxy):
        insert, select = await cassandra.prepare(INSERT), await cassandra.prepare(SELECT)
        proxy.answer = refusing(f"{unique}-3-".encode(), 1)
        users = [f"{unique}-{n}-" for n in range(ROWS)]
        await cassandra.write([[Write(insert, (user, n))] for n, user in enumerate(users)])
        assert len(proxy.requests) == ROWS + 1
        assert await cassandra.read(select, [(user,) for user in users]) == [[(n,)] for n in range(ROWS)]


async def test_a_call_ends_when_its_time_is_over(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config, request_timeout_ms=500) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)
        proxy.answer = refusing(f"{unique}-3-".encode(), 1_000)
        with pytest.raises(WorldFault, match="overloaded"):
            await cassandra.write([[Write(insert, (f"{unique}-{n}-", n))] for n in range(ROWS)])
        # After 0.1 and 0.3 s; the next time would be after 0.7 s.
        assert ROWS < len(proxy.requests) <= ROWS + 2


async def test_nothing_is_sent_again_if_no_node_answers_anything(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)
        proxy.answer = refusing(unique.encode(), 1_000)
        with pytest.raises(WorldFault, match="overloaded"):
            await cassandra.write([[Write(insert, (f"{unique}-{n}", n))] for n in range(ROWS)])
        assert len(proxy.requests) == ROWS


async def test_a_list_with_a_timestamp_of_its_own_is_never_sent_again(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config) as (cassandra, proxy):
        await cassandra.execute(LISTS)
        insert = await cassandra.prepare(
            "INSERT INTO sunbird_courses.a_list (id, elements) VALUES (?, ?) USING TIMESTAMP ?"
        )
        proxy.answer = refusing(f"{unique}-3-".encode(), 1)
        with pytest.raises(WorldFault, match="overloaded"):
            await cassandra.write(
                [[Write(insert, (f"{unique}-{n}-", ["a"], next_timestamp_us()))] for n in range(ROWS)]
            )
        assert len(proxy.requests) == ROWS


async def test_nothing_is_sent_again_after_the_session_is_closed(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)
        others_are_answered = asyncio.Event()

        async def hold(frame: Frame) -> Frame | None:
            if f"{unique}-3-".encode() in frame.body:
                await asyncio.Event().wait()
            if len(proxy.requests) == ROWS:
                others_are_answered.set()
            return None

        proxy.answer = hold
        write = asyncio.ensure_future(cassandra.write([[Write(insert, (f"{unique}-{n}-", n))] for n in range(ROWS)]))
        await others_are_answered.wait()
        while proxy.in_flight > 1:  # noqa: ASYNC110 - the proxy's own tasks change it
            await asyncio.sleep(0.01)
        await cassandra.close()
        with pytest.raises(WorldFault, match="session is closed"):
            await asyncio.wait_for(write, timeout=5)
        assert len(proxy.requests) == ROWS


async def test_what_still_waits_when_the_session_is_closed_is_never_sent(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config, max_concurrent_statements=1) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)

        async def hold(_: Frame) -> Frame | None:
            await asyncio.Event().wait()
            return None

        proxy.answer = hold
        writes = [asyncio.ensure_future(cassandra.write([[Write(insert, (f"{unique}-{n}", n))]])) for n in range(3)]
        while not proxy.requests:  # noqa: ASYNC110 - the proxy's own tasks change it
            await asyncio.sleep(0.01)
        await cassandra.close()
        for write in writes:
            with pytest.raises(WorldFault, match="session is closed"):
                await asyncio.wait_for(write, timeout=5)
        assert len(proxy.requests) == 1


class EndingClock:
    """Gives so many timestamps, and then ends the task."""

    def __init__(self, timestamps: int) -> None:
        self._left = timestamps

    def __call__(self) -> int:
        if not self._left:
            raise TaskFault("stood still")
        self._left -= 1
        return next_timestamp_us()


@pytest.mark.parametrize("timestamps", [0, 1, 5, ROWS - 1])
async def test_nothing_is_sent_without_a_timestamp(config: CassandraConfig, unique: str, timestamps: int) -> None:
    clock = EndingClock(timestamps)
    async with behind_a_proxy(config, clock, max_concurrent_statements=2) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)
        with pytest.raises(TaskFault, match="stood still"):
            await cassandra.write([[Write(insert, (f"{unique}-{n}-", n))] for n in range(ROWS)])
        assert len(proxy.requests) == timestamps


async def test_nothing_is_sent_again_without_a_timestamp(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config, EndingClock(ROWS)) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)
        proxy.answer = refusing(f"{unique}-3-".encode(), 1)
        with pytest.raises(TaskFault, match="stood still"):
            await cassandra.write([[Write(insert, (f"{unique}-{n}-", n))] for n in range(ROWS)])
        assert len(proxy.requests) == ROWS
