"""The load of the activity aggregate updater: events with 2 to 5 contents.

There are 2,000 learners and 5 courses of 4 units with 5 contents each.
"""

import asyncio
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice

from benchmarks.load import JOB_SEED, LATENCY_SEED, PLAIN_SEEDS, WARM_UP_SEED, Entry, Event, Load, PlainDriver
from benchmarks.rows import open_cassandra, write_rows
from common.domain import topics
from common.domain.aggregates import COMPLETED_COUNT
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_datetime
from common.metrics import Metrics
from common.servers.cassandra import Write
from jobs.activity_aggregate_updater import rules
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.progress import EnrolmentChange, EnrolmentRow
from jobs.activity_aggregate_updater.relations import Relations, units_of
from jobs.activity_aggregate_updater.rules import (
    Content,
    ContentCounts,
    Decision,
    Settings,
    Stored,
)
from jobs.activity_aggregate_updater.store import Store
from local import generator
from local.generator import Course
from local.world import World

COURSES = {course.course_id: course for course in (generator.course(number) for number in range(5))}
SEEDS = (JOB_SEED, LATENCY_SEED, WARM_UP_SEED, *PLAIN_SEEDS)
"""The seeds of all measurements."""

_FIRST_TIME_MS = 1_715_657_560_000


@dataclass(slots=True)
class _Row:
    """The stored state of one enrolment. Needed while recording, because reads return no rows then."""

    contents: dict[str, Content] = field(default_factory=dict)
    enrolment: EnrolmentRow = field(default_factory=lambda: EnrolmentRow(True, 0, None, None, None))

    def apply(self, decision: Decision) -> None:
        for write in decision.learner:
            if isinstance(write, ContentCounts):
                self.contents[write.content_id] = write.applied_to(Content(write.content_id))
            else:
                self.enrolment = self._changed(write)

    def _changed(self, change: EnrolmentChange) -> EnrolmentRow:
        content_status = {**(self.enrolment.content_status or {}), **change.content_status}
        return EnrolmentRow(True, change.status, change.completed_on_ms, content_status, change.progress)


class ActivityLoad(Load):
    """In each event a random learner completes the next contents of a random course, in course order.

    The events end when all learners have completed all courses: after some 61,000 events for 2,000 users.
    """

    module = "jobs.activity_aggregate_updater"
    input_topic = topics.BATCH_JOB_REQUEST
    output_topic = topics.TELEMETRY_RAW
    messages_per_event = 7
    """About two per content. :meth:`events_done` uses the exact numbers."""

    def __init__(self, users: int = 2_000, seeds: Sequence[int] = SEEDS) -> None:
        """``users`` is the number of learners per seed. Those of ``seeds`` are enrolled in advance."""
        self._users = users
        self._seeds = seeds
        contents_left = dict[EnrolmentKey, int]()
        messages_per_event = []
        for event in self._completions(JOB_SEED):
            left = contents_left.get(event.enrolment, len(COURSES[event.enrolment.course_id].contents))
            contents_left[event.enrolment] = left - len(event.content_ids)
            # One for the start and one for the completion of each content, and one for the completion of the course.
            messages_per_event.append(2 * len(event.content_ids) + (contents_left[event.enrolment] == 0))
        self._cumulative_messages = list(accumulate(messages_per_event))

    def events_done(self, messages: int) -> int:
        """Derived from the number of AUDIT events, as if they were sent in the order of the events that caused them."""
        return bisect_right(self._cumulative_messages, messages)

    def prepare(self, world: World) -> None:
        """Fills the relation cache and enrols all learners in all courses."""
        world.publish_relations(*COURSES.values())
        asyncio.run(self._enrol_all(world))

    def events(self, seed: int) -> Iterator[Event]:
        """Completions with increasing times."""
        completed: Counter[EnrolmentKey] = Counter()
        for event in self._completions(seed):
            user_id, course_id, _ = event.enrolment
            completed[event.enrolment] += len(event.content_ids)
            completion = generator.completion(COURSES[course_id], user_id, event.content_ids, event.time_ms)
            entry = Entry(event.enrolment, COMPLETED_COUNT, completed[event.enrolment])
            yield Event(generator.encode(completion), entry)

    async def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """Records the reads of all enrolments and the writes of all decisions, in the same stages as in the job."""
        store = Store(driver, "sunbird_courses", Metrics())
        await store.prepare()
        settings = Settings(audit_topic="", certificate_topic="")
        rows: dict[EnrolmentKey, _Row] = {}
        completions = self._completions(seed)
        while True:
            driver.record()
            events_by_enrolment: dict[EnrolmentKey, list[ContentsCompleted]] = {}
            for event in islice(completions, batch_size):
                events_by_enrolment.setdefault(event.enrolment, []).append(event)
            stored_enrolments = await store.read(list(events_by_enrolment))
            decisions = {}
            for enrolment, events in events_by_enrolment.items():
                row = rows.setdefault(enrolment, _Row())
                stored = Stored(list(row.contents.values()), row.enrolment, stored_enrolments[enrolment].is_known)
                contents = rules.contents_to_locate(stored, events, settings)
                relations = _relations(COURSES[enrolment.course_id], contents)
                decisions[enrolment] = rules.decide(enrolment, events, stored, relations, settings)
                row.apply(decisions[enrolment])
            await store.write(decisions, to_datetime(_FIRST_TIME_MS))
            yield

    def _completions(self, seed: int) -> Iterator[ContentsCompleted]:
        source = random.Random(seed)
        left = [
            (
                EnrolmentKey(_user_id(seed, user), course.course_id, course.batch_id),
                list(course.contents),
            )
            for user in range(self._users)
            for course in COURSES.values()
        ]
        time_ms = _FIRST_TIME_MS
        while left:
            time_ms += 1
            index = source.randrange(len(left))
            enrolment, contents = left[index]
            count = source.randint(2, 5)
            yield ContentsCompleted(enrolment, tuple(contents[:count]), time_ms)
            del contents[:count]
            if not contents:
                left[index] = left[-1]
                left.pop()

    async def _enrol_all(self, world: World) -> None:
        async with open_cassandra(world) as cassandra:
            enrol = await cassandra.prepare(
                "INSERT INTO sunbird_courses.user_enrolments (userid, courseid, batchid, active, status) "
                "VALUES (?, ?, ?, true, 0)"
            )
            await write_rows(
                cassandra,
                (
                    [
                        Write(enrol, (_user_id(seed, user), course.course_id, course.batch_id))
                        for course in COURSES.values()
                    ]
                    for seed in self._seeds
                    for user in range(self._users)
                ),
            )


def _relations(course: Course, content_ids: Collection[str]) -> Relations:
    ancestors = {
        content_id: {course.course_id, *(unit for unit, contents in course.units if content_id in contents)}
        for content_id in content_ids
    }
    units = {unit: frozenset(contents) for unit, contents in course.units}
    return Relations(
        frozenset(course.contents), ancestors, {unit: units[unit] for unit in units_of(course.course_id, ancestors)}
    )


def _user_id(seed: int, number: int) -> str:
    # Nobody of the assessment load: who completes a course and passes its quiz is asked for at the user API, which
    # knows only the users of the certificate load.
    return f"learner-{seed}-{number}"
