"""Reads the rows and messages that the jobs have written."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import msgspec
from cassandra import ConsistencyLevel
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.policies import ConstantReconnectionPolicy, RetryPolicy, RoundRobinPolicy
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, TopicPartition

from chaos.cluster import POLL_SECONDS
from chaos.history import Key
from chaos.load import Load
from chaos.oracle import Observed
from chaos.rows import columns, counted_at
from chaos.sent import OUTPUTS, SentMessages
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.servers.kafka import partitions_of
from local.errors import LocalWorldError
from local.world import World

CONCURRENCY = 16
"""Of statements. Nodes that share a small machine answer late when there are more."""
_BROKER_TIMEOUT_SECONDS = 60
_CASSANDRA_TIMEOUT_SECONDS = 60


class Messages:
    """Consumes the output topics from the beginning."""

    def __init__(self, bootstrap_servers: str, environment: str) -> None:
        """Assigns all partitions, but reads nothing yet. Raises TaskFault if a topic does not exist."""
        self._prefix = f"{environment}."
        self._settings = {
            "bootstrap.servers": bootstrap_servers,
            "group.id": "chaos",
            "enable.partition.eof": True,
            "log_level": 0,
        }
        self._consumer = Consumer(self._settings)
        self._partitions = [
            TopicPartition(found.topic, found.partition, 0)
            for topic in OUTPUTS
            for found in partitions_of(self._consumer, f"{self._prefix}{topic}", _BROKER_TIMEOUT_SECONDS)
        ]
        self._consumer.assign(self._partitions)
        self._read_to: dict[tuple[str, int], int] = dict.fromkeys(map(_name, self._partitions), 0)
        self.sent = SentMessages()

    def read(self) -> None:
        """Reads all messages up to the current ends of the topics. Raises LocalWorldError if the ends are not known."""
        # A new client: its requests do not queue behind fetches, and it has no metadata from before a fault.
        with closing(Consumer(self._settings)) as client:
            ends = {_name(partition): _end(client, partition) for partition in self._partitions}
        while any(self._read_to[name] < end for name, end in ends.items()):
            for message in self._consumer.consume(1_000, timeout=0.2):
                error, name = message.error(), (message.topic(), message.partition())
                if error is None:
                    kind, time_ms = message.timestamp()
                    appended_ms = time_ms if kind == TIMESTAMP_LOG_APPEND_TIME else None
                    topic = message.topic().removeprefix(self._prefix)
                    self.sent.add(topic, message.value(), message.key(), appended_ms)
                    self._read_to[name] = message.offset() + 1
                elif error.code() == KafkaError._PARTITION_EOF:
                    # The marks of transactions have offsets, too, so the last message may not be at the end.
                    self._read_to[name] = message.offset()

    def close(self) -> None:
        self._consumer.close()


def _name(partition: TopicPartition) -> tuple[str, int]:
    return partition.topic, partition.partition


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


class _TryAgain(RetryPolicy):
    """A busy machine answers late. All statements of a chaos run may be repeated."""

    _TRIES = 20

    def on_read_timeout(self, *_: object, retry_num: int, **__: object) -> tuple[int, None]:
        return self._decide(retry_num)

    def on_write_timeout(self, *_: object, retry_num: int, **__: object) -> tuple[int, None]:
        return self._decide(retry_num)

    def on_unavailable(self, *_: object, retry_num: int, **__: object) -> tuple[int, None]:
        return self._decide(retry_num)

    def _decide(self, retry_num: int) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST if retry_num < self._TRIES else self.RETHROW), None


@contextmanager
def open_tables(world: World) -> Iterator[Session]:
    """A session for the tables of the jobs. Its reads see every acknowledged write."""
    profile = ExecutionProfile(
        load_balancing_policy=RoundRobinPolicy(),
        retry_policy=_TryAgain(),
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
        values |= columns(key, row)
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
        values |= columns(key, row)
    for row in _select(
        session,
        "SELECT userid, contentid, viewcount, completedcount, WRITETIME(viewcount) AS viewed, "
        "WRITETIME(completedcount) AS completed "
        "FROM user_content_consumption WHERE userid = ? AND courseid = ? AND batchid = ?",
        active,
    ):
        key = ("content", row.pop("userid"), row.pop("contentid"))
        row["counted at"] = counted_at(row.pop("viewed"), row.pop("completed"))
        values |= columns(key, row)
    for row in _select(
        session,
        "SELECT userid, status, progress, completedon, contentstatus, datetime "
        "FROM user_enrolments WHERE userid = ? AND courseid = ? AND batchid = ?",
        enrolments,
    ):
        values |= columns(("enrolment", row.pop("userid")), row)


def _select(session: Session, query: str, keys: Sequence[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    statement = session.prepare(query)
    for _, rows in execute_concurrent_with_args(session, statement, keys, concurrency=CONCURRENCY):
        for row in rows:
            yield row._asdict()
