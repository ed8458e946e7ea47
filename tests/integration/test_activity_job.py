"""The activity aggregate updater from its input topic to tables and topics: its real entry point on a MiniCluster."""

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
from cassandra.cluster import Session
from confluent_kafka import Message

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.relations import leaf_nodes_key
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import Content, Settings
from jobs.replay import main
from local.config import load_config
from local.http_services import SEARCH, HttpServices, Switch
from local.servers import Redis
from local.world import World
from tests.support.activity_model import ASHA, COURSE, DAY, HOUR, T0, RelationCache, Tables, Updater, completed
from tests.support.activity_servers import Ids, Servers, value
from tests.support.job_topics import JobTopics
from tests.support.minicluster import MiniCluster
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


@pytest.fixture(scope="module")
def running_job(
    world: World, cassandra_session: Session, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Job, MiniCluster]]:
    """With a Redis of its own, which is killed now and then."""
    redis = Redis(load_config({}).isolated(tmp_path_factory.mktemp("redis")))
    redis.start()
    topics = JobTopics(world, [INPUT, FAILED, AUDITS, REQUESTS])
    folder = tmp_path_factory.mktemp("activity")
    with HttpServices() as services, closing(topics):
        variables = {
            "AGGREGATES__REDIS__PORT": str(redis.port),
            "AGGREGATES__SEARCH_API": f"{services.base_url}/v3/search",
            "AGGREGATES__RELATION_CACHE__EMPTY_TTL_MS": "10",
            "AGGREGATES__RETRY__MAX_BACKOFF_MS": "200",
        }
        with MiniCluster(world, topics, folder, "jobs.activity_aggregate_updater", **variables) as cluster:
            yield Job(topics, Servers(world, cassandra_session, redis), redis, services), cluster
    redis.stop()


@pytest.fixture
def job(running_job: tuple[Job, MiniCluster]) -> Iterator[Job]:
    job, cluster = running_job
    with cluster.log_on_failure():
        yield job


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


@pytest.fixture
def learner(job: Job) -> Learner:
    return Learner(job)


