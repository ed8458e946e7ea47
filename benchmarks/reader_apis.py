"""The read APIs: requests/s with every connection busy, p99 at half of that, for courses of 1, 50 and 200 contents."""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec
import psutil

from benchmarks.http_services import HttpServices
from benchmarks.measure import SteadyState, percentile, sample, steady_state
from benchmarks.rows import aggregates, cassandra_config, open_cassandra, write_rows
from common.domain.aggregates import ACTIVITY_TYPE, context_id
from common.domain.events import to_datetime
from common.servers.cassandra import Cassandra, Write
from local import generator
from local.generator import Course
from local.readers import Readers
from local.world import CASSANDRA, ENVIRONMENT, KAFKA, REDIS, World
from services.content_state import ContentStateQuery
from services.envelope import USER_TOKEN
from services.store import Store

SERVERS = frozenset({CASSANDRA, KAFKA, REDIS})
CONTENTS = (1, 50, 200)
"""Of a course; every learner has attempted and completed all of them."""
LEARNERS = 200
GROUP_SIZE = 20
CONNECTIONS = 16
WARM_UP_SECONDS = 4.0
SECONDS = 6.0

_FIRST_TIME_MS = 1_715_657_560_000


@dataclass(frozen=True, slots=True)
class Api:
    """One route with the request of each user, and the same reads without HTTP, tokens and JSON."""

    name: str
    path: str
    bodies: Mapping[str, bytes]
    read: Callable[[str], Awaitable[object]]


def run(world: World) -> None:
    """Prints the figures of each API and size."""
    with running(world) as (services, readers):
        for number, contents in enumerate(CONTENTS):
            course, users = prepare(services, number, contents)
            asyncio.run(_measure(world, readers, course, users))


@contextmanager
def running(world: World) -> Iterator[tuple[HttpServices, Readers]]:
    """The APIs and the group service, each a process of its own."""
    services = HttpServices(world)
    services.start()
    readers = Readers(world.config, world, services.base_url, ENVIRONMENT)
    try:
        readers.start()
        yield services, readers
    finally:
        readers.stop()
        services.stop()


def prepare(services: HttpServices, number: int, contents: int) -> tuple[Course, list[str]]:
    """A course with so many contents and its learners, who are in groups."""
    course = generator.course(number, units=1, contents_per_unit=contents)
    users = [f"user-{contents}-{learner}" for learner in range(LEARNERS)]
    groups = [users[start : start + GROUP_SIZE] for start in range(0, LEARNERS, GROUP_SIZE)]
    members = [[{"userId": user_id, "name": user_id, "role": "member"} for user_id in group] for group in groups]
    services.put("groups", {group[0]: of_group for group, of_group in zip(groups, members, strict=True)})
    return course, users


