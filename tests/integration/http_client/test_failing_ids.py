"""An id that a service cannot answer, while it answers others."""

import asyncio
from typing import Any

import pytest

from common.domain.events import BadEvent
from common.domain.faults import WorldFault
from local.http_services import USER, HttpServices, Switch
from tests.support.api_client import USER_READ, Client, client, until
from tests.support.silent_services import SilentServices

POISON_AFTER_MS = 300


def poisonable(services: HttpServices, **changes: int) -> Any:
    services.users["u-2"] = {"firstName": "Ravi"}
    services.failing.add("poison")
    return client(services.base_url + USER_READ, poison_after_ms=POISON_AFTER_MS, **changes)


async def refused(learner: Client, identifier: str = "poison") -> str:
    with pytest.raises(BadEvent) as caught:
        await learner.get(identifier)
    assert caught.value.kind == "api_error"
    return caught.value.reason


async def test_an_id_that_fails_alone_is_refused_with_the_reason(services: HttpServices) -> None:
    async with poisonable(services) as learner:
        await learner.get("u-1")
        assert (
            await refused(learner) == "learner API has not answered 'poison' for 0 s, although it answers others: "
            f"{services.base_url}{USER_READ} answered with status 500"
        )


async def test_others_are_answered_meanwhile_and_the_next_event_is_refused_after_one_try(
    services: HttpServices,
) -> None:
    async with poisonable(services, breaker_failures=2) as learner:
        await learner.get("u-1")
        poisoned = asyncio.create_task(refused(learner))
        answered = 0
        while not poisoned.done():
            assert (await learner.get("u-2")).is_success
            answered += 1
        await poisoned
        assert answered > 3
        calls, _ = learner.counts
        await refused(learner)
        assert learner.counts[0] - calls <= 4


async def test_the_memory_outlives_a_call(services: HttpServices) -> None:
    """A call may take less time than the limit; the batch is then applied again."""
    async with poisonable(services, request_timeout_ms=90, call_timeout_ms=100) as learner:
        await learner.get("u-1")
        with pytest.raises(WorldFault, match="answered with status 500"):
            await learner.get("poison")
        for _ in range(50):
            try:
                await learner.get("poison")
            except WorldFault:
                continue
            except BadEvent:
                return
    pytest.fail("poison was never found")


async def test_an_id_that_answers_again_is_answered(services: HttpServices) -> None:
    async with poisonable(services) as learner:
        await learner.get("u-1")
        await refused(learner)
        services.failing.clear()
        services.users["poison"] = {"firstName": "Meena"}
        assert (await learner.get("poison")).is_success


async def test_while_no_id_is_answered_everybody_waits(services: HttpServices) -> None:
    async with poisonable(services) as learner:
        await learner.get("u-1")
        services.switch(USER, Switch(status=500))
        waiting = [asyncio.create_task(learner.get(identifier)) for identifier in ("u-1", "u-2")]
        before = services.requests[USER]
        await asyncio.sleep(3 * POISON_AFTER_MS / 1000)
        await until(lambda: services.requests[USER] >= before + 10)
        assert not any(call.done() for call in waiting)
        services.switch(USER, Switch())
        assert all(answer.is_success for answer in await asyncio.gather(*waiting))


async def test_an_id_that_is_never_answered_in_time_is_refused_while_others_are_answered() -> None:
    with SilentServices() as services:
        services.users["u-1"] = {"firstName": "Asha"}
        services.silent.add("hangs")
        async with poisonable(services, request_timeout_ms=200) as learner:
            await learner.get("u-1")
            assert (await refused(learner, "hangs")).endswith("did not answer in 200 ms")


async def test_an_id_that_times_out_is_known_where_one_try_takes_nearly_all_of_a_call() -> None:
    with SilentServices() as services:
        services.users["u-1"] = {"firstName": "Asha"}
        services.silent.add("hangs")
        services.delay_of_others_ms = 30
        async with poisonable(services, request_timeout_ms=190, call_timeout_ms=200) as learner:
            await learner.get("u-1")
            for _ in range(8):
                with pytest.raises((WorldFault, BadEvent)) as caught:
                    await learner.get("hangs")
            assert isinstance(caught.value, BadEvent)


