"""What goes to the failed topic, alone."""

import json

import pytest
import redis

from common.domain.messages import repaired
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import HttpServices
from tests.support.certificate_job import (
    AT_LEAST_75,
    FAILED,
    Course,
    applied,
    edata,
    failures,
    names,
    running,
    template,
)


class TestWhatMustGoToTheFailedTopicAlone:
    async def test_a_template_without_usable_criteria(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template(name="One"), template({"other": {}}, name="Bad"), template(name="Two"))
        course.enrol(course.asha)
        messages, job = await applied(config, course.request())
        assert names(messages) == ["One", "Two"]
        (failed,) = failures(messages)
        assert failed == {
            **json.loads(course.request()),
            "metadata": {
                "validation_error": f"Invalid template for batch : {course.batch_id}: template t-1: "
                "criteria hold no criterion in enrollment, assessment, user or users",
                "src": "CollectionCertPreProcessor",
            },
        }
        assert [message.key for message in messages] == [None, None, course.asha.encode()]
        assert job.refused == {"bad_template": 1}
        assert job.of("events_applied") == {"issued": 1}

    async def test_a_user_whom_the_api_does_not_know(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        course.templates(template())
        binod, chitra = (course.user(f"{name}-{course.asha}") for name in ("binod", "chitra"))
        for learner in (course.asha, binod, chitra):
            course.enrol(learner)
        del services.users[binod]

        async with running(config) as job:
            ((first, failed, last),) = await job.apply(course.request(course.asha, binod, chitra))
            assert [edata([message])["userId"] for message in (first, last)] == [course.asha, chitra]
            assert failed.topic == FAILED
            assert failed.key == binod.encode()
            event = json.loads(failed.value)
            assert event["edata"]["userIds"] == [binod]
            assert event["metadata"]["validation_error"] == f"user read API answered 404 for user {binod}"
            assert job.refused == {"user_api": 1}

            course.user(binod)
            (messages,) = await job.apply(repaired(failed.value))
            assert edata(messages)["userId"] == binod

    @pytest.mark.parametrize("enable_suppress_exception", [True, False])
    async def test_a_content_whose_metadata_is_nowhere(
        self, course: Course, config: CollectionCertPreProcessorConfig, enable_suppress_exception: bool
    ) -> None:
        course.templates(template(AT_LEAST_75, name="Merit"), template())
        course.enrol(course.asha)
        unknown = f"{course.quiz}-unknown"
        course.score(course.asha, {**course.quiz_of_10(8), f"score:{unknown}": 1.0})
        strict = config.model_copy(update={"enable_suppress_exception": enable_suppress_exception})
        messages, _ = await applied(strict, course.request())
        if enable_suppress_exception:
            assert names(messages) == ["Merit", "Completion"]
            assert not failures(messages)
        else:
            assert names(messages) == ["Completion"]
            (failed,) = failures(messages)
            reason = f"content {unknown} has no metadata in the cache or the content read API"
            assert failed["metadata"]["validation_error"] == reason

    async def test_a_course_whose_name_is_nowhere(
        self, course: Course, config: CollectionCertPreProcessorConfig, redis_client: "redis.Redis"
    ) -> None:
        redis_client.delete(course.course_id)
        course.templates(template())
        course.enrol(course.asha)
        messages, job = await applied(config, course.request())
        assert not names(messages)
        (failed,) = failures(messages)
        reason = f"content read API does not know course {course.course_id}: it answered 404"
        assert failed["metadata"]["validation_error"] == reason
        assert job.of("events_applied") == {"failed": 1}
