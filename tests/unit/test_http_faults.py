"""What a failure says about an id, and what it leads to for other calls, without a server."""

import asyncio
import gc
import socket
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from common.config.http import HttpConfig
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.concurrency import gather_all
from common.servers.http import ApiClient
from common.servers.http_answers import Answer, Unanswered


async def test_a_host_that_cannot_be_looked_up_is_no_fault_of_an_event() -> None:
    """The configuration refuses it before."""

    async def check(host: str) -> None:
        config = HttpConfig(request_timeout_ms=900, call_timeout_ms=1_000)
        client = ApiClient("test", f"http://{host}/", config, Metrics())
        try:
            with pytest.raises(WorldFault, match=r"UnicodeError|InvalidUrl") as raised:
                await client.get("u-1")
            assert type(raised.value) is WorldFault
        finally:
            await client.close()

    # At the same time, because each takes its whole time.
    await asyncio.gather(*map(check, ("learner..service:9000", "a" * 64, ".x", "")))


class BrieflyDown(ApiClient):
    """Its first five answers are no use."""

    def __init__(self) -> None:
        config = HttpConfig(
            max_connections=2, breaker_delay_ms=100, max_backoff_ms=100, request_timeout_ms=1_900, call_timeout_ms=2_000
        )
        super().__init__("test", "http://api/", config, Metrics())
        self._sent = 0

    async def _exchange(self, request: Any) -> Answer:
        self._sent += 1
        if self._sent <= 5:
            raise Unanswered("answered with status 503")
        await asyncio.sleep(0.1)
        return Answer(200, {})


async def test_a_service_that_was_down_for_a_moment_fails_no_call_of_a_long_line() -> None:
    """The last ones wait for longer than a call may take, and those that try again are not behind them."""
    client = BrieflyDown()
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        answers = await asyncio.gather(*(client.get(f"u-{number}") for number in range(60)))
        assert loop.time() - started > 2.5
        assert {answer.status for answer in answers} == {200}
    finally:
        await client.close()


class FailingForMost(ApiClient):
    """It answers for u-0 only. A second probe would come too late."""

    def __init__(self) -> None:
        config = HttpConfig(breaker_failures=1, breaker_delay_ms=60_000)
        super().__init__("test", "http://api/", config, Metrics(), poison_after_ms=60_000)
        self.asked: list[str] = []

    async def _exchange(self, request: Any) -> Answer:
        self.asked.append(request.url.rpartition("/")[2])
        if self.asked[-1] == "u-0":
            return Answer(200, {})
        raise Unanswered("answered with status 500")


async def test_ids_that_fail_for_the_first_time_do_not_make_the_others_wait_for_a_probe() -> None:
    client = FailingForMost()
    await client.get("u-0")
    failing = asyncio.create_task(client.get("failing"))
    try:
        async with asyncio.timeout(10):
            while len(client.asked) < 3:  # noqa: ASYNC110 - the condition is in the client
                await asyncio.sleep(0.01)
        assert client.asked[:3] == ["u-0", "failing", "u-0"]
    finally:
        failing.cancel()
        await asyncio.gather(failing, return_exceptions=True)
        await client.close()


class Failing(ApiClient):
    """Its answers are no use."""

    async def _exchange(self, request: Any) -> Answer:
        raise Unanswered("answered with status 500")


class Rows(str):
    """That can have a weak reference."""


@pytest.mark.parametrize(
    ("client_class", "prepare"),
    [(ApiClient, socket.socket.getsockname), (ApiClient, socket.socket.listen), (Failing, socket.socket.getsockname)],
    ids=["no connection", "no answer", "5xx"],
)
async def test_a_failure_keeps_nothing_until_the_garbage_collector_comes(
    client_class: type[ApiClient], prepare: Callable[[socket.socket], object]
) -> None:
    """A worker collects rarely, and a batch may have read megabytes."""
    kept: list[weakref.ref[Rows]] = []

    async def apply(client: ApiClient) -> None:
        rows = Rows("of a megabyte")
        kept.append(weakref.ref(rows))
        await gather_all([client.get("u-1"), client.get("u-2")])

    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        prepare(port)
        config = HttpConfig(max_backoff_ms=100, request_timeout_ms=100, call_timeout_ms=250)
        client = client_class("test", f"http://127.0.0.1:{port.getsockname()[1]}/", config, Metrics())
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                with pytest.raises(WorldFault):
                    await apply(client)
                await asyncio.sleep(0)
            assert [reference() for reference in kept] == [None] * 3
        finally:
            gc.enable()
            await client.close()
