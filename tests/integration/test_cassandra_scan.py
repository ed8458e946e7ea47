"""Reading a whole table by token range: every row once, in pages, and no query for more than its range."""

import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.config.model import CassandraConfig
from common.domain.faults import WorldFault
from common.servers.cassandra import Cassandra, Row, Write, token_ranges
from local.world import World
from tests.support.cassandra_proxy import CassandraProxy, Frame, behind_a_proxy, opened

TABLE = "sunbird_courses.user_content_consumption"
INSERT = f"INSERT INTO {TABLE} (userid, courseid, batchid, contentid, status) VALUES (?, ?, 'b', ?, 1)"
SELECT = (
    f"SELECT userid, contentid FROM {TABLE} WHERE courseid = ? AND token(userid) > ? AND token(userid) <= ? "
    "ALLOW FILTERING"
)
RANGES, PAGE_SIZE = 7, 5


@pytest.fixture
def config(world: World) -> CassandraConfig:
    return CassandraConfig(contact_points=tuple(world.cassandra.contact_points), port=world.cassandra.port)


async def scan(cassandra: Cassandra, course_id: str) -> list[Sequence[Row]]:
    select = await cassandra.prepare(SELECT)
    return [page async for page in cassandra.scan(select, (course_id,), RANGES, PAGE_SIZE)]


@given(st.integers(1, 1_000))
def test_ranges_follow_each_other_and_cover_the_ring(count: int) -> None:
    ranges = token_ranges(count)
    assert len(ranges) == count
    assert (ranges[0][0], ranges[-1][1]) == (-(2**63), 2**63 - 1)
    assert all(end == next_start for (_, end), (next_start, _) in pairwise(ranges))
    widths = [end - start for start, end in ranges]
    assert max(widths) - min(widths) <= 1


async def test_a_scan_returns_every_row_once_in_pages(config: CassandraConfig, unique: str) -> None:
    rows = {(f"{unique}-{user}", f"do_{content}") for user in range(60) for content in range(3)}

    async with CassandraProxy(config.port) as proxy, opened(config, port=proxy.port) as (cassandra, metrics):
        insert = await cassandra.prepare(INSERT)
        await cassandra.write([[Write(insert, (user, unique, content))] for user, content in rows])
        proxy.requests.clear()
        pages = await scan(cassandra, unique)
        assert sorted(row for page in pages for row in page) == sorted(rows)
        assert max(map(len, pages)) <= PAGE_SIZE
        assert metrics.counts["rows_read"] == len(rows)
        # Each page is one request, and so is the end of a range that has no rows left.
        assert len(pages) <= len(proxy.requests) <= len(pages) + RANGES
        bounds = {bounds_of(frame, unique) for frame in proxy.requests}
        assert bounds == set(token_ranges(RANGES))
        assert await scan(cassandra, f"{unique}-other") == []


async def test_a_scan_that_loses_a_page_raises_instead_of_leaving_it_out(config: CassandraConfig, unique: str) -> None:
    async with behind_a_proxy(config) as (cassandra, proxy):
        insert = await cassandra.prepare(INSERT)
        await cassandra.write([[Write(insert, (f"{unique}-{n}", unique, "do_1"))] for n in range(60)])
        proxy.requests.clear()

        async def overload_once(frame: Frame) -> Frame | None:
            return frame.error(0x1001, "overloaded") if len(proxy.requests) == 4 else None

        proxy.answer = overload_once
        with pytest.raises(WorldFault, match="overloaded"):
            await scan(cassandra, unique)


def bounds_of(frame: Frame, course_id: str) -> tuple[int, int]:
    """The tokens that follow the course in the values of an EXECUTE."""
    at = frame.body.index(course_id.encode()) + len(course_id)
    _, start, _, end = struct.unpack_from(">iqiq", frame.body, at)
    return start, end
