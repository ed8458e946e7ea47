"""The assessment aggregator under test: a learner's events, and what the job makes of them."""

import json
from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message

from common.domain.enrolments import EnrolmentKey
from local.world import World
from tests.support.job_topics import JobTopics
from tests.support.strategies import T0, JsonObject, answer, item, submission

INPUT = "telemetry.assess"
FAILED = "telemetry.assess.failed"
REQUESTS = "issue.certificate.request"

PARTITIONS = 4
"""Of the input of the job that tests share, so that each of its subtasks reads some."""

Scores = Sequence[tuple[float | str, float | str]]
"""Score and maximum score of each question."""


class Learner(EnrolmentKey):
    """A learner in a batch of a course, who attempts assessments."""

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

    def __init__(self, world: World, partitions: int = 1) -> None:
        """`partitions` are those of the input. A test that does not name one sends to the first, in its order."""
        super().__init__(world, (INPUT, FAILED, REQUESTS), {INPUT: partitions})

    def send(self, *events: JsonObject | bytes | None) -> None:
        """In this order; None is a tombstone."""
        self.produce(INPUT, [json.dumps(event).encode() if isinstance(event, dict) else event for event in events])

    def requests(self, learner: Learner, count: int) -> list[Message]:
        """The certificate requests of the learner's enrolment, as soon as there are `count`."""

        def matches(message: Message) -> bool:
            if learner.user_id.encode() not in message.value():
                return False
            edata = json.loads(message.value())["edata"]
            return (*edata["userIds"], edata["courseId"], edata["batchId"]) == learner

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
