"""What the API client makes of an answer, and how it asks."""

import asyncio
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.config.model import CacheConfig
from common.servers.cache import TimedCache
from common.servers.http import ApiClient
from common.servers.http_answers import Answer
from local.http_services import CONTENT, USER, HttpServices, Switch
from tests.support.api_client import (
    CONTENT_READ,
    USER_FIELDS,
    USER_READ,
    canned,
    client,
)


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


class TestConnections:
    async def test_are_bounded_and_waiting_for_one_is_no_fault(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=300))

        # The last ones wait longer for a connection than a request may take.
        async with client(services.base_url + USER_READ, max_connections=2, request_timeout_ms=1_500) as learner:
            started = time.monotonic()
            answers = await asyncio.gather(*(learner.get("u-1") for _ in range(12)))
            assert time.monotonic() - started >= 6 * 0.3
            assert all(answer.is_success for answer in answers)
            assert learner.counts == (12, 0)


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