async def _measure(world: World, readers: Readers, course: Course, users: list[str]) -> None:
    processes = {
        "APIs": lambda: [psutil.Process(readers.pid)],
        "Cassandra": lambda: [psutil.Process(world.cassandra.pid)],
    }
    tokens = {user_id: readers.token(user_id) for user_id in users}
    async with (
        open_cassandra(world) as cassandra,
        aiohttp.ClientSession(readers.url, connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        await write_rows(cassandra, await writes(cassandra, course, users))
        store = Store(cassandra, cassandra_config(world).keyspace)
        await store.prepare()
        for api in apis(store, course, users):
            refused = 0

            async def ask(user_id: str, api: Api = api) -> None:
                nonlocal refused
                headers = {USER_TOKEN: tokens[user_id]}
                while True:
                    async with session.post(api.path, data=api.bodies[user_id], headers=headers) as response:
                        body = await response.read()
                    if response.status == 200:
                        return
                    if response.status != 503:
                        raise RuntimeError(f"{api.path} answers {response.status}: {body.decode()}")
                    refused += 1
                    # Sooner, the refusals would keep the process busy.
                    await asyncio.sleep(float(response.headers["Retry-After"]))

            print(f"  {api.name}, {len(course.contents)} contents")
            await closed_loop(ask, users, WARM_UP_SECONDS)
            before = sample(processes, 0)
            refused = 0
            done = await closed_loop(ask, users, SECONDS)
            steady = steady_state([before, sample(processes, done)], 0)
            _print(steady, refused)
            refused = 0
            latencies = await open_loop(ask, users, steady.rate / 2, SECONDS)
            at_half = "   ".join(f"p{percent} {percentile(latencies, percent) * 1000:.1f} ms" for percent in (50, 99))
            print(f"    at {steady.rate / 2:.0f} requests/s: {at_half}   refused and asked again {refused}")
            started = time.perf_counter()
            reads = await closed_loop(api.read, users, SECONDS)
            rate = reads / (time.perf_counter() - started)
            print(f"    the same reads without the API: {rate:.0f}/s   ratio {steady.rate / rate:.2f}", flush=True)


def _print(steady: SteadyState, refused: int) -> None:
    cpu = "   ".join(f"{group} {cpu_ms:.2f}" for group, cpu_ms in steady.cpu_ms.items())
    memory = steady.peak_memory["APIs"] / 2**20
    print(f"    {steady.rate:.0f} requests/s   CPU-ms per request: {cpu}   memory of the APIs {memory:.0f} MiB")
    print(f"    refused and asked again {refused}")


async def closed_loop(ask: Callable[[str], Awaitable[object]], users: list[str], seconds: float) -> int:
    """The next request as soon as one is answered, on every connection; how many were answered."""
    end = time.perf_counter() + seconds
    chosen = choose(users)
    done = 0

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask(next(chosen))
            done += 1

    await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    return done


async def open_loop(
    ask: Callable[[str], Awaitable[object]], users: list[str], rate: float, seconds: float
) -> list[float]:
    """Requests at an even rate however fast the answers come; seconds from the moment each was due to its answer."""
    latencies: list[float] = []

    async def work(user_id: str, due: float) -> None:
        await ask(user_id)
        latencies.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as tasks:
        async for user_id, due in at_even_rate(users, rate, seconds):
            tasks.create_task(work(user_id, due))
    return latencies


async def at_even_rate(users: list[str], rate: float, seconds: float) -> AsyncIterator[tuple[str, float]]:
    """A user for each of ``rate`` requests per second, with the time at which the request is due, and not before it.

    The time is that of ``time.perf_counter``.
    """
    started = time.perf_counter()
    for number, user_id in enumerate(itertools.islice(choose(users), int(rate * seconds))):
        due = started + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        yield user_id, due


def choose(users: list[str]) -> Iterator[str]:
    """One learner after the other, without end, the same for the same list."""
    source = random.Random(1)
    while True:
        yield source.choice(users)


def apis(store: Store, course: Course, users: list[str]) -> list[Api]:
    """The routes that are measured; the first one is content state."""
    group_of = {user_id: users[place - place % GROUP_SIZE] for place, user_id in enumerate(users)}
    members = {group: [user_id for user_id in users if group_of[user_id] == group] for group in set(group_of.values())}
    states = {
        "courseId": course.course_id,
        "batchId": course.batch_id,
        "contentIds": course.contents,
        "fields": ["score"],
    }
    scores = {"collectionId": course.course_id, "contextId": course.batch_id}
    group = {"activityId": course.course_id, "activityType": "Course"}
    contents = frozenset(course.contents)
    return [
        Api(
            "content state with scores",
            "/v1/content/state/read",
            dict.fromkeys(users, _request(states)),
            lambda user_id: store.content_states(
                ContentStateQuery(user_id, course.course_id, course.batch_id, contents, with_score=True)
            ),
        ),
        Api(
            "assess read",
            "/v1/assess/read",
            dict.fromkeys(users, _request(scores)),
            lambda user_id: store.aggregates(user_id, course.course_id, course.batch_id),
        ),
        Api(
            f"group of {GROUP_SIZE} learners",
            "/v1/group/activity/agg",
            {user_id: _request({**group, "groupId": group_of[user_id]}) for user_id in users},
            lambda user_id: store.group(course.course_id, members[group_of[user_id]]),
        ),
    ]


def _request(request: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({"request": request})


async def writes(cassandra: Cassandra, course: Course, users: list[str]) -> list[list[Write]]:
    """What the jobs leave of learners who have done everything, one list per partition."""
    consumption = await cassandra.prepare(
        "INSERT INTO sunbird_courses.user_content_consumption (userid, courseid, batchid, contentid, status, progress, "
        "viewcount, completedcount, last_access_time, last_completed_time) VALUES (?, ?, ?, ?, 2, 100, 1, 1, ?, ?)"
    )
    attempt = await cassandra.prepare(
        "INSERT INTO sunbird_courses.assessment_aggregator (user_id, course_id, batch_id, content_id, attempt_id, "
        "last_attempted_on, total_score, total_max_score) VALUES (?, ?, ?, ?, ?, ?, ?, 10)"
    )
    add_aggregates = await cassandra.prepare(
        "INSERT INTO sunbird_courses.user_activity_agg (activity_type, activity_id, user_id, context_id, aggregates, "
        "agg_last_updated) VALUES (?, ?, ?, ?, ?, ?)"
    )
    at = to_datetime(_FIRST_TIME_MS)
    metrics = aggregates(len(course.contents), dict.fromkeys(course.contents, 7.5))
    partitions = []
    for user_id in users:
        key = (user_id, course.course_id, course.batch_id)
        partitions += [
            [Write(consumption, (*key, content_id, at, at)) for content_id in course.contents],
            [
                Write(attempt, (*key, content_id, generator.attempt_id(user_id, content_id, 1), at, 7.5))
                for content_id in course.contents
            ],
            [
                Write(
                    add_aggregates,
                    (
                        ACTIVITY_TYPE,
                        course.course_id,
                        user_id,
                        context_id(course.batch_id),
                        metrics,
                        dict.fromkeys(metrics, at),
                    ),
                )
            ],
        ]
    return partitions
