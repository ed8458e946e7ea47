"""The assessment aggregator: attempts of 11 KB with 10 questions, 2,000 users x 5 courses x 20 contents."""

import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC
from itertools import islice

from benchmarks.load import Event, Load, PlainDriver
from common.events import to_datetime
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.events import AssessmentEvent, Enrolment, decode
from jobs.assessment_aggregator.rules import Attempt, Settings
from jobs.assessment_aggregator.store import Store
from local import generator
from local.world import World

USERS = 2_000
COURSES = [generator.course(number, units=4, contents_per_unit=5) for number in range(5)]

_FIRST_TIME_MS = 1_715_657_560_000
_QUERY = (
    "SELECT attempt_id FROM sunbird_courses.assessment_aggregator "
    "WHERE user_id = ? AND course_id = ? AND batch_id = ? AND content_id = ? AND attempt_id = ?"
)


class AssessmentLoad(Load):
    """Every event is a new attempt of a random user at a random content of a random course."""

    module = "jobs.assessment_aggregator"
    input_topic = "telemetry.assess"
    output_topic = "issue.certificate.request"
    messages_per_event = 1

    def prepare(self, world: World) -> None:
        """Fills the relation cache."""
        with world.redis.client(db=10) as redis:
            for course in COURSES:
                for key, members in generator.relation_sets(course).items():
                    redis.sadd(key, *members)

    def events(self, seed: int) -> Iterator[Event]:
        """Attempts with ever later times."""
        source = random.Random(seed)
        number = 0
        while True:
            number += 1
            course = source.choice(COURSES)
            user_id = f"user-{seed}-{source.randrange(USERS)}"
            content_id = source.choice(course.contents)
            scores = generator.random_scores(source)
            attempt = generator.attempt(course, user_id, content_id, number, scores, _FIRST_TIME_MS + number)
            yield Event(
                generator.encode(attempt),
                _QUERY,
                (user_id, course.course_id, course.batch_id, content_id, attempt["attemptId"]),
            )

    async def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """One read per enrolment, then the attempts, then the aggregates, as the job does it."""
        store = Store(driver, "sunbird_courses")
        await store.prepare()
        settings = Settings(certificate_topic="", time_zone=UTC)
        stored: dict[Enrolment, list[Attempt]] = {}
        events = self.events(seed)
        while True:
            driver.record()
            of_each: dict[Enrolment, list[AssessmentEvent]] = {}
            for event in islice(events, batch_size):
                decoded = decode(event.value, 0)
                of_each.setdefault(decoded.enrolment, []).append(decoded)
            decisions = {
                enrolment: rules.decide(stored.get(enrolment, ()), of_one, (), settings, _FIRST_TIME_MS)
                for enrolment, of_one in of_each.items()
            }
            await store.attempts(of_each)
            await store.write_attempts({enrolment: decision.attempts for enrolment, decision in decisions.items()})
            await store.write_aggregates(
                {enrolment: decision.aggregates for enrolment, decision in decisions.items() if decision.aggregates},
                to_datetime(_FIRST_TIME_MS),
            )
            for enrolment, decision in decisions.items():
                stored.setdefault(enrolment, []).extend(decision.attempts)
            yield
