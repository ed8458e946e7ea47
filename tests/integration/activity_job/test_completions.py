"""Completions from Kafka to the tables: all of them count, whatever arrives between them."""

import json
import time

import pytest

from common.domain.enrolments import EnrolmentKey
from common.domain.relations import leaf_nodes_key
from jobs.activity_aggregate_updater.rules import Content
from tests.support.activity_job import (
    REQUESTS,
    Job,
)
from tests.support.activity_learner import Learner
from tests.support.activity_model import ASHA, COURSE, HOUR, T0, Tables
from tests.support.activity_servers import Ids, value


class TestWhatTheScalaJobLoses:
    def test_several_contents_of_a_learner_together_all_count(self, job: Job, learner: Learner) -> None:
        job.send(learner.completed("A", "B", "C"))
        learner.wait_until_counted("A", "B", "C")
        assert learner.completed_counts() == [3, 2, 1]
        assert job.servers.enrolment(learner.enrolment).progress == 3
        assert set(job.audited(learner, 6)) == {(kind, content) for kind in ("start", "complete") for content in "ABC"}

    def test_several_events_of_a_learner_together_all_count(self, job: Job, learner: Learner) -> None:
        job.send(*(learner.completed(content, at=T0 + number) for number, content in enumerate("ABCD")))
        learner.wait_until_counted("A", "B", "C", "D")
        assert learner.completed_counts() == [4, 2, 2]
        assert len(job.messages(REQUESTS, learner.batch_id, 1)) == 1

    def test_an_event_that_no_other_follows_is_visible_within_a_second(self, job: Job) -> None:
        """Each of these learners waits for nobody; that the machine has something else to do may happen to some."""
        seconds = []
        for _ in range(10):
            learner = Learner(job.servers)
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
        learner = Learner(job.servers, optional=["D"])
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
        assert ("enrol-complete", learner.user_id) in job.audited(learner, 9)
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
        assert len(job.audited(learner, 4)) == 4

    @pytest.mark.parametrize(
        ("status", "reason"), [("Retired", "is retired"), ("Live", "is published"), (None, "neither published nor")]
    )
    def test_a_course_without_leaf_nodes_stops_nothing(
        self, job: Job, learner: Learner, status: str | None, reason: str
    ) -> None:
        other = Learner(job.servers)
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
            Learner(job.servers, ids=ids, like=like)
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
