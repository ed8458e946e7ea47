"""Reads the rows and messages that the jobs have written."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import closing, suppress
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from chaos.cluster import POLL_SECONDS
from chaos.load import FAILED_TOPIC, Load
from chaos.oracle import Observed, Sent
from common.domain import topics
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.messages import repaired
from local.errors import LocalWorldError
from local.tables import Tables

AUDITS, REQUESTS = topics.TELEMETRY_RAW, topics.ISSUE_CERTIFICATE_REQUEST
CERTIFICATES = topics.GENERATE_CERTIFICATE_REQUEST
FAILED = (*FAILED_TOPIC.values(), topics.ISSUE_CERTIFICATE_FAILED)

_BROKER_TIMEOUT_SECONDS = 60


class Messages:
    """Consumes the output topics from the beginning."""

    def __init__(self, bootstrap_servers: str, environment: str) -> None:
        """Assigns all partitions, but reads nothing yet."""
        self._prefix = f"{environment}."
        self._settings = {"bootstrap.servers": bootstrap_servers, "group.id": "chaos", "log_level": 0}
        self._consumer = Consumer(self._settings)
        topics = [f"{self._prefix}{topic}" for topic in (AUDITS, REQUESTS, CERTIFICATES, *FAILED)]
        self._partitions = [
            TopicPartition(topic, number, 0)
            for topic in topics
            for number in self._consumer.list_topics(topic, timeout=30).topics[topic].partitions
        ]
        self._consumer.assign(self._partitions)
        self._sent: dict[str, Counter[Sent]] = {topic: Counter() for topic in (AUDITS, REQUESTS, CERTIFICATES)}
        self._times: dict[str, int] = {}
        self._failed: dict[str, list[bytes]] = {topic: [] for topic in FAILED}

    def read(self) -> None:
        """Reads all messages up to the current ends of the topics. Raises LocalWorldError if the ends are not known."""
        # A new client: its requests do not queue behind fetches, and it has no metadata from before a fault.
        with closing(Consumer(self._settings)) as client:
            ends = {(partition.topic, partition.partition): _end(client, partition) for partition in self._partitions}
        while any(
            max(position.offset, 0) < ends[position.topic, position.partition]
            for position in self._consumer.position(self._partitions)
        ):
            for message in self._consumer.consume(1_000, timeout=0.2):
                if message.error() is None:
                    self._add(message.topic().removeprefix(self._prefix), message.value())

    def repeats(self, load: Load) -> int:
        """The number of AUDIT events and certificate requests that are repeats: more than their events account for."""
        return sum(
            max(0, count - load.produced[sent.user_id, self._times[sent.message_id]])
            for topic in (AUDITS, REQUESTS)
            for sent, count in self._sent[topic].items()
            if sent.user_id.startswith(load.course.course_id)
        )

    def of(self, load: Load) -> Observed:
        """The messages about the learners of a load. All other messages are left out."""
        course_id = load.course.course_id

        def messages_in(topic: str) -> set[Sent]:
            return {sent for sent in self._sent[topic] if sent.user_id.startswith(course_id)}

        return Observed(
            audits=messages_in(AUDITS),
            requests=messages_in(REQUESTS),
            certificates=messages_in(CERTIFICATES),
            failed={
                topic: {value for value in values if course_id.encode() in value}
                for topic, values in self._failed.items()
            },
        )

    def close(self) -> None:
        self._consumer.close()

    def _add(self, topic: str, value: bytes) -> None:
        if topic in self._failed:
            self._failed[topic].append(repaired(value))
            return
        message = msgspec.json.decode(value)
        sent = _read(topic, message)
        self._sent[topic][sent] += 1
        self._times[sent.message_id] = message["ets"]


def _end(client: Consumer, partition: TopicPartition) -> int:
    deadline = time.monotonic() + _BROKER_TIMEOUT_SECONDS
    while True:
        try:
            return int(client.get_watermark_offsets(partition, timeout=_BROKER_TIMEOUT_SECONDS)[1])
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise LocalWorldError(f"Kafka did not return the end offset of {partition}: {error}") from error
            # A broker that has just been resumed may not have its partitions yet, and the client does not refresh its
            # metadata by itself.
            with suppress(KafkaException):
                client.list_topics(partition.topic, timeout=_BROKER_TIMEOUT_SECONDS)
            time.sleep(POLL_SECONDS)


def _read(topic: str, message: Mapping[str, Any]) -> Sent:
    edata = message["edata"]
    if topic == AUDITS:
        return Sent(message["actor"]["id"], (message["object"]["id"], edata["type"], message["ets"]), message["mid"])
    user_id = edata["userId"] if topic == CERTIFICATES else edata["userIds"][0]
    return Sent(user_id, (message["ets"],), message["mid"])


def read_rows(tables: Tables, load: Load, observed: Observed) -> None:
    """Reads the rows of a load's learners and adds every number in them to ``observed``."""
    course_id, batch_id = load.course.course_id, load.course.batch_id
    numbers = observed.numbers
    for learner in load.learners:
        user_id = learner.user_id
        enrolment = (user_id, course_id, batch_id)
        for row in tables.execute(
            "SELECT content_id, attempt_id, total_score, total_max_score FROM assessment_aggregator "
            "WHERE user_id = ? AND course_id = ? AND batch_id = ?",
            *enrolment,
        ):
            key = ("attempt", user_id, row["content_id"], row["attempt_id"])
            numbers[*key, "score"] = row["total_score"]
            numbers[*key, "max_score"] = row["total_max_score"]
        for activity_id in (course_id, *(unit_id for unit_id, _ in load.course.units)):
            for row in tables.execute(
                "SELECT aggregates FROM user_activity_agg "
                "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
                *(ACTIVITY_TYPE, activity_id, user_id, context_id(batch_id)),
            ):
                for name, value in (row["aggregates"] or {}).items():
                    numbers["aggregates", activity_id, user_id, name] = value
        for row in tables.execute(
            "SELECT contentid, viewcount, completedcount FROM user_content_consumption "
            "WHERE userid = ? AND courseid = ? AND batchid = ?",
            *enrolment,
        ):
            for column in ("viewcount", "completedcount"):
                numbers["content", user_id, row["contentid"], column] = row[column]
        for row in tables.execute(
            "SELECT status, progress, completedon FROM user_enrolments "
            "WHERE userid = ? AND courseid = ? AND batchid = ?",
            *enrolment,
        ):
            for column in ("status", "progress"):
                if row[column] is not None:
                    numbers["enrolment", user_id, column] = row[column]
            if row["completedon"] is not None:
                numbers["enrolment", user_id, "completedon"] = row["completedon"]
