"""Patients on real servers: their rows in Cassandra, their courses in Redis, and the jobs that apply what is sent."""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

from common.config.loader import load
from common.config.model import CassandraConfig, JobConfig
from common.domain import topics
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.events import Skip
from common.domain.messages import Message
from common.flink.job import Job
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write, next_timestamp_us
from common.servers.kafka import watermarks
from jobs import config_class
from jobs.activity_aggregate_updater.job import ActivityAggregateUpdater
from jobs.assessment_aggregator.job import AssessmentAggregator
from jobs.collection_cert_pre_processor.job import CollectionCertPreProcessor
from local.http_services import HttpServices
from local.world import World
from tests.support.activity_model import RelationCache
from tests.support.patients import CERTIFIED, CONTENTS, PLAIN, TEMPLATES, Patient

_OF_CONTENT = "WHERE userid = ? AND courseid = ? AND batchid = ? AND contentid = ?"
_ENROLMENT_COLUMNS = (
    "active",
    "status",
    "progress",
    "completedon",
    "contentstatus",
    "issued_certificates",
    "lastreadcontentid",
)
_STATEMENTS = {
    "enrolment": "INSERT INTO sunbird_courses.user_enrolments (userid, courseid, batchid, active, status, progress, "
    "completedon, contentstatus, issued_certificates, lastreadcontentid, datetime) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "content": "INSERT INTO sunbird_courses.user_content_consumption (userid, courseid, batchid, contentid, status, "
    "last_access_time) VALUES (?, ?, ?, ?, ?, ?)",
    "counts": "UPDATE sunbird_courses.user_content_consumption USING TIMESTAMP ? SET viewcount = ?, "
    f"completedcount = ? {_OF_CONTENT}",
    "attempt": "INSERT INTO sunbird_courses.assessment_aggregator (user_id, course_id, batch_id, content_id, "
    "attempt_id, last_attempted_on, updated_on, total_score, total_max_score, question) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, fromJson(?))",
    "aggregates": "INSERT INTO sunbird_courses.user_activity_agg (activity_type, activity_id, user_id, context_id, "
    "agg, aggregates, agg_last_updated, agg_details) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    # As the Scala jobs leave a row. An INSERT of null would be a deletion, which is newer than what a back-fill writes.
    "agg": "INSERT INTO sunbird_courses.user_activity_agg (activity_type, activity_id, user_id, context_id, agg) "
    "VALUES (?, ?, ?, ?, ?)",
    "batch": "INSERT INTO sunbird_courses.course_batch (courseid, batchid, name, status, cert_templates) "
    "VALUES (?, ?, 'A batch', 1, ?)",
}


async def admit(config: CassandraConfig, patients: Iterable[Patient]) -> None:
    """Writes all rows of the patients."""
    cassandra = Cassandra(config, Metrics())
    await cassandra.open()
    try:
        prepared = {name: await cassandra.prepare(statement) for name, statement in _STATEMENTS.items()}
        writes: list[list[Write]] = []
        for patient in patients:
            writes += [[Write(prepared[name], values)] for name, values in _rows(patient)]
            if len(writes) > 5_000:
                await cassandra.write(writes)
                writes = []
        await cassandra.write(writes)
    finally:
        await cassandra.close()


def _rows(patient: Patient) -> Iterable[tuple[str, tuple[object, ...]]]:
    key, row, course_id = patient.key, patient.enrolment, patient.course.course_id
    values = [row.get(column) for column in _ENROLMENT_COLUMNS]
    yield "enrolment", (*key, *values, patient.enrolment_ms)
    for content in patient.contents.values():
        yield "content", (*key, content.content_id, content.status, patient.content_ms)
        if content.completed_count is not None:
            counts = (content.completed_time_us, content.view_count, content.completed_count)
            yield "counts", (*counts, *key, content.content_id)
    for (content_id, attempt_id), attempt in patient.attempts.items():
        questions = json.dumps([{"id": one, "score": score} for one, score in attempt.questions])
        scores = (attempt.total_score, attempt.maximum, questions)
        yield "attempt", (*key, content_id, attempt_id, attempt.time_ms, attempt.updated_on_ms, *scores)
    for activity_id in {*patient.agg, *patient.aggregates} | ({course_id} if patient.details else set()):
        of_row = (ACTIVITY_TYPE, activity_id, key.user_id, context_id(key.batch_id))
        aggregates = patient.aggregates.get(activity_id) or None
        if aggregates is None and not patient.details:
            yield "agg", (*of_row, patient.agg.get(activity_id))
            continue
        times = dict.fromkeys(aggregates or (), patient.agg_last_updated_ms) if activity_id == course_id else None
        details = patient.details if activity_id == course_id else None
        yield "aggregates", (*of_row, patient.agg.get(activity_id), aggregates, times, details)


async def publish(world: World, config: CassandraConfig, course: RelationCache, prefix: str) -> None:
    """The course in the relation cache and the content cache, and its two batches."""
    with world.redis.client(db=10) as client:
        for key, members in course.sets.items():
            if members:
                client.sadd(key, *members)
    with world.redis.client(db=5) as client:
        for content_id in (*CONTENTS, "gone"):
            client.set(content_id, json.dumps({"name": content_id, "contentType": "SelfAssess"}))
    with world.redis.client(db=0) as client:
        client.set(course.course_id, json.dumps({"name": "Botany"}))
    cassandra = Cassandra(config, Metrics())
    await cassandra.open()
    try:
        insert = await cassandra.prepare(_STATEMENTS["batch"])
        for name, templates in ((PLAIN, None), (CERTIFIED, TEMPLATES)):
            await cassandra.write([[Write(insert, (course.course_id, f"{prefix}{name}", templates))]])
    finally:
        await cassandra.close()


class JobsOnTopics:
    """The jobs without Flink: they apply what their topics hold, and commit their groups' offsets."""

    def __init__(self, world: World, services: HttpServices, env: str) -> None:
        self._env = env
        self._bootstrap_servers = world.kafka.bootstrap_servers
        world.kafka.create_topics([f"{env}.{topic}" for topic in topics.ALL], 2)
        addresses = {
            "AGGREGATES__KAFKA__ENV": env,
            "AGGREGATES__LEARNER_BASE_URL": services.base_url,
            "AGGREGATES__CONTENT_BASE_URL": services.base_url,
            "AGGREGATES__CONTENT_READ_API": f"{services.base_url}/content/v3/read/",
            "AGGREGATES__SEARCH_API": f"{services.base_url}/v3/search",
        }

        def config(name: str) -> JobConfig:
            environment = world.job_environment(f"jobs.{name}")
            return load(config_class(name), environ={**environment, **_known(name, addresses)})

        self._jobs: list[tuple[Job[Any, Any], JobConfig]] = []
        for name, job_class in (
            ("assessment_aggregator", AssessmentAggregator),
            ("activity_aggregate_updater", ActivityAggregateUpdater),
            ("collection_cert_pre_processor", CollectionCertPreProcessor),
        ):
            own = config(name)
            self._jobs.append((job_class(own), own))  # type: ignore[arg-type]

    async def apply(self) -> int:
        """Applies everything that the topics hold now, and says how many events that were."""
        return sum([await self._apply(job, config) for job, config in self._jobs])

    async def _apply(self, job: Job[Any, Any], config: JobConfig) -> int:
        settings = {"bootstrap.servers": self._bootstrap_servers, "group.id": config.group_id, "log_level": 0}
        count = 0
        with closing(Consumer({**settings, "enable.auto.commit": False})) as consumer:
            for topic in config.input_topics:
                values, ends = _unread(consumer, topic)
                events = [event for value in values if not isinstance(event := job.decode(value, 1), Skip)]
                if events:
                    self._send(await self._outcomes(job, events))
                    count += len(events)
                consumer.commit(offsets=ends, asynchronous=False)
        return count

    async def _outcomes(self, job: Job[Any, Any], events: list[object]) -> list[Message]:
        await job.open(Metrics(), next_timestamp_us)
        try:
            parts = [part for outcome in await job.apply_batch(events) for part in outcome]
        finally:
            await job.close()
        messages = [part for part in parts if isinstance(part, Message)]
        assert messages == parts
        return messages

    def _send(self, messages: list[Message]) -> None:
        producer = Producer({"bootstrap.servers": self._bootstrap_servers, "log_level": 0})
        for message in messages:
            producer.produce(message.topic, message.value, message.key)
        assert producer.flush(60) == 0

    def values(self, topic: str) -> list[bytes]:
        """All messages of a topic."""
        settings = {"bootstrap.servers": self._bootstrap_servers, "group.id": "reader-of-all", "log_level": 0}
        with closing(Consumer({**settings, "enable.auto.commit": False})) as consumer:
            return _unread(consumer, f"{self._env}.{topic}")[0]


def _known(name: str, addresses: Mapping[str, str]) -> dict[str, str]:
    """A job refuses variables of keys that it does not have."""
    fields = config_class(name).model_fields
    return {
        variable: value
        for variable, value in addresses.items()
        if (key := variable.removeprefix("AGGREGATES__").lower()) in fields or key.startswith("kafka__")
    }


def _unread(consumer: Consumer, topic: str) -> tuple[list[bytes], list[TopicPartition]]:
    """What the group has not committed yet, and the ends to commit."""
    partitions = [TopicPartition(topic, number) for number in consumer.list_topics(topic, 30).topics[topic].partitions]
    values, ends = [], []
    for partition in consumer.committed(partitions, 30):
        _, end = watermarks(consumer, partition, 30)
        start = max(partition.offset, 0)
        if start < end:
            consumer.assign([TopicPartition(topic, partition.partition, start)])
            read = 0
            while read < end - start:
                messages = consumer.consume(min(500, end - start - read), 5.0)
                for message in messages:
                    assert message.error() is None, message.error()
                values += [message.value() for message in messages]
                read += len(messages)
        ends.append(TopicPartition(topic, partition.partition, end))
    return values, ends
