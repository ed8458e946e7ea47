"""A user, a content or a course that a service cannot answer: one learner never holds up the others."""

import asyncio
import json
from collections.abc import Iterator

import pytest

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import USER, HttpServices, Switch
from tests.support.certificate_job import (
    AT_LEAST_75,
    FAILED,
    OUT,
    QUICK,
    Course,
    edata,
    failures,
    running,
    template,
    until,
)
from tests.support.silent_services import SilentServices


@pytest.fixture
def services() -> Iterator[SilentServices]:
    with SilentServices() as services:
        yield services


@pytest.fixture
def impatient(config: CollectionCertPreProcessorConfig) -> CollectionCertPreProcessorConfig:
    """With calls that end before the limit, so that batches are applied again meanwhile."""
    limits = {"poison_after_ms": 600, "request_timeout_ms": 190, "call_timeout_ms": 200}
    return config.model_copy(update={"http": QUICK.model_copy(update=limits)})


async def test_a_user_that_cannot_be_read_fails_alone(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: HttpServices
) -> None:
    course.templates(template())
    learners = course.enrolled(7)
    services.failing.add(learners[3])

    async with running(impatient) as job:
        messages_by_request = await job.apply(*map(course.request, learners))
        ((failed,),) = messages_by_request[3:4]
        assert [edata(messages)["userId"] for messages in messages_by_request if messages != [failed]] == [
            *learners[:3],
            *learners[4:],
        ]
        assert failed.topic == FAILED
        assert "user_read API has not answered" in json.loads(failed.value)["metadata"]["validation_error"]
        assert job.refused == {"api_error": 1}
        assert job.retries > 0


async def test_a_user_that_is_never_answered_fails_alone(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: SilentServices
) -> None:
    course.templates(template())
    learners = course.enrolled(3)
    services.silent.add(learners[1])
    # With time for the controls.
    patient = impatient.model_copy(update={"http": impatient.http.model_copy(update={"call_timeout_ms": 600})})
    async with running(patient) as job:
        (first,), (failed,), (last,) = await job.apply(*map(course.request, learners))
    assert [edata([message])["userId"] for message in (first, last)] == [learners[0], learners[2]]
    assert "did not answer in 190 ms" in json.loads(failed.value)["metadata"]["validation_error"]
    assert job.refused == {"api_error": 1}


async def test_of_one_request_with_several_users_only_that_user_fails(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: HttpServices
) -> None:
    course.templates(template())
    other = course.user(f"{course.asha}-2")
    course.enrol(course.asha)
    course.enrol(other)
    services.failing.add(course.asha)

    async with running(impatient) as job:
        ((*messages,),) = await job.apply(course.request(course.asha, other))
    (failed,) = failures(messages)
    assert failed["edata"]["userIds"] == [course.asha]
    assert edata([message for message in messages if message.topic == OUT])["userId"] == other


async def test_users_that_cannot_be_read_do_not_keep_all_connections_from_the_others(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: HttpServices
) -> None:
    """Nobody was asked for before them, and only those behind them show that the service is up."""
    course.templates(template())
    learners = course.enrolled(6)
    failing, others = learners[:3], learners[3:]
    services.failing.update(failing)
    few = impatient.model_copy(update={"http": impatient.http.model_copy(update={"max_connections": 3})})

    async with running(few) as job:
        ((*messages,),) = await job.apply(course.request(*learners))
    assert [message["edata"]["userIds"] for message in failures(messages)] == [[user_id] for user_id in failing]
    assert [edata([message])["userId"] for message in messages if message.topic == OUT] == others


async def test_a_content_that_cannot_be_read_fails_only_learners_with_a_score_of_it(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: HttpServices
) -> None:
    """Seven learners whose certificates depend on that content, one whose does not."""
    course.templates(template(AT_LEAST_75))
    content = f"do_{course.asha}"
    services.failing.add(content)
    learners = [course.user(f"{course.asha}-{number}") for number in range(7)]
    for learner in learners:
        course.score(learner, {f"score:{content}": 9.0, f"max_score:{content}": 10.0})
    course.score(course.asha, course.quiz_of_10(9))

    async with running(impatient) as job:
        # Without an answer for another content nobody could say that the service is not down.
        other = f"do_{course.asha}-other"
        services.contents[other] = {"contentType": "SelfAssess"}
        first = course.user(f"{course.asha}-first")
        course.score(first, {f"score:{other}": 9.0, f"max_score:{other}": 10.0})
        await job.apply(course.request(first))

        *failed, (issued,) = await job.apply(*map(course.request, (*learners, course.asha)))
        assert [[message.topic for message in messages] for messages in failed] == [[FAILED]] * 7
        assert edata([issued])["userId"] == course.asha
        assert job.refused == {"api_error": 7}


async def test_a_course_name_that_cannot_be_read_fails_only_that_course(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: HttpServices, unique: str
) -> None:
    course.templates(template(AT_LEAST_75))
    # A content that the same service answers for, once: its type is cached then.
    content = f"do_{unique}q2"
    services.contents[content] = {"contentType": "SelfAssess"}
    course.score(course.asha, {f"score:{content}": 9.0, f"max_score:{content}": 10.0})
    course.cache(0, course.course_id, {"no": "name"})
    services.failing.add(course.course_id)

    async with running(impatient) as job:
        ((failed,),) = await job.apply(course.request())
    assert "content_read API has not answered" in json.loads(failed.value)["metadata"]["validation_error"]


async def test_while_no_user_is_answered_all_wait_and_nothing_fails(
    course: Course, impatient: CollectionCertPreProcessorConfig, services: HttpServices
) -> None:
    course.templates(template())
    learners = course.enrolled(7)

    async with running(impatient) as job:
        await job.apply(course.request(learners[0]))
        services.switch(USER, Switch(status=500))
        waiting = asyncio.create_task(job.apply(*map(course.request, learners)))
        # Each application takes at least the 200 ms of a call, so this is far beyond the limit.
        await until(lambda: job.retries >= 10)
        assert not waiting.done()
        services.switch(USER, Switch())
        assert [edata(messages)["userId"] for messages in await waiting] == learners
        assert job.refused == {}
