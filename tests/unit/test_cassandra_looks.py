"""The deadlines of requests are checked whatever happens, with connections that a test answers."""

from typing import Any

import pytest

from common.domain.faults import TaskFault, WorldFault
from tests.support.cassandra_nodes import cluster


@pytest.mark.parametrize("part", ["_is_silent", "_timed_out"])
async def test_a_defect_of_one_request_ends_no_other_ones_deadline(
    part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor is it the fault of an event, and the log says where it is."""
    async with cluster() as nodes:
        working = getattr(nodes.requests, part)
        nodes.requests._timeout = 0.1
        broken = nodes.execute()
        await nodes.a.wait_for(1)
        (request,) = nodes.requests._in_flight

        def defect(of: Any) -> Any:
            if of is request:
                raise RuntimeError("of ours")
            return working(of)

        monkeypatch.setattr(nodes.requests, part, defect)
        other = nodes.execute()
        with pytest.raises(TaskFault, match="cannot be watched: of ours"):
            await broken
        assert "in defect" in caplog.text
        with pytest.raises(WorldFault, match=r"no answer within 0\.1 s"):
            await other
        # The looks go on.
        last = nodes.execute()
        with pytest.raises(WorldFault, match=r"no answer within 0\.1 s"):
            await last


async def test_a_defect_while_a_late_request_is_repeated_ends_no_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster() as nodes:
        nodes.requests._late_after = 0.0

        def defect(_: object) -> bool:
            raise RuntimeError("of ours")

        monkeypatch.setattr(nodes.requests, "_repeat", defect)
        for _ in range(2):
            with pytest.raises(TaskFault, match="cannot be watched: of ours"):
                await nodes.execute()
