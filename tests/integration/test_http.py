"""The API client against a real server that misbehaves in every way it knows, and that server run on its own."""

import asyncio
import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.config.model import CacheConfig, HttpConfig
from common.domain.faults import WorldFault
from common.metrics import Metrics
from common.servers.cache import TimedCache
from common.servers.http import Answer, ApiClient
from local.http_services import CONTENT, SEARCH, USER, HttpServices, Switch

USER_READ = "/private/user/v1/read/"
USER_FIELDS = "?organisations,roles,locations,declarations,externalIds"
CONTENT_READ = "/content/v3/read/"

QUICK = {
    "connect_timeout_ms": 1_000,
    "request_timeout_ms": 1_000,
    "call_timeout_ms": 20_000,
    "initial_backoff_ms": 5,
    "max_backoff_ms": 20,
    "breaker_delay_ms": 50,
}


@pytest.fixture
def services() -> Iterator[HttpServices]:
    with HttpServices() as services:
        services.users["u-1"] = {"firstName": "Asha", "rootOrgId": "org-1", "userLocations": []}
        services.contents["do_1"] = {"name": "Botany", "contentType": "SelfAssess", "totalQuestions": 2}
        yield services


class Client(ApiClient):
    """An ApiClient with short times that keeps its metrics in sight."""

    def __init__(self, base_url: str, **changes: int) -> None:
        self.metrics = Metrics()
        super().__init__("learner", base_url, HttpConfig(**{**QUICK, **changes}), self.metrics)

    @property
    def counts(self) -> tuple[int, int]:
        """Calls and failures."""
        return self.metrics.counts["api_calls", "api", "learner"], self.metrics.counts["api_failures", "api", "learner"]


@asynccontextmanager
async def client(base_url: str, **changes: int) -> AsyncIterator[Client]:
    opened = Client(base_url, **changes)
    try:
        yield opened
    finally:
        await opened.close()


