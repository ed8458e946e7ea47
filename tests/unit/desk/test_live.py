"""Several people look at the figures of a batch at once."""

import asyncio
import traceback
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.domain.faults import WorldFault
from common.servers.cassandra import StatementError
from desk.figures import Figures
from desk.server.live import MAX_SCANS, LiveFigures, Snapshot
from tests.support.desk_records import NOW_MS, SETTINGS, batch

SCAN_SECONDS = 0.05


@pytest.fixture
def live(monkeypatch: pytest.MonkeyPatch) -> LiveFigures:
    """Keeps two batches, and scans nothing."""

    async def scan(*_: str) -> Snapshot:
        await asyncio.sleep(SCAN_SECONDS)
        return Snapshot(Figures(batch(), {}), {}, NOW_MS, SCAN_SECONDS)

    reader: Any = SimpleNamespace(config=SimpleNamespace(server=SimpleNamespace(max_batches=2, refresh_seconds=5)))
    figures = LiveFigures(reader, SETTINGS)
    monkeypatch.setattr(figures, "_scan", scan)
    return figures


async def test_all_who_wait_for_the_first_scan_get_its_figures(live: LiveFigures) -> None:
    first, second = await asyncio.gather(*(live.snapshot("do_course", "b", wait_seconds=5) for _ in range(2)))
    assert first is not None
    assert first is second


async def test_who_waits_for_a_batch_that_is_dropped_is_told_that_there_are_no_figures_yet(live: LiveFigures) -> None:
    first, *others = await asyncio.gather(
        *(live.snapshot("do_course", f"b-{number}", wait_seconds=5) for number in range(3))
    )
    assert first is None
    assert all(others)
    assert await live.snapshot("do_course", "b-0", wait_seconds=5) is not None


async def test_few_batches_are_scanned_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scans = most = 0

    async def scan(*_: str) -> Snapshot:
        nonlocal scans, most
        scans += 1
        most = max(most, scans)
        await asyncio.sleep(SCAN_SECONDS)
        scans -= 1
        return Snapshot(Figures(batch(), {}), {}, NOW_MS, SCAN_SECONDS)

    server = SimpleNamespace(max_batches=20, refresh_seconds=5)
    figures = LiveFigures(cast(Any, SimpleNamespace(config=SimpleNamespace(server=server))), SETTINGS)
    monkeypatch.setattr(figures, "_scan", scan)
    found = await asyncio.gather(*(figures.snapshot("do_course", f"b-{number}", wait_seconds=5) for number in range(6)))
    assert all(found)
    assert most == MAX_SCANS


@pytest.mark.parametrize("fault", [WorldFault("down"), StatementError("no time"), ValueError("a defect")])
async def test_a_scan_that_has_failed_is_not_begun_again_by_the_next_request(
    live: LiveFigures, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = []

    async def scan(*_: str) -> Snapshot:
        scans.append(1)
        raise fault

    monkeypatch.setattr(live, "_scan", scan)
    for _ in range(3):
        with pytest.raises(type(fault), match=str(fault)):
            await live.snapshot("do_course", "b", wait_seconds=5)
    assert len(scans) == 1


@pytest.mark.parametrize("fault", [WorldFault("down"), ValueError("a defect")])
async def test_a_kept_fault_does_not_keep_all_requests_that_got_it(
    live: LiveFigures, fault: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scan(*_: str) -> Snapshot:
        raise fault

    monkeypatch.setattr(live, "_scan", scan)
    frames = []
    for _ in range(4):
        with pytest.raises(type(fault)) as raised:
            await live.snapshot("do_course", "b", wait_seconds=5)
        frames.append(len(list(traceback.walk_tb(raised.value.__traceback__))))
        assert raised.value.__context__ is raised.value.__cause__ is None
    assert len(set(frames[1:])) == 1
