"""Which best score decides about a certificate."""

import pytest

from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import CONTENT, HttpServices
from local.world import World
from tests.support.certificate_job import (
    AT_LEAST_75,
    COMPLETED,
    Course,
    applied,
    edata,
    names,
    template,
)


class TestTheBestScore:
    @pytest.mark.parametrize(
        ("agg", "aggregates", "is_enough"),
        [
            (None, 7.5, True),
            (None, 7.4, False),
            (8, None, True),
            (7, None, False),
            (9, 7.4, False),
            (7, 7.5, True),
        ],
    )
    async def test_of_the_merged_columns_decides(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        agg: int | None,
        aggregates: float | None,
        is_enough: bool,
    ) -> None:
        course.templates(template({**COMPLETED, **AT_LEAST_75}))
        course.enrol(course.asha)
        course.score(
            course.asha,
            None if aggregates is None else course.quiz_of_10(aggregates),
            None if agg is None else course.quiz_of_10(agg, int),
        )
        messages, job = await applied(config, course.request())
        assert len(messages) == is_enough
        assert job.of("skipped") == ({} if is_enough else {"other_score": 1})
        assert job.of("events_applied") == {"issued" if is_enough else "not_earned": 1}

    async def test_of_somebody_without_a_row_is_zero(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.templates(template(AT_LEAST_75), template({"assessment": {"score": {"<=": 0}}}, name="Everybody"))
        messages, _ = await applied(config, course.request())
        assert names(messages) == ["Everybody"]

    async def test_is_that_of_contents_of_supported_types_in_cache_and_api(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices
    ) -> None:
        asked, resource = f"{course.quiz}-asked", f"{course.quiz}-resource"
        services.contents[asked] = {"contentType": "SelfAssess"}
        course.cache(5, resource, {"contenttype": "Resource"})
        course.templates(
            template({"assessment": {"score": {"=": 80}}}, additionalProps={"assessment": ["score"]}),
        )
        maxima = {f"max_score:{content}": 10.0 for content in (course.quiz, asked, resource)}
        scores = {f"score:{course.quiz}": 3.0, f"score:{asked}": 8.0, f"score:{resource}": 10.0}
        course.score(course.asha, scores | maxima)
        messages, _ = await applied(config, course.request())
        assert edata(messages)["related"]["assessment"] == {"score": {course.quiz: 30.0, asked: 80.0}}
        assert services.requests[CONTENT] == 1

    async def test_counts_a_content_whose_cache_entry_is_of_no_use(
        self, course: Course, config: CollectionCertPreProcessorConfig, services: HttpServices, world: World
    ) -> None:
        broken, other_type, numbers = (f"{course.quiz}-{number}" for number in range(3))
        with world.redis.client(db=5) as client:
            client.set(broken, b"{\xff")
            client.sadd(other_type, "SelfAssess")
            client.set(numbers, "[1]")
        for content in (broken, other_type, numbers):
            services.contents[content] = {"contentType": "SelfAssess"}
        course.templates(template(AT_LEAST_75, additionalProps={"assessment": ["score"]}))
        course.score(course.asha, {f"score:{content}": 0.8 for content in (broken, other_type, numbers)})
        messages, _ = await applied(config, course.request())
        expected = dict.fromkeys((broken, other_type, numbers), 80.0)
        assert edata(messages)["related"]["assessment"] == {"score": expected}
