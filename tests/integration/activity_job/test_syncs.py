"""The button "Sync progress now" from its topic to the tables and messages."""

import json

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.events import to_datetime
from common.domain.relations import leaf_nodes_key
from jobs.activity_aggregate_updater.rules import Content
from tests.support.activity_job import AUDITS, REQUESTS, Job
from tests.support.activity_learner import Learner
from tests.support.activity_model import ASHA, HOUR, T0, RelationCache, Tables, completed, sync
from tests.support.activity_servers import Ids
from tests.support.waiting import wait_until


def test_three_contents_in_three_units_are_synced_and_complete_the_course(job: Job) -> None:
    """The contents are finished, and nobody has counted them: the learner's events were lost."""
    ids = Ids()
    units = {"do_unit_1": ["A"], "do_unit_2": ["B"], "do_unit_3": ["C"]}
    course, learner = ids.course(RelationCache(units)), ids.enrolment(ASHA)
    tables = Tables()
    tables.enrol(learner)
    for content_id in "ABC":
        tables.put_content(learner, Content(content_id, 2))
    job.servers.publish(course)
    job.servers.put(tables)

    def counts() -> list[float | None]:
        activities = (course.course_id, *course.units)
        return [job.servers.aggregates(learner, activity_id).get(COMPLETED_COUNT) for activity_id in activities]

    job.send(sync(T0 + HOUR, learner))
    (request,) = job.messages(REQUESTS, learner.batch_id, 1)
    assert counts() == [3.0, 1.0, 1.0, 1.0]
    row = job.servers.enrolment(learner)
    assert (row.status, row.progress, dict(row.contentstatus)) == (2, 3, dict.fromkeys("ABC", 2))
    assert row.completedon == to_datetime(T0 + HOUR).replace(tzinfo=None)
    (audit,) = job.messages(AUDITS, learner.batch_id, 1)
    assert json.loads(audit.value())["edata"]["type"] == "enrol-complete"

    # Again, as after a crash: the same messages, and no other rows.
    job.send(sync(T0 + HOUR, learner))
    first, again = job.messages(REQUESTS, learner.batch_id, 2)
    assert first.value() == again.value() == request.value()
    assert counts() == [3.0, 1.0, 1.0, 1.0]
    contents = job.servers.rows([learner], course)
    assert not [key for key in contents if key[-1] in ("viewcount", "completedcount")]


def test_completions_count_after_a_sync_as_without_it(job: Job, learner: Learner) -> None:
    tables = Tables()
    for content_id in "AB":
        tables.put_content(learner.enrolment, Content(content_id, 2))
    job.servers.put(tables)
    job.send(learner.sync())
    wait_until(lambda: learner.completed_counts() == [2.0, 2.0, None], "the sync is applied")
    assert job.servers.enrolment(learner.enrolment).status == 1
    job.send(learner.completed("A", "C", at=T0 + 1), learner.sync(T0 + 2))
    learner.wait_until_counted("A", "C")
    assert learner.completed_counts() == [3.0, 2.0, 1.0]
    assert (learner.counts("A"), learner.counts("B")) == ((1, 1), None)
    job.send(completed("D", at=T0 + 3, by=learner.enrolment))
    job.messages(REQUESTS, learner.batch_id, 1)
    assert job.servers.enrolment(learner.enrolment).completedon == to_datetime(T0 + 3).replace(tzinfo=None)


def test_a_sync_of_a_course_without_leaf_nodes_fails_and_can_be_replayed(job: Job, learner: Learner) -> None:
    with job.servers.relations() as client:
        client.delete(leaf_nodes_key(learner.course_id, learner.course_id))
    job.send(learner.sync())
    ((key, reason),) = job.failed(learner.course_id, 1)
    assert key == learner.user_id.encode()
    assert "neither published nor retired" in reason
