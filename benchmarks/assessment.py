"""The load of the assessment aggregator: attempts at 10 questions, 11 KB each.

There are 2,000 users and 5 courses with 20 contents each.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC
from itertools import islice
from typing import Any

from benchmarks.load import JOB_SEED, PLAIN_SEEDS, Entry, Event, Load, PlainDriver
from benchmarks.rows import open_cassandra
from common.domain import topics
from common.domain.aggregates import ATTEMPTS_COUNT, metric_key
from common.domain.attempts import AssessmentEvent, decode
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_datetime
from jobs.assessment_aggregator import rules
from jobs.assessment_aggregator.many_attempts import LargeEnrolments, unread_attempts
from jobs.assessment_aggregator.rules import Attempt, AttemptKey, AttemptRow, Settings, attempt_key
from jobs.assessment_aggregator.store import Store
from local import generator
from local.generator import Course
from local.world import World

COURSES = [generator.course(number, units=4, contents_per_unit=5) for number in range(5)]

_FIRST_TIME_MS = 1_715_657_560_000
_MEASURED_SEEDS = (JOB_SEED, *PLAIN_SEEDS)
_OTHER_SEED = 9
_ENROLMENTS_AT_A_TIME = 100
_SETTINGS = Settings(certificate_topic="", time_zone=UTC)


class AssessmentLoad(Load):
    """Each event is a new attempt of a random user at a random content of a random course."""

    module = "jobs.assessment_aggregator"
    input_topic = topics.ASSESS
    output_topic = topics.ISSUE_CERTIFICATE_REQUEST
    messages_per_event = 1

    def __init__(
        self, users: int = 2_000, attempts_before: int = 0, other_attempts: int = 0, added_bytes: int = 0
    ) -> None:
        """Each enrolment starts with ``attempts_before`` attempts. Other users have ``other_attempts`` in all.

        Each event is ``added_bytes`` larger than usual, by a long description that compresses to almost nothing.
        ``users`` is the number of users per seed. The learners whose latency is measured start without attempts.
        """
        self._users = users
        self._attempts_before = attempts_before
        self._stored: dict[int, dict[EnrolmentKey, list[Attempt]]] = {}
        """What the tables hold for each seed before it begins."""
        self._other_users = other_attempts // len(COURSES)
        self._added_bytes = added_bytes

    def prepare(self, world: World) -> None:
        """Fills the relation cache and the table of attempts."""
        world.publish_relations(*COURSES)
        asyncio.run(self._fill(world))

    async def _fill(self, world: World) -> None:
        async with open_cassandra(world) as cassandra:
            store = Store(cassandra, "sunbird_courses")
            await store.prepare()
            for seed in _MEASURED_SEEDS:
                self._stored[seed] = await _write_attempts(store, seed, range(self._users), self._attempts_before)
            await _write_attempts(store, _OTHER_SEED, range(self._other_users), 1)

    def events(self, seed: int) -> Iterator[Event]:
        """Attempts with increasing times. They never end."""
        source = random.Random(seed)
        number = 0
        attempts: Counter[tuple[EnrolmentKey, str]] = Counter()
        while True:
            number += 1
            course = source.choice(COURSES)
            user_id = _user_id(seed, source.randrange(self._users))
            attempt = _attempt(source, course, user_id, number)
            if self._added_bytes:
                attempt["events"][0]["edata"]["item"]["desc"] = source.randbytes(50).hex() * (self._added_bytes // 100)
            enrolment, content_id = EnrolmentKey(user_id, course.course_id, course.batch_id), attempt["contentId"]
            attempts[enrolment, content_id] += 1
            entry = Entry(enrolment, metric_key(ATTEMPTS_COUNT, content_id), attempts[enrolment, content_id])
            yield Event(generator.encode(attempt), entry)

    async def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """Records the reads per enrolment, then the writes of the attempts, then of the aggregates, as in the job."""
        store = Store(driver, "sunbird_courses")
        await store.prepare()
        stored = {enrolment: list(attempts) for enrolment, attempts in self._stored.get(seed, {}).items()}
        large = LargeEnrolments()
        events = self.events(seed)
        while True:
            driver.record()
            events_by_enrolment: dict[EnrolmentKey, list[AssessmentEvent]] = {}
            for event in islice(events, batch_size):
                decoded = decode(event.value, 0)
                events_by_enrolment.setdefault(decoded.enrolment, []).append(decoded)
            in_part: dict[EnrolmentKey, set[AttemptKey]] = {}
            decisions = {}
            for enrolment, of_enrolment in events_by_enrolment.items():
                attempts = stored.setdefault(enrolment, [])
                unread = None
                if enrolment in large:
                    keys = in_part[enrolment] = rules.submitted_keys(of_enrolment)
                    row = rules.decide(attempts, [_recompute(enrolment)], (), _SETTINGS, _FIRST_TIME_MS).aggregates
                    assert row is not None
                    unread = unread_attempts(row.aggregates, row.agg_details, keys)
                    attempts = [attempt for attempt in attempts if attempt_key(attempt) in keys]
                else:
                    large.note(enrolment, attempts)
                decisions[enrolment] = rules.decide(attempts, of_enrolment, (), _SETTINGS, _FIRST_TIME_MS, unread)
            await store.in_part(in_part)
            await store.attempts([enrolment for enrolment in events_by_enrolment if enrolment not in in_part])
            await store.write_attempts({enrolment: decision.attempts for enrolment, decision in decisions.items()})
            await store.write_aggregates(
                {enrolment: decision.aggregates for enrolment, decision in decisions.items() if decision.aggregates},
                to_datetime(_FIRST_TIME_MS),
            )
            for enrolment, decision in decisions.items():
                stored[enrolment].extend(map(_without_questions, decision.attempts))
            yield


def _user_id(seed: int, number: int) -> str:
    return f"user-{seed}-{number}"


def _attempt(source: random.Random, course: Course, user_id: str, number: int) -> dict[str, Any]:
    scores = generator.random_scores(source)
    return generator.attempt(course, user_id, source.choice(course.contents), number, scores, _FIRST_TIME_MS + number)


def _recompute(enrolment: EnrolmentKey) -> AssessmentEvent:
    return AssessmentEvent(enrolment, "", _FIRST_TIME_MS, None)


def _without_questions(row: AttemptRow) -> Attempt:
    return Attempt(*(getattr(row, name) for name in Attempt.__struct_fields__))


async def _write_attempts(
    store: Store, seed: int, users: Iterable[int], attempts: int
) -> dict[EnrolmentKey, list[Attempt]]:
    """Writes and returns ``attempts`` attempts per course for each user, earlier than those of the measured events."""
    source = random.Random(seed)
    written: dict[EnrolmentKey, list[Attempt]] = {}
    enrolments = ((_user_id(seed, user), course) for user in users for course in COURSES if attempts)
    while chunk := list(islice(enrolments, _ENROLMENTS_AT_A_TIME)):
        rows = {}
        for user_id, course in chunk:
            events = [
                decode(generator.encode(_attempt(source, course, user_id, -number)), 0)
                for number in range(attempts, 0, -1)
            ]
            rows[events[0].enrolment] = rules.decide((), events, (), _SETTINGS, _FIRST_TIME_MS).attempts
        await store.write_attempts(rows)
        written |= {enrolment: list(map(_without_questions, of_enrolment)) for enrolment, of_enrolment in rows.items()}
    return written
