"""The running activity aggregate updater, and a learner whose events it gets."""

import json
import uuid
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.events import ContentsCompleted
from local.http_services import HttpServices
from local.servers import Redis
from tests.support.activity_model import ASHA, T0, RelationCache, Tables, completed
from tests.support.activity_servers import Ids, Servers, value
from tests.support.job_topics import JobTopics
from tests.support.waiting import wait_until

INPUT, FAILED = topics.BATCH_JOB_REQUEST, topics.ACTIVITY_AGG_FAILED


AUDITS, REQUESTS = topics.TELEMETRY_RAW, topics.ISSUE_CERTIFICATE_REQUEST


class Job:
    """The running job with its topics and servers."""

    def __init__(self, topics: JobTopics, servers: Servers, redis: Redis, services: HttpServices) -> None:
        self.topics = topics
        self.servers = servers
        self.redis = redis
        self.services = services

    def send(self, *events: ContentsCompleted | bytes) -> None:
        """In this order."""
        values = [value(event) if isinstance(event, ContentsCompleted) else event for event in events]
        self.topics.produce(INPUT, values)

    def messages(self, name: str, text: str, count: int) -> list[Message]:
        """What has `text` in it on a topic, as soon as there are `count`."""
        return self.topics.inbox(name).wait_for(count, lambda message: text.encode() in message.value())

    def failed(self, text: str, count: int) -> list[tuple[bytes | None, str]]:
        """Kafka key and reason of what has `text` in it on the failed topic."""
        return [
            (message.key(), json.loads(message.value())["metadata"]["validation_error"])
            for message in self.messages(FAILED, text, count)
        ]


class Learner:
    """In a batch of a published course of two units, with an enrolment row."""

    def __init__(
        self, job: Job, optional: Sequence[str] = (), *, ids: Ids | None = None, like: EnrolmentKey = ASHA
    ) -> None:
        """`like` is who it is among those with the same `ids`."""
        ids = ids or Ids()
        self.course = ids.course(RelationCache({"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}, optional))
        self.enrolment = ids.enrolment(like)
        self.user_id, self.course_id, self.batch_id = self.enrolment
        self._job = job
        job.servers.publish(self.course)
        tables = Tables()
        tables.enrol(self.enrolment)
        job.servers.put(tables)

    def completed(self, *content_ids: str, at: int = T0) -> ContentsCompleted:
        return completed(*content_ids, at=at, by=self.enrolment)

    def completed_counts(self) -> list[float | None]:
        """Of the course and its two units."""
        activities = (self.course_id, *self.course.units)
        return [self._job.servers.aggregates(self.enrolment, activity).get("completedCount") for activity in activities]

    def counts(self, content_id: str) -> tuple[int, int] | None:
        """View count and completed count."""
        rows = self._job.servers.rows([self.enrolment], self.course)
        views, completions = (
            rows.get(("consumption", self.enrolment, content_id, column)) for column in ("viewcount", "completedcount")
        )
        return (views[0], completions[0]) if views and completions else None

    def wait_until_counted(self, *content_ids: str) -> None:
        """Counts are written last, so everything else is there then."""
        wait_until(lambda: all(self.counts(content_id) for content_id in content_ids), f"{content_ids} are counted", 60)

    def audits(self, count: int) -> list[dict[str, Any]]:
        return [
            json.loads(message.value())
            for message in self._job.messages(AUDITS, self.batch_id, count)
            if json.loads(message.value())["actor"]["id"] == self.user_id
        ]

    def audited(self, count: int) -> list[tuple[str, str]]:
        """Type and object of each AUDIT event."""
        return [(audit["edata"]["type"], audit["object"]["id"]) for audit in self.audits(count)]


def uuid_of(*identity: object) -> str:
    """What the specification calls the uuid5 of an effect's identity, in the namespace of this suite."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://sunbird.org/learner-aggregates")
    return str(uuid.uuid5(namespace, json.dumps(identity, separators=(",", ":"))))
