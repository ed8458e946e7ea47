"""Health checks: one at a time, one a second, whoever asks."""

import asyncio

import pytest

from common.domain.faults import WorldFault
from services import health
from services.health import HealthCheck


class Server:
    """Answers when it is told to, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers = asyncio.Event()
        self.fault: Exception | None = None

    async def ping(self) -> None:
        self.asked += 1
        await self.answers.wait()
        if self.fault:
            raise self.fault


def test_many_callers_share_one_check_and_its_result_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        server = Server()
        check = HealthCheck("kafka", server.ping)
        callers = [asyncio.create_task(check.is_healthy()) for _ in range(40)]
        await asyncio.sleep(0)
        callers[0].cancel()
        await asyncio.sleep(0)
        server.answers.set()
        assert await asyncio.gather(*callers[1:]) == [True] * 39
        server.fault = WorldFault("down")
        assert await check.is_healthy() is True
        assert server.asked == 1
        monkeypatch.setattr(health, "_CACHE_SECONDS", 0)
        check._expires_at = 0
        assert await check.is_healthy() is False
        server.fault = None
        assert await check.is_healthy() is True
        assert server.asked == 3

    asyncio.run(run())


def test_a_server_that_does_not_answer_is_unhealthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_TIMEOUT_SECONDS", 0.01)

    async def run() -> None:
        assert await HealthCheck("kafka", Server().ping).is_healthy() is False

    asyncio.run(run())


def test_a_check_under_way_ends_with_the_process() -> None:
    async def run() -> None:
        check = HealthCheck("kafka", Server().ping)
        caller = asyncio.create_task(check.is_healthy())
        await asyncio.sleep(0)
        check.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    asyncio.run(run())
