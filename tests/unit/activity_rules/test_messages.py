"""The AUDIT events and certificate requests of the activity aggregate updater."""

import json

import pytest

from common.domain.enrolments import EnrolmentKey
from jobs.activity_aggregate_updater.rules import (
    Content,
)
from tests.support.activity_model import (
    COURSE,
    T0,
    completed,
)
from tests.support.activity_rules import (
    World,
    kinds,
)


class TestMessages:
    @pytest.mark.parametrize(
        ("row", "expected"),
        [
            (Content("A", 2), ["start", "complete"]),
            (Content("A", 2, 0, 0, 1, 1), ["start", "complete"]),
            (Content("A", 2, 1, 0, 1, 1), ["complete"]),
            (Content("A", 2, 0, 1, 1, 1), ["start"]),
            (Content("A", 2, 1, 1, 1, 1), []),
        ],
    )
    def test_the_first_view_and_the_first_completion_are_audited_and_again_on_a_replay(
        self, world: World, row: Content, expected: list[str]
    ) -> None:
        world.stored(row)
        first = world.apply(completed("A"))
        assert [kind for kind, _ in kinds(first)] == expected
        assert world.apply(completed("A")) == first

    def test_audit_of_a_content(self, world: World) -> None:
        start, complete = world.apply(completed("A"))
        assert start.topic == complete.topic == "audit"
        assert start.key is None
        event = json.loads(complete.value)
        assert event["mid"].startswith("LP.AUDIT.")
        assert event["ets"] == event["syncts"] == T0
        assert event["actor"] == {"id": "asha", "type": "User"}
        assert event["context"]["cdata"] == [{"type": "CourseBatch", "id": "b1"}]
        assert event["object"] == {"id": "A", "type": "Content", "rollup": {"l1": COURSE}}
        assert event["edata"] == {"props": ["viewcount", "completedcount"], "type": "complete"}
        assert json.loads(start.value)["edata"] == {"props": ["viewcount"], "type": "start"}

    def test_audit_of_an_enrolment(self, world: World) -> None:
        audit = json.loads(world.apply(completed("A", "B", "C", "D"))[-2].value)
        assert audit["edata"] == {"props": ["status", "completedon"], "type": "enrol-complete"}
        assert audit["context"]["cdata"] == [{"type": "CourseBatch", "id": "b1"}, {"type": "Course", "id": COURSE}]
        assert audit["object"] == {"id": "asha", "type": "User", "rollup": {"l1": COURSE}}
        assert audit["ets"] == T0

    def test_certificate_request(self, world: World) -> None:
        message = world.apply(completed("A", "B", "C", "D"))[-1]
        request = json.loads(message.value)
        assert message.topic == "certificate"
        assert request["ets"] == T0
        assert request["mid"].startswith(f"LP.{T0}.")
        assert request["edata"] == {
            "userIds": ["asha"],
            "action": "issue-certificate",
            "iteration": 1,
            "trigger": "auto-issue",
            "batchId": "b1",
            "courseId": COURSE,
            "reIssue": False,
        }

    def test_ids_never_change(self, world: World) -> None:
        sent = world.apply(completed("A", "B", "C", "D"))

        # Consumers remember ids: a release that makes others sends every repeat twice.
        assert [json.loads(message.value)["mid"] for message in (sent[0], *sent[-2:])] == [
            "LP.AUDIT.75e05f09-bfb5-540b-9dfb-3e8350bd6ac1",
            "LP.AUDIT.4eb1934c-630a-526d-81d1-69c2831abb8e",
            "LP.1715657560123.2b859434-ec57-53e3-9ba6-81f0adad983c",
        ]

    def test_ids_differ_between_learners_batches_contents_actions_and_times(self) -> None:
        events = [
            completed("A", "B"),
            completed("A", "B", at=T0 + 1),
            completed("A", "B", by=EnrolmentKey("ravi", COURSE, "b1")),
            completed("A", "B", by=EnrolmentKey("asha", COURSE, "b2")),
        ]
        sent = []
        for event in events:
            world = World({"do_unit_1": ["A", "B"]})
            world.tables.enrol(event.enrolment)
            sent += world.apply(event)
        ids = [json.loads(message.value)["mid"] for message in sent]
        assert len(ids) == len(set(ids)) == 4 * 6