@asynccontextmanager
async def canned(answer: bytes) -> AsyncIterator[str]:
    """The URL of a server that gives every request the same answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what it waits for happens in the server's thread
        await asyncio.sleep(0.005)


class TestAnswers:
    async def test_user_read(self, services: HttpServices) -> None:
        async with client(services.base_url + USER_READ) as learner:
            answer = await learner.get("u-1", USER_FIELDS)
            assert answer.is_success
            assert answer.at("result", "response") == {"id": "u-1", "userId": "u-1", **services.users["u-1"]}
            assert answer.at("responseCode") == "OK"
            assert learner.counts == (1, 0)

    async def test_content_read_with_fields(self, services: HttpServices) -> None:
        async with client(services.base_url + CONTENT_READ) as content:
            answer = await content.get("do_1", "?fields=name,totalQuestions")
            expected = {"identifier": "do_1", "name": "Botany", "totalQuestions": 2}
            assert answer.at("result", "content") == expected

    async def test_search(self, services: HttpServices) -> None:
        services.contents |= {
            "live": {"objectType": "Collection", "status": "Live", "name": "x"},
            "retired": {"objectType": "Collection", "status": "Retired"},
            "draft": {"objectType": "Collection", "status": "Draft"},
        }

        async def search(api: ApiClient, course_id: str) -> Any:
            filters = {"objectType": "Collection", "identifier": course_id, "status": ["Live", "Unlisted", "Retired"]}
            return (await api.post({"request": {"filters": filters, "fields": ["status"]}})).at("result")

        async with client(f"{services.base_url}/v3/search") as api:
            for course_id, status in [("live", "Live"), ("retired", "Retired")]:
                found = {"identifier": course_id, "objectType": "Collection", "status": status}
                assert await search(api, course_id) == {"count": 1, "content": [found]}
            for course_id in ("draft", "do_1", "unknown"):
                assert await search(api, course_id) == {"count": 0}

    async def test_what_the_service_does_not_know_is_data(self, services: HttpServices) -> None:
        services.users["blocked"] = {"status": 0}

        for path, identifier, status, error, code in [
            (USER_READ, "nobody", 404, "UOS_USRRED0013", "RESOURCE_NOT_FOUND"),
            (USER_READ, "blocked", 400, "UOS_USRRED0006", "CLIENT_ERROR"),
            (CONTENT_READ, "nothing", 404, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
            ("/no/such/route/", "", 404, "NOT_FOUND", "RESOURCE_NOT_FOUND"),
        ]:
            async with client(services.base_url + path) as api:
                answer = await api.get(identifier)
            assert (answer.status, answer.is_success) == (status, False)
            assert (answer.at("params", "err"), answer.at("responseCode")) == (error, code)
            assert answer.at("result", "response", "firstName") is None
            assert api.counts == (1, 0)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 451, 499])
    @pytest.mark.parametrize("body", [b"<html>no</html>", b"", b"[1]", b"\xff", b'"no"'])
    async def test_a_4xx_is_data_even_without_json(self, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} No\r\nContent-Length: {len(body)}\r\n\r\n"
        async with canned(head.encode() + body) as url, client(url) as api:
            assert await api.get("id") == Answer(status, {})

    @given(identifier=st.text(max_size=30).filter(lambda text: text not in ("", ".", "..")))
    @settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
    async def test_any_id_arrives_as_it_is(self, services: HttpServices, identifier: str) -> None:
        await self._arrives(services, identifier)

    @pytest.mark.parametrize("identifier", ["../u-1", "a/b", "a?b#c", "%2e%2e", "a b\r\nX: y", "अ", "\0", "+"])
    async def test_an_id_leads_to_no_other_path(self, services: HttpServices, identifier: str) -> None:
        await self._arrives(services, identifier)

    @pytest.mark.parametrize("identifier", [".", ".."])
    async def test_an_id_that_a_proxy_would_take_for_a_step_in_the_path_is_data(
        self, services: HttpServices, identifier: str
    ) -> None:
        async with client(services.base_url + USER_READ) as learner:
            assert await learner.get(identifier, USER_FIELDS) == Answer(404, {})
        assert not services.requests

    @pytest.mark.parametrize("step", ["..", "%2e%2E", ".%2e"])
    async def test_the_services_resolve_steps_in_a_path_as_proxies_do(self, services: HttpServices, step: str) -> None:
        async with client(f"{services.base_url}{USER_READ}elsewhere/{step}/") as learner:
            services.users["u-1"] = {"firstName": "Asha"}
            assert (await learner.get("u-1")).at("result", "response", "firstName") == "Asha"

    async def _arrives(self, services: HttpServices, identifier: str) -> None:
        services.users[identifier] = {"firstName": "found"}
        async with client(services.base_url + USER_READ) as learner:
            answer = await learner.get(identifier, USER_FIELDS)
            assert answer.at("result", "response") == {"id": identifier, "userId": identifier, "firstName": "found"}

    async def test_an_id_that_is_too_long_for_any_server_is_data(self, services: HttpServices) -> None:
        async with client(services.base_url + USER_READ) as learner:
            assert await learner.get("x" * 8000) == Answer(414, {})
            assert (await learner.get("x" * 7900)).status == 404
            assert services.requests == {USER: 1}


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

        async with client(
            services.base_url + USER_READ, request_timeout_ms=300 if switch.delay_ms else 5_000
        ) as learner:
            answer = await learner.get("u-1")
            assert answer.at("result", "response", "firstName") == "Asha"
            assert learner.counts == (4, 3)
            assert services.requests == {USER: 4}

    @pytest.mark.parametrize(
        ("answer", "said"),
        [
            (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "answered with status 500$"),
            (b"HTTP/1.1 302 Go\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "answered with status 302$"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]", "answered with status 200 and no JSON object: "),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "answered with status 200 and no JSON object: "),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "ClientPayloadError"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n", "ServerDisconnectedError"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "ClientResponseError|BadHttpMessage|BadStatusLine"),
            (b"", "ServerDisconnectedError"),
        ],
    )
    async def test_say_what_was_wrong_when_the_time_is_over(self, answer: bytes, said: str) -> None:
        async with canned(answer) as url, client(url, request_timeout_ms=400, call_timeout_ms=800) as api:
            with pytest.raises(WorldFault, match=f"^{url}.*({said})"):
                await api.get("id")
            calls, failures = api.counts
            assert calls == failures > 1

    @pytest.mark.parametrize("name", [b'"\\ud83d"', b"1e999"], ids=["half a surrogate pair", "no double"])
    async def test_json_that_nobody_can_store_is_an_answer_without_members(self, name: bytes) -> None:
        body = b'{"result": {"name": ' + name + b"}}"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode()

        async with canned(head + body) as url, client(url) as api:
            assert await api.get("id") == Answer(200, {})
            assert api.counts == (1, 0)

    async def test_a_slow_service(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=60_000))

        async with client(services.base_url + USER_READ, request_timeout_ms=50, call_timeout_ms=300) as learner:
            started = time.monotonic()
            with pytest.raises(WorldFault, match="did not answer in 50 ms"):
                await learner.get("u-1")
            assert 0.3 <= time.monotonic() - started < 10

    async def test_an_answer_that_comes_drop_by_drop(self) -> None:
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
            async with client(url, request_timeout_ms=100, call_timeout_ms=150) as api:
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

    async def test_nobody_listens(self, services: HttpServices) -> None:
        services.refuse()

        async with client(services.base_url + USER_READ, request_timeout_ms=200, call_timeout_ms=400) as learner:
            with pytest.raises(WorldFault, match="ClientConnectorError: Cannot connect"):
                await learner.get("u-1")

    async def test_a_call_that_is_given_up_leaves_the_client_usable(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=100, times=5))

        async with client(services.base_url + USER_READ, max_connections=5) as learner:
            calls = [asyncio.create_task(learner.get("u-1")) for _ in range(5)]
            await until(lambda: services.requests[USER] >= 5)
            for call in calls:
                call.cancel()
            answers = await asyncio.gather(*(learner.get("nobody") for _ in range(5)))
            assert [answer.status for answer in answers] == [404] * 5
            assert all(call.cancelled() for call in calls)


class TestConnections:
    async def test_are_bounded_and_waiting_for_one_is_no_fault(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=100))

        async with client(services.base_url + USER_READ, max_connections=2, request_timeout_ms=500) as learner:
            started = time.monotonic()
            answers = await asyncio.gather(*(learner.get("u-1") for _ in range(12)))
            assert time.monotonic() - started >= 6 * 0.1
            assert all(answer.is_success for answer in answers)
            assert learner.counts == (12, 0)


class TestBreaker:
    async def test_spares_a_service_that_is_down_and_lets_all_go_on_when_it_is_back(
        self, services: HttpServices
    ) -> None:
        services.switch(USER, Switch(status=503))

        async with client(services.base_url + USER_READ, breaker_failures=3, breaker_delay_ms=100) as learner:
            first = asyncio.create_task(learner.get("u-1"))
            # Of the client: the service has counted a request before its answer is here.
            await until(lambda: learner.counts[1] >= 3)
            opened = time.monotonic()
            waiting = [first, *(asyncio.create_task(learner.get("u-1")) for _ in range(50))]
            await until(lambda: services.requests[USER] >= 6)
            # Three probes, the earliest 100 ms after the third failure.
            assert time.monotonic() - opened >= 0.25
            assert not any(call.done() for call in waiting)

            services.switch(USER, Switch())
            before = services.requests[USER]
            answers = await asyncio.gather(*waiting)
            assert all(answer.is_success for answer in answers)
            assert services.requests[USER] <= before + 52

    async def test_a_caller_waits_no_longer_than_its_own_time(self, services: HttpServices) -> None:
        services.switch(USER, Switch(status=503))

        async with client(
            services.base_url + USER_READ,
            breaker_failures=1,
            breaker_delay_ms=60_000,
            request_timeout_ms=200,
            call_timeout_ms=300,
        ) as learner:
            faults = await asyncio.gather(*(learner.get("u-1") for _ in range(3)), return_exceptions=True)
            assert all("answered with status 503" in str(fault) for fault in faults)
            requests = services.requests[USER]
            with pytest.raises(WorldFault, match=f"{services.base_url}{USER_READ} was down for 300 ms"):
                await learner.get("u-1")
            assert services.requests[USER] == requests

    async def test_a_probe_that_is_given_up_is_passed_on(self, services: HttpServices) -> None:
        services.switch(USER, Switch(status=503, times=1))

        async with client(services.base_url + USER_READ, breaker_failures=1, breaker_delay_ms=100) as learner:
            probing = asyncio.create_task(learner.get("u-1"))
            await until(lambda: services.requests[USER] >= 1)
            waiting = asyncio.create_task(learner.get("u-1"))
            await asyncio.sleep(0.05)
            probing.cancel()
            assert (await waiting).is_success

    async def test_counts_failures_in_a_row_only(self, services: HttpServices) -> None:
        async with client(services.base_url + USER_READ, breaker_failures=2, breaker_delay_ms=60_000) as learner:
            for _ in range(5):
                services.switch(USER, Switch(status=500, times=1))
                assert (await learner.get("u-1")).is_success

    async def test_data_faults_do_not_open_it(self, services: HttpServices) -> None:
        async with client(services.base_url + USER_READ, breaker_failures=1, breaker_delay_ms=60_000) as learner:
            for _ in range(3):
                assert (await learner.get("nobody")).status == 404


async def test_a_cache_in_front_asks_the_service_once(services: HttpServices) -> None:
    services.switch(CONTENT, Switch(delay_ms=20))

    async with client(services.base_url + CONTENT_READ) as content:

        async def load(ids: Any) -> dict[str, Any]:
            answers = await asyncio.gather(*(content.get(id_) for id_ in ids))
            return {id_: answer.at("result", "content") for id_, answer in zip(ids, answers, strict=True)}

        cache: TimedCache[str, Any] = TimedCache("content", CacheConfig(), content.metrics)
        found = await asyncio.gather(*(cache.get_many(["do_1", "do_2"], load) for _ in range(50)))
        assert all(answer["do_1"]["name"] == "Botany" and answer["do_2"] is None for answer in found)
        assert services.requests == {CONTENT: 2}


class TestServices:
    def test_a_port_that_is_taken(self, services: HttpServices) -> None:
        port = int(services.base_url.rpartition(":")[2])
        with pytest.raises(OSError, match="address already in use"), HttpServices(port):
            pass

    def test_an_unknown_route(self, services: HttpServices) -> None:
        with pytest.raises(ValueError, match="unknown route 'users': choose from user, content, search"):
            services.switch("users", Switch())

    @pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
    def test_on_their_own(self, end: signal.Signals) -> None:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.http_services"],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            self._put(f"{url}/admin/users", {"u-2": {"firstName": "Ravi"}})
            self._put(f"{url}/admin/contents", {"do_2": {"name": "Physics"}})
            self._put(f"{url}/admin/switches", {USER: {"status": 500, "times": 1}, SEARCH: {"delay_ms": 1}})
            with pytest.raises(urllib.error.HTTPError, match="500"):
                self._get(f"{url}{USER_READ}u-2")
            assert self._get(f"{url}{USER_READ}u-2")["result"]["response"]["firstName"] == "Ravi"
            assert self._get(f"{url}{CONTENT_READ}do_2")["result"]["content"]["name"] == "Physics"
            assert self._get(f"{url}/admin/requests") == {USER: 2, CONTENT: 1}
            self._put(f"{url}/admin/refused", {"for_ms": 300})
            with pytest.raises(urllib.error.URLError, match="Connection refused"):
                self._get(f"{url}/admin/requests")
            deadline = time.monotonic() + 10
            while True:
                try:
                    assert self._get(f"{url}/admin/requests") == {USER: 2, CONTENT: 1}
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
            process.send_signal(end)
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.wait()

    def _put(self, url: str, body: Any) -> None:
        request = urllib.request.Request(url, json.dumps(body).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=10) as response:
            assert response.status == 200

    def _get(self, url: str) -> Any:
        with urllib.request.urlopen(url, timeout=10) as response:
            return json.load(response)
