"""The assessment aggregator under test: a learner's events, and what the job makes of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cassandra.cluster import Session
from confluent_kafka import Message

from local.world import World
from tests.support.job_topics import JobTopics
from tests.support.strategies import T0, JsonObject, answer, item, submission

INPUT = "telemetry.assess"
FAILED = "telemetry.assess.failed"
REQUESTS = "issue.certificate.request"

Scores = Sequence[tuple[float | str, float | str]]
"""Score and maximum score of each question."""


@dataclass(frozen=True, slots=True)
class Learner:
    """A learner in a batch of a course."""

    user_id: str
    course_id: str
    batch_id: str

    @classmethod
    def unique(cls, unique: str) -> "Learner":
        return cls(f"u-{unique}", f"do_{unique}", f"b-{unique}")

    def attempt(
        self, content_id: str, attempt_id: str, scores: Scores, time_ms: int = T0, **members: Any
    ) -> JsonObject:
        """An event of ``telemetry.assess``; ``members`` are replaced in it, None removes them."""
        return submission(
            **{
                "userId": self.user_id,
                "courseId": self.course_id,
                "batchId": self.batch_id,
                "contentId": content_id,
                "attemptId": attempt_id,
                "assessmentTs": time_ms,
                "events": [
                    answer(score=score, item=item(id=f"{content_id}q{number}", maxscore=max_score))
                    for number, (score, max_score) in enumerate(scores)
                ],
                **members,
            }
        )

    def recompute(self, content_id: str, time_ms: int | None = T0, **members: Any) -> JsonObject:
        return self.attempt(
            content_id, "", (), **{"attemptId": None, "assessmentTs": time_ms, "events": None, **members}
        )


class Assessment(JobTopics):
    """The topics of one assessment aggregator."""

    def __init__(self, world: World) -> None:
        super().__init__(world, (INPUT, FAILED, REQUESTS))

    def send(self, *events: JsonObject | bytes | None) -> None:
        """In this order; None is a tombstone."""
        self.produce(INPUT, [json.dumps(event).encode() if isinstance(event, dict) else event for event in events])

    def requests(self, learner: Learner, count: int) -> list[Message]:
        """The certificate requests of the learner's enrolment, as soon as there are `count`."""

        def matches(message: Message) -> bool:
            if learner.user_id.encode() not in message.value():
                return False
            edata = json.loads(message.value())["edata"]
            return (*edata["userIds"], edata["courseId"], edata["batchId"]) == (
                learner.user_id,
                learner.course_id,
                learner.batch_id,
            )

        return self.inbox(REQUESTS).wait_for(count, matches)

    def attempt_ids(self, learner: Learner, count: int) -> list[str]:
        """Of the learner's certificate requests."""
        return [json.loads(request.value())["edata"]["attemptId"] for request in self.requests(learner, count)]

    def failed(self, text: str, count: int = 1) -> list[Message]:
        """What has `text` in it on the failed topic, as soon as there are `count`."""
        return self.inbox(FAILED).wait_for(count, lambda message: text.encode() in message.value())


def reason(failed: Message) -> str:
    """Why it is on the failed topic."""
    return str(json.loads(failed.value())["metadata"]["validation_error"])


class Tables:
    """What the job has written, read with another driver."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def attempts(self, learner: Learner) -> list[Any]:
        """The learner's rows of ``assessment_aggregator`` in key order."""
        query = "SELECT * FROM assessment_aggregator WHERE user_id = %s AND course_id = %s AND batch_id = %s"
        return list(self.session.execute(query, (learner.user_id, learner.course_id, learner.batch_id)))

    def aggregates(self, learner: Learner) -> Any:
        """The learner's row of ``user_activity_agg``, None if there is none."""
        query = (
            "SELECT * FROM user_activity_agg "
            "WHERE activity_type = 'Course' AND activity_id = %s AND user_id = %s AND context_id = %s"
        )
        return self.session.execute(query, (learner.course_id, learner.user_id, f"cb:{learner.batch_id}")).one()

    def insert(self, table: str, **columns: object) -> None:
        names = ", ".join(columns)
        marks = ", ".join(["%s"] * len(columns))
        self.session.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(columns.values()))

    def insert_attempt(self, learner: Learner, content_id: str, attempt_id: str, **columns: object) -> None:
        """A row of another writer."""
        keys = {"user_id": learner.user_id, "course_id": learner.course_id, "batch_id": learner.batch_id}
        self.insert("assessment_aggregator", **keys, content_id=content_id, attempt_id=attempt_id, **columns)

    def insert_aggregates(self, learner: Learner, **columns: object) -> None:
        """A row of other writers."""
        keys = {"activity_type": "Course", "activity_id": learner.course_id, "user_id": learner.user_id}
        self.insert("user_activity_agg", **keys, context_id=f"cb:{learner.batch_id}", **columns)

    def delete_attempts(self, learner: Learner, content_id: str, *attempt_ids: str) -> None:
        for attempt_id in attempt_ids:
            self.session.execute(
                "DELETE FROM assessment_aggregator "
                "WHERE user_id = %s AND course_id = %s AND batch_id = %s AND content_id = %s AND attempt_id = %s",
                (learner.user_id, learner.course_id, learner.batch_id, content_id, attempt_id),
            )
