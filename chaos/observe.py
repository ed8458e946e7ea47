"""Reads the rows and messages that the jobs have written."""

import time
from calendar import timegm
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from typing import Any

import msgspec
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import ConstantReconnectionPolicy, RoundRobinPolicy
from confluent_kafka import Consumer, KafkaException, TopicPartition

from chaos.cluster import POLL_SECONDS
from chaos.history import Key
from chaos.load import FAILED_TOPIC, Load
from chaos.oracle import AUDITS, CERTIFICATES, REQUESTS, Failed, Observed, Sent
from common.domain import topics
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.messages import repaired
from local.errors import LocalWorldError
from local.world import World

FAILED = (*FAILED_TOPIC.values(), topics.ISSUE_CERTIFICATE_FAILED)

_BROKER_TIMEOUT_SECONDS = 60
_CASSANDRA_TIMEOUT_SECONDS = 60


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
        self._values: dict[str, Counter[bytes]] = {topic: Counter() for topic in (AUDITS, REQUESTS, CERTIFICATES)}
        """How often each value was sent, by topic."""
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
        found = Counter[Key]()
        for topic in (AUDITS, REQUESTS):
            for value, count in self._about(topic, load):
                sent = _to_sent(topic, value)
                # The id alone: a repeated request may name another attempt as the latest.
                found[sent.user_id, str(sent.time_ms), sent.message_id] += count
        return sum(
            max(0, count - load.produced[user_id, int(time_ms)]) for (user_id, time_ms, _), count in found.items()
        )

    def of(self, load: Load) -> Observed:
        """The messages about the learners of a load. All other messages are left out."""
        audits, requests, certificates = (
            [_to_sent(topic, value) for value, _ in self._about(topic, load)]
            for topic in (AUDITS, REQUESTS, CERTIFICATES)
        )
        course_id = load.course.course_id.encode()
        return Observed(
            audits=audits,
            requests=requests,
            certificates=certificates,
            failed={
                topic: {event: _to_failed(value) for value in values if course_id in (event := repaired(value))}
                for topic, values in self._failed.items()
            },
        )

    def close(self) -> None:
        self._consumer.close()

    def _about(self, topic: str, load: Load) -> Iterator[tuple[bytes, int]]:
        course_id = load.course.course_id.encode()
        return ((value, count) for value, count in self._values[topic].items() if course_id in value)

    def _add(self, topic: str, value: bytes) -> None:
        if topic in self._failed:
            self._failed[topic].append(value)
        else:
            self._values[topic][value] += 1


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


def _to_sent(topic: str, value: bytes) -> Sent:
    body = msgspec.json.decode(value)
    message_id, edata = body.pop("mid"), body["edata"]
    if topic == CERTIFICATES:
        return Sent(edata["userId"], body["ets"], message_id, body)
    if topic == REQUESTS:
        return Sent(edata["userIds"][0], body["ets"], message_id, body, edata.pop("attemptId", None))
    ids = (message_id, body["context"].pop("sid"), body["context"].pop("did"))
    return Sent(body["actor"]["id"], body["ets"], " ".join(ids), body)


def _to_failed(value: bytes) -> Failed:
    metadata = msgspec.json.decode(value)["metadata"]
    return Failed(metadata["src"], metadata["validation_error"])


@contextmanager
def open_tables(world: World) -> Iterator[Session]:
    """A session for the tables of the jobs. Its reads see every acknowledged write."""
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        consistency_level=ConsistencyLevel.QUORUM,
        request_timeout=_CASSANDRA_TIMEOUT_SECONDS,
    )
    with Cluster(
        world.cassandra.contact_points,
        port=world.cassandra.port,
        protocol_version=4,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ConstantReconnectionPolicy(0.2, None),
    ) as cluster:
        yield cluster.connect("sunbird_courses")


def read_rows(session: Session, load: Load, observed: Observed) -> None:
    """Reads the rows of a load's learners and adds every set column in them to ``observed``."""
    course_id, batch_id = load.course.course_id, load.course.batch_id
    values = observed.values
    enrolments = [(learner.user_id, course_id, batch_id) for learner in load.learners]
    active = [enrolment for enrolment, learner in zip(enrolments, load.learners, strict=True) if not learner.is_idle]
    for row in _select(
        session,
        "SELECT * FROM assessment_aggregator WHERE user_id = ? AND course_id = ? AND batch_id = ?",
        active,
    ):
        key: Key = ("attempt", row.pop("user_id"), row.pop("content_id"), row.pop("attempt_id"))
        del row["course_id"], row["batch_id"]
        _add(values, key, row)
    activities = (course_id, *(unit_id for unit_id, _ in load.course.units))
    for row in _select(
        session,
        "SELECT * FROM user_activity_agg "
        "WHERE activity_type = ? AND activity_id = ? AND user_id = ? AND context_id = ?",
        [
            (ACTIVITY_TYPE, activity_id, user_id, context_id(batch_id))
            for user_id, _, _ in active
            for activity_id in activities
        ],
    ):
        key = ("aggregates", row.pop("activity_id"), row.pop("user_id"))
        del row["activity_type"], row["context_id"]
        row["agg_details"] = [msgspec.json.decode(detail) for detail in row["agg_details"] or ()]
        _add(values, key, row)
    for row in _select(
        session,
        "SELECT userid, contentid, viewcount, completedcount, WRITETIME(viewcount) AS viewed, "
        "WRITETIME(completedcount) AS completed "
        "FROM user_content_consumption WHERE userid = ? AND courseid = ? AND batchid = ?",
        active,
    ):
        key = ("content", row.pop("userid"), row.pop("contentid"))
        viewed, completed = row.pop("viewed"), row.pop("completed")
        # One time in ms, if both counts were written at the time of one event.
        row["counted at"] = completed // 1000 if viewed == completed and completed % 1000 == 0 else (viewed, completed)
        _add(values, key, row)
    for row in _select(
        session,
        "SELECT userid, status, progress, completedon, contentstatus, datetime "
        "FROM user_enrolments WHERE userid = ? AND courseid = ? AND batchid = ?",
        enrolments,
    ):
        _add(values, ("enrolment", row.pop("userid")), row)


def _select(session: Session, query: str, keys: Sequence[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    statement = session.prepare(query)
    for _, rows in execute_concurrent_with_args(session, statement, keys, concurrency=32):
        for row in rows:
            yield row._asdict()


def _add(values: dict[Key, Any], key: Key, row: Mapping[str, Any]) -> None:
    """Adds the set columns of a row, one by one, with maps and lists taken apart."""
    for column, value in row.items():
        if value is None:
            continue
        for path, part in _parts(value):
            values[(*key, column, *path)] = part


def _parts(value: Any) -> Iterable[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping):
        return (((str(name),), _plain(part)) for name, part in value.items())
    if isinstance(value, list):
        return (((str(number),), _plain(part)) for number, part in enumerate(value))
    return [((), _plain(value))]


def _plain(value: Any) -> Any:
    """Times as ms, a user-defined type as a dict, and maps as dicts."""
    if isinstance(value, datetime):
        return timegm(value.utctimetuple()) * 1000 + value.microsecond // 1000
    if hasattr(value, "_asdict"):
        return {name: _plain(part) for name, part in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return value
