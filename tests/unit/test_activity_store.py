"""The order of the updater's writes, and what happens if the process stands still between two of them."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.cassandra import Cassandra
from jobs.activity_aggregate_updater.progress import EnrolmentChange
from jobs.activity_aggregate_updater.rules import CompletedCount, Decision
from jobs.activity_aggregate_updater.store import Store

ASHA = EnrolmentKey("asha", "do_course", "b1")
DECISION = Decision(
    ((CompletedCount("do_unit", 1),), (CompletedCount("do_course", 1),)),
    (EnrolmentChange(status=1, completed_on_ms=None, content_status={"A": 2}, progress=1),),
    (),
)


class Tables:
    """Remembers the number of writes."""

    def __init__(self) -> None:
        self.writes = 0

    async def prepare(self, text: str) -> str:
        return text

    async def write(self, partitions: Iterable[Sequence[Any]]) -> None:
        self.writes += sum(map(len, partitions))


def write(tables: Tables, still_before: int) -> None:
    """Writes DECISION. The process stands still before the write of that number, counted from 0."""

    def require_fresh() -> None:
        if tables.writes >= still_before:
            raise WorldFault("stood still")

    async def run() -> None:
        store = Store(cast(Cassandra, tables), "sunbird_courses", Metrics())
        await store.prepare()
        await store.write({ASHA: DECISION}, datetime(2026, 1, 1, tzinfo=UTC), require_fresh)

    asyncio.run(run())


def test_all_is_written_one_after_the_other() -> None:
    tables = Tables()
    write(tables, still_before=4)
    assert tables.writes == 3


@pytest.mark.parametrize("number", range(3))
def test_nothing_is_written_after_the_process_stood_still(number: int) -> None:
    tables = Tables()
    with pytest.raises(WorldFault):
        write(tables, still_before=number)
    assert tables.writes == number
