"""Data that stop the Scala job and have to earn certificates here."""

import pytest
import redis

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import CONTENT, HttpServices
from tests.support.certificate_job import (
    AT_LEAST_75,
    Course,
    applied,
    edata,
    names,
    template,
)


class TestWhatStopsTheScalaJobAndMustWork:
    async def test_completedon_is_unset(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(template())
        course.enrol(course.asha, completedon=None)
        messages, _ = await applied(config, course.request())
        assert edata(messages)["issuedDate"] == "2024-05-14"

    async def test_completedon_is_in_microseconds(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        """No datetime can hold it, so it is taken as unset, and counted."""
        course.templates(template())
        course.enrol(course.asha, completedon=1_715_630_400_001_000)
        messages, job = await applied(config, course.request())
        assert edata(messages)["issuedDate"] == "2024-05-14"
        assert job.of("unusable_times") == {"completedon": 1}

    async def test_criteria_of_assessment_alone(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(template(AT_LEAST_75))
        course.score(course.asha, course.quiz_of_10(7.5))
        messages, _ = await applied(config, course.request())
        assert edata(messages)["issuedDate"] == "2024-05-14"

    async def test_a_user_criterion_alone(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(template({"user": {"rootOrgId": "org-1"}}))
        binod = course.user(f"binod-{course.asha}", rootOrgId="org-2")
        messages, job = await applied(config, course.request(course.asha, binod))
        assert edata(messages)["userId"] == course.asha
        assert job.of("skipped") == {"other_user": 1}

    async def test_a_plain_number_as_criterion(self, course: Course, config: CollectionCertPreProcessorConfig) -> None:
        course.templates(
            template({"assessment": {"score": 75}}, name="Exactly"),
            template({"assessment": {"score": 76}}, name="More"),
        )
        course.score(course.asha, course.quiz_of_10(7.5))
        messages, job = await applied(config, course.request())
        assert names(messages) == ["Exactly"]
        assert job.of("skipped") == {"other_score": 1}

    @pytest.mark.parametrize(
        ("name", "expected"), [("C:\\q\\", "C:\\q\\"), ("\\ud83d\\x", "\ufffd\\x"), ("caf\\u00e9 \\n1", "café 1")]
    )
    @pytest.mark.parametrize("is_cached", [True, False])
    async def test_a_course_name_with_odd_escapes(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        redis_client: "redis.Redis",
        name: str,
        expected: str,
        is_cached: bool,
    ) -> None:
        course.templates(template())
        course.enrol(course.asha)
        if is_cached:
            course.cache(0, course.course_id, {"name": name})
        else:
            redis_client.delete(course.course_id)
            services.contents[course.course_id] = {"name": name}
        messages, _ = await applied(config, course.request())
        assert edata(messages)["courseName"] == expected
        assert services.requests[CONTENT] == (0 if is_cached else 1)