async def test_a_service_that_is_slow_for_all_refuses_no_id() -> None:
    """Others are answered, too, but not in half of the time."""
    with SilentServices() as services:
        services.users["u-1"] = {"firstName": "Asha"}
        services.silent.add("hangs")
        async with poisonable(services, request_timeout_ms=200, call_timeout_ms=6_000) as learner:
            await learner.get("u-1")
            services.delay_of_others_ms = 120
            with pytest.raises(WorldFault, match="did not answer in 200 ms"):
                await learner.get("hangs")


async def test_controls_that_take_long_together_are_answered_well() -> None:
    """Each is answered in less than half of the time. There are up to three of them."""
    with SilentServices() as services:
        services.users["u-1"] = {"firstName": "Asha"}
        services.silent.add("hangs")
        services.delay_of_others_ms = 90
        async with poisonable(services, request_timeout_ms=250) as learner:
            await learner.get("u-1")
            assert (await refused(learner, "hangs")).endswith("did not answer in 250 ms")


async def test_a_call_that_waits_until_it_tries_again_holds_no_connection(services: HttpServices) -> None:
    async with poisonable(services, max_connections=1, initial_backoff_ms=60_000, max_backoff_ms=60_000) as learner:
        waiting = asyncio.create_task(learner.get("poison"))
        await until(lambda: learner.counts == (1, 1))
        assert (await learner.get("u-2")).is_success
        assert not waiting.done()
        waiting.cancel()


async def test_a_call_that_tries_again_is_not_last_in_a_long_line(services: HttpServices) -> None:
    """Others are answered all the time, so it must not fail because they are many."""
    async with poisonable(services, max_connections=1, request_timeout_ms=500, call_timeout_ms=1_000) as learner:
        services.switch(USER, Switch(status=503, times=1))
        again = asyncio.create_task(learner.get("u-1"))
        others = [asyncio.create_task(learner.get("u-2")) for _ in range(60)]
        await until(lambda: learner.counts[1] == 1)
        services.switch(USER, Switch(delay_ms=50))
        assert (await again).is_success
        assert not all(other.done() for other in others)
        assert all(answer.is_success for answer in await asyncio.gather(*others))


async def test_the_wait_for_a_connection_is_no_timeout() -> None:
    """More calls than connections, of which each waits for longer than a request may take."""
    with SilentServices() as services:
        services.users["u-1"] = {"firstName": "Asha"}
        services.delay_of_others_ms = 100
        async with poisonable(services, request_timeout_ms=1_000, max_connections=1) as learner:
            answers = await asyncio.gather(*(learner.get("u-1") for _ in range(20)))
            assert all(answer.is_success for answer in answers)
            assert learner.counts == (20, 0)


class Breaking(HttpServices):
    """Only requests for u-2 misbehave; without a switch their connection is closed."""

    def __init__(self, switch: Switch | None) -> None:
        super().__init__()
        self._misbehaviour = switch

    async def _answer(self, request: Any) -> Any:
        is_for_u2 = request.path.endswith("u-2")
        if is_for_u2 and self._misbehaviour is None:
            raise ConnectionError
        self.switch(USER, (self._misbehaviour if is_for_u2 else None) or Switch())
        return await super()._answer(request)


@pytest.mark.parametrize(
    "switch",
    [None, Switch(status=500), Switch(status=302), Switch(is_not_json=True), Switch(is_half=True)],
    ids=repr,
)
async def test_an_id_that_is_never_answered_properly_is_refused_while_others_are_answered(
    switch: Switch | None,
) -> None:
    with Breaking(switch) as services:
        services.users["u-1"] = {"firstName": "Asha"}
        async with poisonable(services) as learner:
            await learner.get("u-1")
            await refused(learner, "u-2")
            assert (await learner.get("u-1")).is_success


async def test_an_id_that_is_asked_for_too_often_is_not_at_fault() -> None:
    with Breaking(Switch(status=429)) as services:
        services.users["u-1"] = {"firstName": "Asha"}
        async with poisonable(services, request_timeout_ms=1_000, call_timeout_ms=4 * POISON_AFTER_MS) as learner:
            await learner.get("u-1")
            with pytest.raises(WorldFault, match="answered with status 429"):
                await learner.get("u-2")
            assert (await learner.get("u-1")).is_success


async def test_a_client_without_a_limit_never_refuses(services: HttpServices) -> None:
    services.failing.add("poison")
    async with client(services.base_url + USER_READ, request_timeout_ms=1_400, call_timeout_ms=1_500) as learner:
        await learner.get("u-1")
        with pytest.raises(WorldFault, match="answered with status 500"):
            await learner.get("poison")
