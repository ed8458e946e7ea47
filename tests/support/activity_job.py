"""The running activity aggregate updater, with its topics and servers."""

import json
import uuid
from itertools import groupby

from confluent_kafka import Message

from common.domain import topics
from jobs.activity_aggregate_updater.events import EnrolmentSync, LearnerEvent
from local.http_services import HttpServices
from local.servers import Redis
from tests.support.activity_learner import Learner
from tests.support.activity_servers import Servers, value
from tests.support.job_topics import JobTopics
from tests.support.strategies import JsonObject

INPUT, FAILED = topics.BATCH_JOB_REQUEST, topics.ACTIVITY_AGG_FAILED
SYNCS = topics.ENROLMENT_SYNC_REQUEST
AUDITS, REQUESTS = topics.TELEMETRY_RAW, topics.ISSUE_CERTIFICATE_REQUEST
PARTITIONS = 2
"""Of the topic of completions. A test that does not name one sends to the first, in its order."""


class Job:
    """The running job with its topics and servers."""

    def __init__(self, topics: JobTopics, servers: Servers, redis: Redis, services: HttpServices) -> None:
        self.topics = topics
        self.servers = servers
        self.redis = redis
        self.services = services

    def send(self, *events: LearnerEvent | bytes) -> None:
        """In this order. Bytes go to the topic of completions."""
        for topic, group in groupby(events, lambda event: SYNCS if isinstance(event, EnrolmentSync) else INPUT):
            self.topics.produce(topic, [event if isinstance(event, bytes) else value(event) for event in group])

    def messages(self, name: str, text: str, count: int) -> list[Message]:
        """What has `text` in it on a topic, as soon as there are `count`."""
        return self.topics.inbox(name).wait_for(count, lambda message: text.encode() in message.value())

    def failed(self, text: str, count: int) -> list[tuple[bytes | None, str]]:
        """Kafka key and reason of what has `text` in it on the failed topic."""
        return [
            (message.key(), json.loads(message.value())["metadata"]["validation_error"])
            for message in self.messages(FAILED, text, count)
        ]

    def audits(self, learner: Learner, count: int) -> list[JsonObject]:
        """The AUDIT events about the learner, as soon as the batch has `count`."""
        audits = [json.loads(message.value()) for message in self.messages(AUDITS, learner.batch_id, count)]
        return [audit for audit in audits if audit["actor"]["id"] == learner.user_id]

    def audited(self, learner: Learner, count: int) -> list[tuple[str, str]]:
        """Type and object of each AUDIT event about the learner."""
        return [(audit["edata"]["type"], audit["object"]["id"]) for audit in self.audits(learner, count)]


def uuid_of(*identity: object) -> str:
    """The id of a message: the uuid5 of what it says, in the namespace of the aggregates."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://sunbird.org/learner-aggregates")
    return str(uuid.uuid5(namespace, json.dumps(identity, separators=(",", ":"))))
