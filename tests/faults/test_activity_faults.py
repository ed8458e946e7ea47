"""A worker of the activity aggregate updater is killed while it works: nothing is counted twice, no message is lost."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC

import pytest
from cassandra.cluster import Session
from confluent_kafka import Consumer, TopicPartition

from common.domain import topics
from common.domain.events import to_time_ms
from local import generator
from local.flink import FREQUENT_CHECKPOINTS, FlinkCluster
from local.world import World
from tests.conftest import Topics
from tests.support.job_topics import JobTopics
from tests.support.waiting import wait_until

INPUT, FAILED = topics.BATCH_JOB_REQUEST, topics.ACTIVITY_AGG_FAILED
SYNCS = topics.ENROLMENT_SYNC_REQUEST
AUDITS, REQUESTS = topics.TELEMETRY_RAW, topics.ISSUE_CERTIFICATE_REQUEST
T0 = 1_715_657_560_000
LEARNERS, EVENTS_OF_EACH = 40, 16
COURSE = generator.course(random.randrange(1_000_000, 2_000_000))
UNIT_OF = {content_id: unit_id for unit_id, content_ids in COURSE.units for content_id in content_ids}


@dataclass
class Learner:
    """What must be there of one learner in the end: sums over the events that were sent, and nothing else."""

    user_id: str
    counted_at: dict[str, int] = field(default_factory=dict)
    """Time of the first event of each content."""
    completed_at: int | None = None

    def complete(self, content_ids: list[str], time_ms: int) -> bytes:
        for content_id in content_ids:
            self.counted_at.setdefault(content_id, time_ms)
        if self.completed_at is None and len(self.counted_at) == len(COURSE.contents):
            self.completed_at = time_ms
        return generator.encode(generator.completion(COURSE, self.user_id, content_ids, time_ms))

    @property
    def audits(self) -> set[tuple[str, str, str, int]]:
        """User, object, type and time of each."""
        audits = {
            (self.user_id, content_id, kind, time_ms)
            for content_id, time_ms in self.counted_at.items()
            for kind in ("start", "complete")
        }
        if self.completed_at is not None:
            audits.add((self.user_id, self.user_id, "enrol-complete", self.completed_at))
        return audits


def load() -> tuple[list[Learner], list[bytes]]:
    """Learners, and their events in the order of arrival: contents again and again, whole events again."""
    source = random.Random(4)
    learners = [Learner(f"{COURSE.course_id}-learner-{number}") for number in range(LEARNERS)]
    events: list[bytes] = []
    for number in range(LEARNERS * EVENTS_OF_EACH):
        if number % 10 == 9:
            events.append(source.choice(events[-50:]))
        else:
            contents = source.sample(COURSE.contents, source.randint(2, 5))
            events.append(source.choice(learners).complete(contents, T0 + number))
    return learners, events


@pytest.fixture
def own(world: World) -> Iterator[JobTopics]:
    with closing(JobTopics(world, [INPUT, SYNCS, FAILED, AUDITS, REQUESTS])) as own:
        yield own


def test_a_killed_worker(
    world: World, flink_cluster: FlinkCluster, cassandra_session: Session, topics: Topics, own: JobTopics
) -> None:
    learners, events = load()
    world.publish_relations(COURSE)
    for learner in learners:
        cassandra_session.execute(
            "INSERT INTO user_enrolments (userid, courseid, batchid, active, status) VALUES (%s, %s, %s, true, 0)",
            [learner.user_id, COURSE.course_id, COURSE.batch_id],
        )
    expected = set().union(*(learner.audits for learner in learners))
    first, rest = events[: len(events) // 3], events[len(events) // 3 :]
    own.produce(INPUT, first)
    job = world.submit(
        "jobs.activity_aggregate_updater",
        # Small batches in small bundles, so that messages leave, and it is killed, before it has done all.
        environment={"AGGREGATES__KAFKA__ENV": own.env, "AGGREGATES__BATCH__MAX_BATCH_SIZE": "8"},
        options={
            **FREQUENT_CHECKPOINTS,
            "python.fn-execution.bundle.size": "20",
        },
    )
    flink_cluster.client.wait_until_running(job)
    # Something is behind a checkpoint, from which the job goes on once it is killed.
    own.inbox(AUDITS).wait_for(1)
    flink_cluster.client.wait_until_running(job, checkpoints=2)
    done = len(topics.read(own.topic(AUDITS)))
    own.produce(INPUT, rest)
    own.inbox(AUDITS).wait_for((done + len(expected)) // 2)
    worker, *_ = flink_cluster.task_managers[0].python_workers()
    worker.kill()
    assert len(topics.read(own.topic(AUDITS))) < len(expected)

    wait_until(lambda: _committed(world, own) == len(events), "all events are behind a checkpoint")
    assert flink_cluster.client.checkpoints(job)["restored"] == 1

    ids = defaultdict[tuple[str, str, str, int], set[str]](set)
    for message in topics.read(own.topic(AUDITS)):
        audit = json.loads(message.value())
        ids[audit["actor"]["id"], audit["object"]["id"], audit["edata"]["type"], audit["ets"]].add(audit["mid"])
    assert ids.keys() == expected
    assert {len(mids) for mids in ids.values()} == {1}
    assert len(set().union(*ids.values())) == len(expected)

    requests = {
        (event["edata"]["userIds"][0], event["ets"], event["mid"])
        for event in (json.loads(message.value()) for message in topics.read(own.topic(REQUESTS)))
    }
    completed = {(each.user_id, each.completed_at) for each in learners if each.completed_at is not None}
    assert {(user_id, time_ms) for user_id, time_ms, _ in requests} == completed
    assert len(requests) == len(completed) > 0
    assert topics.read(own.topic(FAILED)) == []
    for learner in learners:
        _check_rows(cassandra_session, learner)


def _committed(world: World, own: JobTopics) -> int:
    """The offset up to which events are done, because a checkpoint has completed behind them."""
    group = f"{own.env}-activity-aggregate-updater-group"
    consumer = Consumer({"bootstrap.servers": world.kafka.bootstrap_servers, "group.id": group, "log_level": 0})
    try:
        (partition,) = consumer.committed([TopicPartition(own.topic(INPUT), 0)], timeout=30)
        return int(partition.offset)
    finally:
        consumer.close()


def _check_rows(session: Session, learner: Learner) -> None:
    enrolment = [learner.user_id, COURSE.course_id, COURSE.batch_id]
    contents = session.execute(
        "SELECT contentid, viewcount, completedcount, WRITETIME(viewcount) AS view_us, "
        "WRITETIME(completedcount) AS completed_us FROM user_content_consumption "
        "WHERE userid = %s AND courseid = %s AND batchid = %s",
        enrolment,
    )
    assert {tuple(row) for row in contents} == {
        (content_id, 1, 1, time_ms * 1000, time_ms * 1000) for content_id, time_ms in learner.counted_at.items()
    }
    units = {UNIT_OF[content_id] for content_id in learner.counted_at}
    for activity_id in (COURSE.course_id, *units):
        done = sum(activity_id in (COURSE.course_id, UNIT_OF[content_id]) for content_id in learner.counted_at)
        row = session.execute(
            "SELECT aggregates FROM user_activity_agg "
            "WHERE activity_type = 'Course' AND activity_id = %s AND user_id = %s AND context_id = %s",
            [activity_id, learner.user_id, f"cb:{COURSE.batch_id}"],
        ).one()
        assert dict(row.aggregates) == {"completedCount": float(done)}
    row = session.execute(
        "SELECT status, progress, completedon, contentstatus FROM user_enrolments "
        "WHERE userid = %s AND courseid = %s AND batchid = %s",
        enrolment,
    ).one()
    if learner.completed_at is None:
        assert (row.status, row.progress, row.completedon) == (1, len(learner.counted_at), None)
        assert dict(row.contentstatus) == dict.fromkeys(learner.counted_at, 2)
    else:
        assert (row.status, row.progress) == (2, len(COURSE.contents))
        assert to_time_ms(row.completedon.replace(tzinfo=UTC)) == learner.completed_at
        assert dict(row.contentstatus) == dict.fromkeys(COURSE.contents, 2)
