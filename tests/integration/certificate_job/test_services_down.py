"""Services that misbehave for a while: the job waits and then issues the certificate."""

import asyncio
import time

import pytest

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import CONTENT, USER, HttpServices, Switch
from tests.support.certificate_job import (
    AT_LEAST_75,
    OUT,
    QUICK,
    Course,
    applied,
    edata,
    names,
    running,
    template,
    until,
)


class TestWhatMustWaitAndThenWork:
    @pytest.mark.parametrize(
        "switch",
        [
            Switch(status=500, times=3),
            Switch(status=429, times=3),
            Switch(delay_ms=60_000, times=3),
            Switch(is_half=True, times=3),
            Switch(is_not_json=True, times=3),
        ],
        ids=["500", "429", "timeout", "half an answer", "no JSON"],
    )
    @pytest.mark.parametrize("route", [USER, CONTENT])
    async def test_a_service_that_misbehaves_for_a_while(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        route: str,
        switch: Switch,
    ) -> None:
        course.templates(template(AT_LEAST_75))
        course.score(course.asha, {f"score:{course.asha}": 9.0, f"max_score:{course.asha}": 10.0})
        services.contents[course.asha] = {"contentType": "SelfAssess"}
        services.switch(route, switch)
        http = QUICK.model_copy(update={"request_timeout_ms": 1_000 if switch.delay_ms else 5_000})
        messages, job = await applied(config.model_copy(update={"http": http}), course.request())
        assert names(messages) == ["Completion"]
        failures = job.of("api_failures")[f"{route}_read"]
        # On a busy machine a request without a delay may time out, too.
        assert failures >= 3 if switch.delay_ms else failures == 3
        assert services.requests[route] == failures + 1
        assert job.retries == 0

    async def test_a_service_that_is_down_for_longer_than_a_call_may_take(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        course.templates(template())
        course.enrol(course.asha)
        impatient = QUICK.model_copy(update={"request_timeout_ms": 100, "call_timeout_ms": 200})

        async with running(config.model_copy(update={"http": impatient})) as job:
            services.refuse()
            waiting = asyncio.create_task(job.apply(course.request()))
            await until(lambda: job.retries >= 2)
            assert not waiting.done()
            services.accept()
            ((message,),) = await waiting
            assert message.topic == OUT
            assert job.of("events_applied") == {"issued": 1}

    async def test_while_it_is_down_one_call_at_a_time_looks_for_it(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        course.templates(template())
        learners = course.enrolled(50)
        services.switch(USER, Switch(status=503))
        http = QUICK.model_copy(update={"breaker_failures": 1, "breaker_delay_ms": 100})

        async with running(config.model_copy(update={"http": http})) as job:
            waiting = asyncio.create_task(job.apply(*map(course.request, learners)))
            await until(lambda: services.requests[USER] >= len(learners))
            started = time.monotonic()
            # Three probes, 100 ms apart; without a breaker each learner asks again after 5 ms.
            await until(lambda: services.requests[USER] >= len(learners) + 3)
            assert time.monotonic() - started >= 0.2
            services.switch(USER, Switch())
            messages_by_request = await waiting
            assert [edata(messages)["userId"] for messages in messages_by_request] == learners

    async def test_a_try_of_many_users_takes_no_longer_than_a_call(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        """Or a checkpoint would time out before the patience of the job is over."""
        course.templates(template())
        learners = course.enrolled(40)
        few = {"max_connections": 1, "request_timeout_ms": 400, "call_timeout_ms": 500}
        impatient = config.model_copy(update={"http": QUICK.model_copy(update=few)})

        async with running(impatient) as job:
            services.refuse()
            started = time.monotonic()
            waiting = asyncio.create_task(job.apply(course.request(*learners)))
            await until(lambda: job.retries >= 1)
            # One call after the other would take 20 s.
            assert time.monotonic() - started < 10
            services.accept()
            ((*messages,),) = await waiting
            assert [message.topic for message in messages] == [OUT] * len(learners)
