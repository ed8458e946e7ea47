"""The circuit breaker of the API client."""

import asyncio
import time
from typing import Any

import pytest

from common.domain.faults import WorldFault
from local.http_services import USER, HttpServices, Switch
from tests.support.api_client import (
    USER_READ,
    client,
    until,
)


class AnsweringOnce(HttpServices):
    """The fourth request is answered well."""

    answered = 0

    async def _answer(self, request: Any) -> Any:
        self.answered += self.requests[USER] == 3
        self.switch(USER, Switch() if self.requests[USER] == 3 else Switch(status=503))
        return await super()._answer(request)


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

    async def test_spares_a_service_that_answers_once_and_is_down_again(self) -> None:
        """All calls were let go on by the one answer, and wait for the connection."""
        with AnsweringOnce() as services:
            url = services.base_url + USER_READ
            async with client(url, breaker_failures=2, breaker_delay_ms=1_000, max_connections=1) as learner:
                waiting = [asyncio.create_task(learner.get("u-1")) for _ in range(40)]
                await until(lambda: services.answered == 1)
                before = services.requests[USER]
                await until(lambda: services.requests[USER] >= before + 2)
                await asyncio.sleep(0.3)
                # Two failures until it opens again, and on a slow machine a probe.
                assert services.requests[USER] <= before + 4
                for call in waiting:
                    call.cancel()

    async def test_a_caller_waits_no_longer_than_its_own_time(self, services: HttpServices) -> None:
        services.switch(USER, Switch(status=503))

        async with client(
            services.base_url + USER_READ,
            breaker_failures=1,
            breaker_delay_ms=60_000,
            request_timeout_ms=1_400,
            call_timeout_ms=1_500,
        ) as learner:
            faults = await asyncio.gather(*(learner.get("u-1") for _ in range(3)), return_exceptions=True)
            assert all("answered with status 503" in str(fault) for fault in faults)
            requests = services.requests[USER]
            with pytest.raises(WorldFault, match=f"{services.base_url}{USER_READ} was down for 1500 ms"):
                await learner.get("u-1")
            assert services.requests[USER] == requests

    async def test_a_first_try_that_is_given_up_does_not_open_it(self, services: HttpServices) -> None:
        services.switch(USER, Switch(delay_ms=60_000, times=1))

        async with client(services.base_url + USER_READ, breaker_failures=1, breaker_delay_ms=60_000) as learner:
            call = asyncio.create_task(learner.get("u-1"))
            await until(lambda: services.requests[USER] >= 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert (await learner.get("nobody")).status == 404
            assert learner.counts == (2, 1)

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
