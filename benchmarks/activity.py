"""The activity aggregate updater: 2 to 5 contents an event, 2,000 learners x 5 courses of 4 units x 5 contents."""

import asyncio
import random
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass, field
from itertools import accumulate, islice

from benchmarks.load import Event, Load, PlainDriver
from benchmarks.rows import open_cassandra, write_rows
from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_datetime
from common.metrics import Metrics
from common.servers.cassandra import Write
from jobs.activity_aggregate_updater import rules
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.relations import Relations, units_of
from jobs.activity_aggregate_updater.rules import (
    Content,
    ContentCounts,
    Decision,
    EnrolmentChange,
    EnrolmentRow,
    Settings,
    Stored,
)
from jobs.activity_aggregate_updater.store import Store
from local import generator
from local.generator import Course
from local.world import World

COURSES = {course.course_id: course for course in (generator.course(number) for number in range(5))}
SEEDS = (1, 2, 3, 4)
"""Of all measurements: their learners are enrolled."""

_FIRST_TIME_MS = 1_715_657_560_000
_QUERY = (
    "SELECT completedcount FROM sunbird_courses.user_content_consumption "
    "WHERE userid = ? AND courseid = ? AND batchid = ? AND contentid = ?"
)


@dataclass(slots=True)
class _Row:
    """What is stored of one enrolment while statements are recorded, because reads return nothing then."""

    contents: dict[str, Content] = field(default_factory=dict)
    enrolment: EnrolmentRow = field(default_factory=lambda: EnrolmentRow(True, 0, None, None))

    def apply(self, decision: Decision) -> None:
        for write in decision.learner:
            if isinstance(write, ContentCounts):
                self.contents[write.content_id] = write.applied_to(Content(write.content_id))
            else:
                self.enrolment = self._changed(write)

    def _changed(self, change: EnrolmentChange) -> EnrolmentRow:
        content_status = {**(self.enrolment.content_status or {}), **change.content_status}
        return EnrolmentRow(True, change.status, change.completed_on_ms, content_status)


class ActivityLoad(Load):
    """Every event completes the next contents of a random learner in a random course, in the order of the course.

    There are no more events when all learners have completed all courses: 2,000 users have some 61,000.
    """

    module = "jobs.activity_aggregate_updater"
    input_topic = topics.BATCH_JOB_REQUEST
    output_topic = topics.TELEMETRY_RAW
    messages_per_event = 7
    """Two for each content; :meth:`events_done` is exact."""

    def __init__(self, users: int = 2_000) -> None:
        """Works out how many messages the events of the first seed send."""
        self._users = users
        contents_left = dict[EnrolmentKey, int]()
        messages = []
        for event in self._completions(SEEDS[0]):
            left = contents_left.get(event.enrolment, len(COURSES[event.enrolment.course_id].contents))
            contents_left[event.enrolment] = left - len(event.content_ids)
            # Start and complete of each content, and one for the course.
            messages.append(2 * len(event.content_ids) + (contents_left[event.enrolment] == 0))
        self._messages = list(accumulate(messages))

    def events_done(self, messages: int) -> int:
        """By the number of AUDIT events, as if they were sent in the order of their causes."""
        return bisect_right(self._messages, messages)

    def prepare(self, world: World) -> None:
        """Fills the relation cache and enrols all learners in all courses."""
        world.publish_relations(*COURSES.values())
        asyncio.run(self._enrol_all(world))

    def events(self, seed: int) -> Iterator[Event]:
        """Completions with ever later times."""
        for event in self._completions(seed):
            user_id, course_id, _ = event.enrolment
            completion = generator.completion(COURSES[course_id], user_id, event.content_ids, event.time_ms)
            yield Event(generator.encode(completion), _QUERY, (*event.enrolment, event.content_ids[-1]))

    async def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """The reads of all enrolments, then the stages of all decisions, as the job does it."""
        store = Store(driver, "sunbird_courses", Metrics())
        await store.prepare()
        settings = Settings(audit_topic="", certificate_topic="")
        rows: dict[EnrolmentKey, _Row] = {}
        completions = self._completions(seed)
        while True:
            driver.record()
            of_each: dict[EnrolmentKey, list[ContentsCompleted]] = {}
            for event in islice(completions, batch_size):
                of_each.setdefault(event.enrolment, []).append(event)
            read = await store.read(list(of_each))
            decisions = {}
            for enrolment, of_one in of_each.items():
                row = rows.setdefault(enrolment, _Row())
                stored = Stored(list(row.contents.values()), row.enrolment, read[enrolment].is_known)
                contents = rules.contents_to_locate(stored, of_one, settings)
                relations = _relations(COURSES[enrolment.course_id], contents)
                decisions[enrolment] = rules.decide(enrolment, of_one, stored, relations, settings)
                row.apply(decisions[enrolment])
            await store.write(decisions, to_datetime(_FIRST_TIME_MS))
            yield

    def _completions(self, seed: int) -> Iterator[ContentsCompleted]:
        source = random.Random(seed)
        left = [
            (
                EnrolmentKey(f"user-{seed}-{user}", course.course_id, course.batch_id),
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
                        Write(enrol, (f"user-{seed}-{user}", course.course_id, course.batch_id))
                        for course in COURSES.values()
                    ]
                    for seed in SEEDS
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
