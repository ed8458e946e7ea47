"""How often the certificate pre-processor asks tables, caches and services, and what it does when they fail."""

import pytest
import redis

from common.config.model import BatchConfig, CacheConfig
from common.domain.faults import TaskFault, WorldFault
from jobs.collection_cert_pre_processor.config import CollectionCertPreProcessorConfig
from local.http_services import CONTENT, USER, HttpServices
from local.world import World
from tests.support.certificate_job import (
    AT_LEAST_75,
    COMPLETED,
    FAILED,
    OUT,
    Course,
    names,
    running,
    template,
)


class TestFetching:
    async def test_one_read_and_one_call_per_key_however_many_ask(
        self,
        course: Course,
        config: CollectionCertPreProcessorConfig,
        services: HttpServices,
        redis_client: "redis.Redis",
    ) -> None:
        redis_client.delete(course.course_id)
        content = f"{course.quiz}-asked"
        services.contents |= {course.course_id: {"name": "Botany"}, content: {"contentType": "SelfAssess"}}
        course.templates(template({**COMPLETED, **AT_LEAST_75}), template(AT_LEAST_75))
        learners = course.enrolled(5)
        for learner in learners:
            course.score(learner, {f"score:{content}": 0.9})
        in_two_batches = config.model_copy(
            update={"batch": BatchConfig(max_batch_size=50, max_in_flight_requests=2, max_buffered_requests=100)}
        )

        async with running(in_two_batches) as job:
            before = job.counts["rows_read"]
            messages_by_request = await job.apply(*(course.request(learner) for learner in learners * 20))
            assert [len(messages) for messages in messages_by_request] == [2] * 100
            # The name of the course and the type of the content; of each learner one answer in each batch.
            assert services.requests == {CONTENT: 2, USER: 10}
            # The row of the course's batch, and two of each learner in each batch.
            assert job.counts["rows_read"] - before == 1 + 20
            assert job.of("events_applied") == {"issued": 100}

    async def test_templates_that_are_added_or_repaired_are_soon_seen(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.enrol(course.asha)
        forgetful = config.model_copy(update={"batch_cache": CacheConfig(ttl_ms=3_600_000, empty_ttl_ms=20)})

        async with running(forgetful) as job:

            async def until_topics_are(*topics: str) -> None:
                while [message.topic for message in (await job.apply(course.request()))[0]] != list(topics):
                    pass

            await until_topics_are()
            course.templates(template({"other": {}}))
            await until_topics_are(FAILED)
            course.templates(template())
            await until_topics_are(OUT)

    async def test_a_re_issue_uses_a_template_that_was_just_corrected(
        self, course: Course, config: CollectionCertPreProcessorConfig
    ) -> None:
        course.enrol(course.asha)
        course.templates(template(name="Completoin"))
        patient = config.model_copy(update={"batch_cache": CacheConfig(ttl_ms=3_600_000)})
        async with running(patient) as job:
            assert names((await job.apply(course.request()))[0]) == ["Completoin"]
            course.templates(template(name="Completion"))
            assert names((await job.apply(course.request(reIssue=True)))[0]) == ["Completion"]

    async def test_a_server_that_is_not_there_is_a_fault_of_the_world(
        self, config: CollectionCertPreProcessorConfig, world: World
    ) -> None:
        nowhere = config.redis.model_copy(update={"port": world.config.flink.rest_port})

        with pytest.raises(WorldFault, match="Redis"):
            async with running(config.model_copy(update={"redis": nowhere})):
                pass

    async def test_a_missing_table_ends_the_task(self, config: CollectionCertPreProcessorConfig) -> None:
        nowhere = config.cassandra.model_copy(update={"keyspace": "nowhere"})

        with pytest.raises(TaskFault, match="nowhere"):
            async with running(config.model_copy(update={"cassandra": nowhere})):
                pass
