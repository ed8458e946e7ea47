"""Services that fail: what is tried again, for how long, and what the error says."""

import asyncio
import time

import pytest

from common.domain.faults import WorldFault
from common.servers.http_answers import Answer
from local.http_services import USER, HttpServices, Switch
from tests.support.api_client import (
    USER_READ,
    canned,
    client,
    until,
)


class TestWorldFaults:
    @pytest.mark.parametrize(
        "switch",
        [
            *(Switch(status=status, times=3) for status in (302, 304, 408, 429, 500, 502, 503, 504)),
            Switch(is_half=True, times=3),
            Switch(is_not_json=True, times=3),
            Switch(delay_ms=5_000, times=3),
        ],
        ids=str,
    )
    async def test_are_tried_again_until_the_answer_is_there(self, services: HttpServices, switch: Switch) -> None:
        services.switch(USER, switch)

        timeout_ms = {"request_timeout_ms": 1_000} if switch.delay_ms else {}
        async with client(services.base_url + USER_READ, **timeout_ms) as learner:
            answer = await learner.get("u-1")
            assert answer.at("result", "response", "firstName") == "Asha"
            calls, failures = learner.counts
            # On a busy machine a request without a delay may time out, too.
            assert failures >= 3 if switch.delay_ms else failures == 3
            assert calls == services.requests[USER] == failures + 1

    async def test_say_what_was_wrong_when_the_time_is_over(self) -> None:
        # Of eight services at the same time, because each takes its whole time.
        answers = [
            (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "answered with status 500$"),
            (b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "answered with status 302$"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]", "answered with status 200 and no JSON object: "),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered with status 200 and no JSON object: "),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "ClientPayloadError"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", "ServerDisconnectedError"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "ClientResponseError|BadHttpMessage|BadStatusLine"),
            (b"", "ServerDisconnectedError"),
        ]

        async def check(answer: bytes, said: str) -> None:
            async with canned(answer) as url, client(url, request_timeout_ms=1_400, call_timeout_ms=1_500) as api:
                with pytest.raises(WorldFault, match=f"^{url}.*({said})"):
                    await api.get("id")
                calls, failures = api.counts
                assert calls == failures > 1

        await asyncio.gather(*(check(answer, said) for answer, said in answers))

    @pytest.mark.parametrize("name", [b'"\\ud83d"', b"1e999"], ids=["half a surrogate pair", "no double"])
    async def test_json_that_nobody_can_store_is_an_answer_without_members(self, name: bytes) -> None:
        body = b'{"result": {"name": ' + name + b"}}"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()

        async with canned(head + body) as url, client(url) as api:
            assert await api.get("id") == Answer(200, {})
            assert api.counts == (1, 0)

    async def test_a_slow_service_is_a_fault_when_the_time_is_over(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=60_000))

        async with client(services.base_url + USER_READ, request_timeout_ms=50, call_timeout_ms=1_500) as learner:
            started = time.monotonic()
            with pytest.raises(WorldFault, match="did not answer in 50 ms"):
                await learner.get("u-1")
            assert 1.5 <= time.monotonic() - started < 50

    async def test_the_time_of_a_call_begins_with_its_first_try(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=60_000))

        async with client(services.base_url + USER_READ, request_timeout_ms=600, call_timeout_ms=1_000) as learner:
            with pytest.raises(WorldFault, match="did not answer in 600 ms"):
                await learner.get("u-1")
            calls, failures = learner.counts
            # A third would be sent after 1,200 ms.
            assert calls == failures <= 2

    async def test_an_answer_that_comes_drop_by_drop_is_too_late(self) -> None:
        async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
            try:
                for _ in range(1000):
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0.02)
            except ConnectionError:
                return
            finally:
                writer.close()

        async with await asyncio.start_server(drip, "127.0.0.1", 0) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            async with client(url, request_timeout_ms=100, call_timeout_ms=1_500) as api:
                with pytest.raises(WorldFault, match="did not answer in 100 ms"):
                    await api.get("id")

    async def test_a_service_that_is_gone_and_comes_back(self, services: HttpServices) -> None:
        async with client(services.base_url + USER_READ) as learner:
            await learner.get("u-1")
            services.refuse()
            waiting = asyncio.create_task(learner.get("u-1"))
            await until(lambda: learner.counts[1] >= 3)
            assert not waiting.done()
            services.accept()
            assert (await waiting).status == 200
            assert services.requests == {USER: 2}

    async def test_a_port_where_nobody_listens_is_a_fault(self, services: HttpServices) -> None:
        services.refuse()

        async with client(services.base_url + USER_READ, request_timeout_ms=1_400, call_timeout_ms=1_500) as learner:
            with pytest.raises(WorldFault, match="ClientConnectorError: Cannot connect"):
                await learner.get("u-1")

    async def test_a_call_that_is_given_up_leaves_the_client_usable(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=60_000, times=5))

        async with client(services.base_url + USER_READ, max_connections=5) as learner:
            calls = [asyncio.create_task(learner.get("u-1")) for _ in range(5)]
            await until(lambda: services.requests[USER] >= 5)
            for call in calls:
                call.cancel()
            answers = await asyncio.gather(*(learner.get("nobody") for _ in range(5)))
            assert [answer.status for answer in answers] == [404] * 5
            assert all(call.cancelled() for call in calls)


class TestWaitingInLine:
    """More calls than connections."""

    async def test_the_service_is_down_for_all_of_them_at_the_same_time(self, services: HttpServices) -> None:
        services.refuse()

        short = {"max_connections": 1, "request_timeout_ms": 400, "call_timeout_ms": 500}
        async with client(services.base_url + USER_READ, **short) as learner:
            started = time.monotonic()
            faults = await asyncio.gather(*(learner.get("u-1") for _ in range(40)), return_exceptions=True)
            # One after the other they would take 20 s.
            assert time.monotonic() - started < 10
            assert all(isinstance(fault, WorldFault) for fault in faults)
            # Those that have waited for too long send nothing any more, and the log says what is wrong.
            assert "Cannot connect" in str(faults[0])
            assert f"{services.base_url}{USER_READ} was down for 500 ms" in {str(fault) for fault in faults}

    async def test_does_not_count_while_others_are_answered(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=200))

        patient = {"max_connections": 2, "request_timeout_ms": 1_900, "call_timeout_ms": 2_000}
        async with client(services.base_url + USER_READ, **patient) as learner:
            started = time.monotonic()
            answers = await asyncio.gather(*(learner.get("u-1") for _ in range(30)))
            # The last one has waited for longer than a call may take.
            assert time.monotonic() - started > 2.5
            assert all(answer.is_success for answer in answers)
            assert learner.counts == (30, 0)

    async def test_counts_from_the_last_answer_on(self, services: HttpServices) -> None:
        short = {"max_connections": 2, "request_timeout_ms": 1_400, "call_timeout_ms": 1_500}
        async with client(services.base_url + USER_READ, **short) as learner:
            services.switch(USER, Switch(delay_ms=100))
            calls = [asyncio.create_task(learner.get("u-1")) for _ in range(60)]
            await until(lambda: sum(call.done() for call in calls) >= 10)
            services.refuse()
            stopped = time.monotonic()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            waited = time.monotonic() - stopped
            faults = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert len(faults) >= 40
            assert all(isinstance(fault, WorldFault) for fault in faults)
            # The time of one call, not of twenty or more that come after each other.
            assert 1.2 < waited < 15