def uuid_of(*identity: object) -> str:
    """What the specification calls the uuid5 of an effect's identity, in the namespace of this suite."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "https://sunbird.org/learner-aggregates")
    return str(uuid.uuid5(namespace, json.dumps(identity, separators=(",", ":"))))


class TestWhatIsLostToday:
    def test_several_contents_of_a_learner_together_all_count(self, job: Job, learner: Learner) -> None:
        job.send(learner.completed("A", "B", "C"))
        learner.wait_until_counted("A", "B", "C")
        assert learner.completed_counts() == [3, 2, 1]
        assert job.servers.enrolment(learner.enrolment).progress == 3
        assert set(learner.audited(6)) == {(kind, content) for kind in ("start", "complete") for content in "ABC"}

    def test_several_events_of_a_learner_together_all_count(self, job: Job, learner: Learner) -> None:
        job.send(*(learner.completed(content, at=T0 + number) for number, content in enumerate("ABCD")))
        learner.wait_until_counted("A", "B", "C", "D")
        assert learner.completed_counts() == [4, 2, 2]
        assert len(job.messages(REQUESTS, learner.batch_id, 1)) == 1

    def test_an_event_that_no_other_follows_is_visible_within_a_second(self, job: Job) -> None:
        """Each of these learners waits for nobody; that the machine has something else to do may happen to some."""
        seconds = []
        for _ in range(10):
            learner = Learner(job)
            started = time.monotonic()
            job.send(learner.completed("A"))
            learner.wait_until_counted("A")
            seconds.append(time.monotonic() - started)
            if seconds[-1] < 1:
                return
        pytest.fail(f"seconds until the row was visible: {seconds}")

    def test_progress_does_not_go_back_while_rows_of_the_api_are_missing(self, job: Job, learner: Learner) -> None:
        """The API publishes before it writes, so no row has a status here."""
        seen: list[tuple[float | None, int]] = []
        for number, content in enumerate("ABC"):
            job.send(learner.completed(content, at=T0 + number))
            learner.wait_until_counted(content)
            seen.append((learner.completed_counts()[0], job.servers.enrolment(learner.enrolment).progress))
        assert seen == [(1, 1), (2, 2), (3, 3)]

    @pytest.mark.parametrize("has_rows", [False, True])
    def test_the_last_content_completes_the_course(self, job: Job, has_rows: bool) -> None:
        learner = Learner(job, optional=["D"])
        if has_rows:
            tables = Tables()
            for content in "ABCD":
                tables.put_content(learner.enrolment, Content(content, 1))
            job.servers.put(tables)
        job.send(learner.completed("A", "D"), learner.completed("C", "B", at=T0 + HOUR))
        learner.wait_until_counted("B", "C")
        enrolment = job.servers.enrolment(learner.enrolment)
        assert (enrolment.status, enrolment.progress) == (2, 3)
        assert learner.completed_counts() == [3, 2, 1]
        assert ("enrol-complete", learner.user_id) in learner.audited(9)
        assert len(job.messages(REQUESTS, learner.batch_id, 1)) == 1

    def test_poison_stops_nothing(self, job: Job, learner: Learner) -> None:
        poison: list[tuple[bytes, str, bytes | None]] = [
            (b"\xff", "not UTF-8", None),
            (b"{", "not JSON", None),
            (b"[]", "not a JSON object", None),
            (_without(learner, "courseId"), "no edata.courseId", learner.user_id.encode()),
            (_without(learner, "contents"), "no edata.contents", learner.user_id.encode()),
            (_without(learner, "userId"), "no edata.userId", None),
        ]
        before = len(job.failed("", 0))
        job.send(learner.completed("A"), *(event for event, _, _ in poison), learner.completed("B", at=T0 + 1))
        learner.wait_until_counted("A", "B")
        failed = job.failed("", before + len(poison))[before:]
        assert len(failed) == len(poison)
        for _, reason, key in poison:
            assert [failed_key for failed_key, failed_reason in failed if reason in failed_reason] == [key]
        assert len(learner.audited(4)) == 4

    @pytest.mark.parametrize(
        ("status", "reason"), [("Retired", "is retired"), ("Live", "is published"), (None, "neither published nor")]
    )
    def test_a_course_without_leaf_nodes_stops_nothing(
        self, job: Job, learner: Learner, status: str | None, reason: str
    ) -> None:
        other = Learner(job)
        with job.servers.relations() as client:
            client.delete(leaf_nodes_key(learner.course_id, learner.course_id))
        if status:
            job.services.contents[learner.course_id] = {"objectType": "Collection", "status": status}
        job.send(learner.completed("A"), other.completed("A"))
        other.wait_until_counted("A")
        ((key, text),) = job.failed(learner.course_id, 1)
        assert key == learner.user_id.encode()
        assert reason in text
        assert learner.counts("A") is None

    def test_two_learners_in_a_batch_share_nothing_and_one_in_two_batches_is_not_mixed(self, job: Job) -> None:
        ids = Ids()
        asha, ravi, again = (
            Learner(job, ids=ids, like=like)
            for like in (ASHA, EnrolmentKey("ravi", COURSE, "b1"), EnrolmentKey("asha", COURSE, "b2"))
        )
        job.send(
            asha.completed("A", "B"),
            ravi.completed("A", "C"),
            again.completed("D"),
            asha.completed("C", at=T0 + 1),
        )
        asha.wait_until_counted("A", "B", "C")
        ravi.wait_until_counted("A", "C")
        again.wait_until_counted("D")
        assert [each.completed_counts() for each in (asha, ravi, again)] == [[3, 2, 1], [2, 1, 1], [1, None, 1]]
        assert [job.servers.enrolment(each.enrolment).progress for each in (asha, ravi, again)] == [3, 2, 1]
        assert asha.counts("D") is None
        assert again.counts("A") is None


def _without(learner: Learner, field: str) -> bytes:
    event = json.loads(value(learner.completed("A")))
    del event["edata"][field]
    return json.dumps(event).encode()


class TestMessages:
    def test_of_a_course_that_is_completed(self, job: Job, learner: Learner) -> None:
        job.send(learner.completed("A", "B", "C", "D"))
        *contents, enrolment = learner.audits(9)
        identity = ("ActivityAggregateUpdater", learner.user_id, learner.course_id, learner.batch_id)
        for audit in (*contents, enrolment):
            for device_or_session in ("sid", "did"):
                assert str(uuid.UUID(audit["context"][device_or_session])) == audit["context"].pop(device_or_session)
        envelope = {
            "actor": {"id": learner.user_id, "type": "User"},
            "eid": "AUDIT",
            "ver": "3.0",
            "syncts": T0,
            "ets": T0,
            "tags": [],
        }
        context = {
            "channel": "in.sunbird",
            "env": "Course",
            "pdata": {"ver": "3.0", "id": "org.sunbird.learning.platform", "pid": "course-progress-updater"},
        }
        batch = {"type": "CourseBatch", "id": learner.batch_id}
        kinds = {"start": ["viewcount"], "complete": ["viewcount", "completedcount"]}
        assert contents == [
            {
                **envelope,
                "edata": {"props": props, "type": kind},
                "context": {**context, "cdata": [batch]},
                "mid": f"LP.AUDIT.{uuid_of(*identity, content, kind, T0)}",
                "object": {"id": content, "type": "Content", "rollup": {"l1": learner.course_id}},
            }
            for content in "ABCD"
            for kind, props in kinds.items()
        ]
        assert enrolment == {
            **envelope,
            "edata": {"props": ["status", "completedon"], "type": "enrol-complete"},
            "context": {**context, "cdata": [batch, {"type": "Course", "id": learner.course_id}]},
            "mid": f"LP.AUDIT.{uuid_of(*identity, '', 'enrol-complete', T0)}",
            "object": {"id": learner.user_id, "type": "User", "rollup": {"l1": learner.course_id}},
        }
        (request,) = job.messages(REQUESTS, learner.batch_id, 1)
        assert request.key() is None
        assert json.loads(request.value()) == {
            "eid": "BE_JOB_REQUEST",
            "ets": T0,
            "mid": f"LP.{T0}.{uuid_of(*identity, 'issue-certificate', T0)}",
            "actor": {"id": "Course Certificate Generator", "type": "System"},
            "context": {"pdata": {"ver": "1.0", "id": "org.sunbird.platform"}},
            "object": {"id": f"{learner.batch_id}_{learner.course_id}", "type": "CourseCertificateGeneration"},
            "edata": {
                "userIds": [learner.user_id],
                "action": "issue-certificate",
                "iteration": 1,
                "trigger": "auto-issue",
                "batchId": learner.batch_id,
                "courseId": learner.course_id,
                "reIssue": False,
            },
        }

    def test_an_event_that_comes_again_sends_them_again_and_one_that_is_late_sends_none(
        self, job: Job, learner: Learner
    ) -> None:
        event = learner.completed("A", "B", "C", "D")
        job.send(event, event, learner.completed("A", at=T0 + HOUR), learner.completed("A", at=T0 - DAY))
        # The learner's own next event is applied after those.
        job.send(learner.completed("elsewhere", at=T0 + 1))
        learner.wait_until_counted("elsewhere")
        audits = learner.audits(20)
        assert len(audits) == 20
        assert audits[:9] == audits[9:18]
        first, second = job.messages(REQUESTS, learner.batch_id, 2)
        assert first.value() == second.value()
        assert [learner.counts(content) for content in "ABCD"] == [(1, 1)] * 4

    def test_other_actions_and_contents_in_progress_are_passed_over(self, job: Job, learner: Learner) -> None:
        def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
            event = json.loads(value(learner.completed("A")))
            change(event["edata"])
            return json.dumps(event).encode()

        job.send(
            changed(lambda edata: edata.update(action="user-enrolment-sync")),
            changed(lambda edata: edata.update(contents=[{"contentId": "A", "status": 1}])),
            changed(
                lambda edata: edata.update(
                    action="Batch-Enrolment-Update", contents=[{"contentId": "B", "status": 2.0}]
                )
            ),
        )
        learner.wait_until_counted("B")
        assert learner.counts("A") is None
        assert learner.audited(2) == [("start", "B"), ("complete", "B")]
        assert job.failed(learner.course_id, 0) == []


class TestServersThatAreDown:
    def test_redis(self, job: Job, learner: Learner) -> None:
        """A course that is in memory goes on; the others wait, however many."""
        job.send(learner.completed("A"))
        learner.wait_until_counted("A")
        others = [Learner(job) for _ in range(3)]
        job.redis.kill()
        job.send(learner.completed("A", at=T0 + 7 * DAY))
        wait_until(lambda: learner.counts("A") == (2, 2), "a course in memory goes on", 60)
        job.send(*(other.completed("A") for other in others))
        job.redis.start()
        for other in others:
            other.wait_until_counted("A")

    def test_the_search_api(self, job: Job, learner: Learner) -> None:
        with job.servers.relations() as client:
            client.delete(leaf_nodes_key(learner.course_id, learner.course_id))
        job.services.contents[learner.course_id] = {"objectType": "Collection", "status": "Retired"}
        before = job.services.requests[SEARCH]
        job.services.switch(SEARCH, Switch(status=503, times=4))
        other = Learner(job)
        job.send(learner.completed("A"), other.completed("A"))
        other.wait_until_counted("A")
        ((_, reason),) = job.failed(learner.course_id, 1)
        assert "is retired" in reason
        assert job.services.requests[SEARCH] == before + 5


class TestReplay:
    def test_applies_what_failed_for_a_course_that_was_missing(
        self, job: Job, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ids, tables = Ids(), Tables()
        course = ids.course(RelationCache({"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}))
        learners = [ids.enrolment(EnrolmentKey(f"learner-{number}", COURSE, "b1")) for number in range(250)]
        for learner in learners:
            tables.enrol(learner)
        job.servers.put(tables)
        events = [completed(content, by=learner) for content in "ABCD" for learner in learners]
        job.send(*events)
        failed = job.failed(course.course_id, 1000)
        assert {reason for _, reason in failed} == {
            f"course {course.course_id} has no leaf nodes and is neither published nor retired"
        }
        assert job.servers.rows(learners, course) == tables.rows()

        job.servers.publish(course)
        for name, text in {
            **world.job_environment("jobs.activity_aggregate_updater"),
            "AGGREGATES__KAFKA__ENV": job.topics.env,
        }.items():
            monkeypatch.setenv(name, text)
        arguments = ["--job", "activity_aggregate_updater", "--reason", course.course_id]
        assert main(arguments) == 0
        assert re.fullmatch(r"(\d+ passed over, )?1000 sent\n", capsys.readouterr().out)

        settings = Settings(job.topics.topic(AUDITS), job.topics.topic(REQUESTS))
        expected: dict[str, Counter[bytes]] = {settings.audit_topic: Counter(), settings.certificate_topic: Counter()}
        for result in Updater(tables, course, settings).run(events):
            for message in result.messages:
                expected[message.topic][message.value] += 1
        for name in (AUDITS, REQUESTS):
            values = expected[job.topics.topic(name)]
            sent = job.messages(name, ids.prefix, values.total())
            assert Counter(message.value() for message in sent) == values
        assert job.servers.rows(learners, course) == tables.rows()
        again = [message for message in job.topics.inbox(FAILED).all() if ids.prefix.encode() in message.value()]
        assert len(again) == len(failed) == 1000

        assert main(arguments) == 0
        assert capsys.readouterr().out == "nothing to replay\n"
