"""The AUDIT events and certificate requests that the running job sends."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from tests.support.activity_job import (
    REQUESTS,
    Job,
    uuid_of,
)
from tests.support.activity_learner import Learner
from tests.support.activity_model import DAY, HOUR, T0
from tests.support.activity_servers import value


class TestMessages:
    def test_of_a_course_that_is_completed(self, job: Job, learner: Learner) -> None:
        job.send(learner.completed("A", "B", "C", "D"))
        *contents, enrolment = job.audits(learner, 9)
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
        audits = job.audits(learner, 20)
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
        assert job.audited(learner, 2) == [("start", "B"), ("complete", "B")]
        assert job.failed(learner.course_id, 0) == []
