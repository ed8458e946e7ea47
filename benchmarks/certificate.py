"""The load of the certificate pre-processor: 5,000 learners in 4 courses with 4 quizzes, and a slow user read API."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from itertools import count, islice, product
from typing import Any

import msgspec
import psutil

from benchmarks.http_services import HttpServices
from benchmarks.load import Event, Load, PlainDriver
from benchmarks.rows import aggregates, open_cassandra, write_rows
from common.domain import messages, redis_databases, topics
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_datetime
from common.servers.cassandra import Cassandra, Write
from jobs.collection_cert_pre_processor.answers import USER_FIELDS
from jobs.collection_cert_pre_processor.store import Store
from local import generator
from local.generator import Course
from local.world import World

USERS = [f"user-{number}" for number in range(5_000)]
COURSES = [generator.course(number, units=4, contents_per_unit=5) for number in range(4)]
LEARNERS = list(product(USERS, COURSES))

_FIRST_TIME_MS = 1_715_657_560_000


class CertificateLoad(Load):
    """Each event requests a certificate for a learner who has completed a course with 80 percent, and so gets it.

    From the second batch on, all caches except the users' are warm. All seeds have the same learners: the job writes no
    rows, so one run cannot affect another.
    """

    module = "jobs.collection_cert_pre_processor"
    input_topic = topics.ISSUE_CERTIFICATE_REQUEST
    output_topic = topics.GENERATE_CERTIFICATE_REQUEST
    messages_per_event = 1

    def __init__(self, delay_ms: int = 5, connections: int | None = None) -> None:
        """``delay_ms`` is the response time of the user read API.

        ``connections`` is the job's ``http.max_connections``; None for the default.
        """
        self._delay_ms = delay_ms
        self._connections = connections

    @property
    def environment(self) -> Mapping[str, str]:
        """The addresses of the HTTP services, and the job's connections. Only valid after :meth:`prepare`."""
        url = self._services.base_url
        environment = {"AGGREGATES__LEARNER_BASE_URL": url, "AGGREGATES__CONTENT_BASE_URL": url}
        if self._connections is not None:
            environment["AGGREGATES__HTTP__MAX_CONNECTIONS"] = str(self._connections)
        return environment

    @property
    def processes(self) -> Mapping[str, Callable[[], Sequence[psutil.Process]]]:
        """The process of the HTTP services. Only valid after :meth:`prepare`."""
        return {self._services.name: lambda: [psutil.Process(self._services.pid)]}

    def prepare(self, world: World) -> None:
        """Fills tables and caches and starts the HTTP services."""
        self._services = HttpServices(world)
        asyncio.run(_write_rows(world))
        with (
            world.redis.client(db=redis_databases.COLLECTIONS) as collections,
            world.redis.client(db=redis_databases.CONTENTS) as contents,
        ):
            for course in COURSES:
                collections.set(course.course_id, msgspec.json.encode({"name": f"Course {course.course_id}"}))
                for content_id in course.contents:
                    is_quiz = content_id in course.quizzes
                    document = {"contentType": "SelfAssess" if is_quiz else "Resource", "name": content_id}
                    contents.set(content_id, msgspec.json.encode(document))
        self._services.start()
        self._services.put("users", {user_id: _user(user_id) for user_id in USERS})
        self._services.put("switches", {"user": {"delay_ms": self._delay_ms}})

    def close(self) -> None:
        """Stops the HTTP services."""
        self._services.stop()

    def events(self, seed: int) -> Iterator[Event]:
        """Requests for all learners and courses in random order, again and again. No two have the same time."""
        source = random.Random(seed)
        numbers = count()
        while True:
            for user_id, course in source.sample(LEARNERS, len(LEARNERS)):
                request = messages.certificate_request(
                    "",
                    "benchmark",
                    user_id=user_id,
                    course_id=course.course_id,
                    batch_id=course.batch_id,
                    time_ms=_FIRST_TIME_MS + next(numbers),
                )
                yield Event(request.value)

    async def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """Records the reads of enrolments and aggregates, and the requests to the user read API, as in the job."""
        store = Store(driver, "sunbird_courses")
        await store.prepare()
        events = self.events(seed)
        while True:
            driver.record()
            keys = [_enrolment(event.value) for event in islice(events, batch_size)]
            await store.enrolments_and_aggregates(dict.fromkeys(keys, False), dict.fromkeys(keys))
            users = dict.fromkeys(key.user_id for key in keys)
            url = f"{self._services.base_url}/private/user/v1/read/"
            await driver.get_all([url + user_id + USER_FIELDS for user_id in users])
            yield


def _enrolment(value: bytes) -> EnrolmentKey:
    edata = msgspec.json.decode(value)["edata"]
    return EnrolmentKey(edata["userIds"][0], edata["courseId"], edata["batchId"])


def _user(user_id: str) -> dict[str, Any]:
    """A response of the user read API, of a realistic size."""
    organisation = {"organisationId": "0126684405014528002", "orgName": "Sunbird School", "isDeleted": False}
    location = {"code": "29", "parentId": None}
    return {
        "firstName": "Asha",
        "lastName": f"Rao {user_id}",
        "userName": f"asha_{user_id}",
        "rootOrgId": "0126684405014528002",
        "channel": "sunbird",
        "status": 1,
        "email": "as***@example.org",
        "phone": "******7890",
        "framework": {"board": ["State"], "medium": ["English"], "gradeLevel": ["Class 8", "Class 9"]},
        "organisations": [{**organisation, "userId": user_id, "id": f"{user_id}-{number}"} for number in range(2)],
        "roles": [{"role": role, "userId": user_id, "scope": []} for role in ("PUBLIC", "CONTENT_CREATOR")],
        "userLocations": [{**location, "type": kind, "name": kind} for kind in ("state", "district", "block")],
        "externalIds": [],
        "declarations": [],
    }


async def _write_rows(world: World) -> None:
    async with open_cassandra(world) as cassandra:
        await write_rows(cassandra, await _writes(cassandra))


async def _writes(cassandra: Cassandra) -> list[Sequence[Write]]:
    batch = await cassandra.prepare(
        "INSERT INTO sunbird_courses.course_batch (courseid, batchid, cert_templates) VALUES (?, ?, ?)"
    )
    enrolment = await cassandra.prepare(
        "INSERT INTO sunbird_courses.user_enrolments (userid, courseid, batchid, active, status, completedon, "
        "progress, contentstatus) VALUES (?, ?, ?, true, 2, ?, ?, ?)"
    )
    add_aggregates = await cassandra.prepare(
        "INSERT INTO sunbird_courses.user_activity_agg (activity_type, activity_id, user_id, context_id, aggregates) "
        "VALUES (?, ?, ?, ?, ?)"
    )
    completed_on = to_datetime(_FIRST_TIME_MS)
    writes = [
        Write(batch, (course.course_id, course.batch_id, generator.certificate_templates(75))) for course in COURSES
    ]
    for user_id, course in LEARNERS:
        progress = (completed_on, len(course.contents), dict.fromkeys(course.contents, 2))
        row = (ACTIVITY_TYPE, course.course_id, user_id, context_id(course.batch_id), _aggregates(course))
        writes.append(Write(enrolment, (user_id, course.course_id, course.batch_id, *progress)))
        writes.append(Write(add_aggregates, row))
    return [[write] for write in writes]


def _aggregates(course: Course) -> dict[str, float]:
    """80 percent in the first quiz, less in each of the others."""
    return aggregates(len(course.contents), {quiz: 8.0 - number for number, quiz in enumerate(course.quizzes)})
