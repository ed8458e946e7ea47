"""Servers that are down, and the replay of what has failed."""

import re
from collections import Counter

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.relations import leaf_nodes_key
from jobs.activity_aggregate_updater.rules import Settings
from jobs.replay import main
from local.http_services import SEARCH, Switch
from local.world import World
from tests.support.activity_job import (
    AUDITS,
    FAILED,
    REQUESTS,
    Job,
)
from tests.support.activity_learner import Learner
from tests.support.activity_model import COURSE, DAY, T0, RelationCache, Tables, Updater, completed
from tests.support.activity_servers import Ids
from tests.support.waiting import wait_until


class TestServersThatAreDown:
    def test_redis_is_waited_for(self, job: Job, learner: Learner) -> None:
        """A course that is in memory goes on; the others wait, however many."""
        job.send(learner.completed("A"))
        learner.wait_until_counted("A")
        others = [Learner(job.servers) for _ in range(3)]
        job.redis.kill()
        job.send(learner.completed("A", at=T0 + 7 * DAY))
        wait_until(lambda: learner.counts("A") == (2, 2), "a course in memory goes on")
        job.send(*(other.completed("A") for other in others))
        job.redis.start()
        for other in others:
            other.wait_until_counted("A")

    def test_the_search_api_is_waited_for(self, job: Job, learner: Learner) -> None:
        with job.servers.relations() as client:
            client.delete(leaf_nodes_key(learner.course_id, learner.course_id))
        job.services.contents[learner.course_id] = {"objectType": "Collection", "status": "Retired"}
        before = job.services.requests[SEARCH]
        job.services.switch(SEARCH, Switch(status=503, times=4))
        other = Learner(job.servers)
        job.send(learner.completed("A"), other.completed("A"))
        other.wait_until_counted("A")
        ((_, reason),) = job.failed(learner.course_id, 1)
        assert "is retired" in reason
        # Four refusals and the answer. Another request may ask whether the API is down for everybody.
        assert job.services.requests[SEARCH] >= before + 5


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
