"""The read APIs with four times the requests that one process can take.

Requests come at an even rate, whatever becomes of them. First at half the rate that the process can take, then at all
of it, then at four times as much. Content state with scores, 50 contents.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import aiohttp

from benchmarks.measure import percentile
from benchmarks.reader_apis import SERVERS, Api, apis, choose, closed_loop, prepare, running, writes
from benchmarks.rows import cassandra_config, open_cassandra, write_rows
from local.generator import Course
from local.readers import Readers
from local.world import World
from services.envelope import USER_TOKEN
from services.store import Store

__all__ = ["SERVERS", "run"]

CONTENTS = 50
SECONDS = 10.0
HEALTH = ("/health/live", "/health/ready")
HEALTH_SECONDS = 0.1
TIMES = (0.5, 1.0, 4.0)


@dataclass(slots=True)
class _Answers:
    """Seconds from the moment when each request was sent to its answer."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    late: list[float] = field(default_factory=list)
    """Seconds by which requests were sent later than they were due: the load generator's own fault."""
    health: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in HEALTH})
    unhealthy: int = 0
    """Answers of a health check other than 200."""


def run(world: World) -> None:
    """Prints the figures."""
    with running(world) as (services, readers):
        course, users = prepare(services, 0, CONTENTS)
        asyncio.run(_measure(world, readers, course, users))


async def _measure(world: World, readers: Readers, course: Course, users: list[str]) -> None:
    async with open_cassandra(world) as cassandra:
        await write_rows(cassandra, await writes(cassandra, course, users))
        store = Store(cassandra, cassandra_config(world).keyspace)
        await store.prepare()
        api = apis(store, course, users)[0]
    tokens = {user_id: readers.token(user_id) for user_id in users}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(user_id: str) -> None:
            headers = {USER_TOKEN: tokens[user_id]}
            async with session.post(readers.url + api.path, data=api.bodies[user_id], headers=headers) as response:
                await response.read()

        await closed_loop(ask, users, SECONDS / 2)
        started = time.perf_counter()
        capacity = await closed_loop(ask, users, SECONDS) / (time.perf_counter() - started)
        print(f"  {api.name}, {CONTENTS} contents: the process takes {capacity:.0f} requests/s")
        base: _Answers | None = None
        for times in TIMES:
            answers = await _load(session, readers, api, tokens, users, times * capacity)
            _print(times, capacity, answers, base)
            base = answers if times == 1 else base


async def _load(
    session: aiohttp.ClientSession, readers: Readers, api: Api, tokens: dict[str, str], users: list[str], rate: float
) -> _Answers:
    answers = _Answers()

    async def ask(user_id: str, due: float) -> None:
        sent = time.perf_counter()
        answers.late.append(sent - due)
        headers = {USER_TOKEN: tokens[user_id]}
        async with session.post(readers.url + api.path, data=api.bodies[user_id], headers=headers) as response:
            await response.read()
            seconds = time.perf_counter() - sent
            if response.status == 503:
                answers.refused.append(seconds)
                answers.without_retry_after += "Retry-After" not in response.headers
            elif response.status == 200:
                answers.accepted.append(seconds)
            else:
                raise RuntimeError(f"{api.path} answers {response.status}")

    async def watch_health() -> None:
        while True:
            for path in HEALTH:
                sent = time.perf_counter()
                async with session.get(f"{readers.internal_url}{path}") as response:
                    await response.read()
                    answers.unhealthy += response.status != 200
                answers.health[path].append(time.perf_counter() - sent)
            await asyncio.sleep(HEALTH_SECONDS)

    watching = asyncio.create_task(watch_health())
    started = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for number, user_id in enumerate(itertools.islice(choose(users), int(rate * SECONDS))):
            due = started + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            tasks.create_task(ask(user_id, due))
    if watching.done():
        await watching
    watching.cancel()
    return answers


def _print(times: float, capacity: float, answers: _Answers, base: _Answers | None) -> None:
    accepted = len(answers.accepted) / SECONDS
    print(f"    {times:g} times that: {accepted:.0f}/s accepted, {len(answers.refused) / SECONDS:.0f}/s refused")
    print(f"      accepted {_times(answers.accepted)}   refused {_times(answers.refused)}")
    for path, seconds in answers.health.items():
        print(f"      {path} {_times(seconds)}")
    print(f"      answers of health other than 200: {answers.unhealthy}   sent too late {_times(answers.late)}")
    if answers.without_retry_after:
        raise RuntimeError(f"{answers.without_retry_after} answers 503 have no Retry-After")
    if base is not None:
        ratios = [percentile(answers.accepted, p) / percentile(base.accepted, p) for p in (50, 99)]
        print(
            f"      ratios to 1 time: accepted requests {accepted / (len(base.accepted) / SECONDS):.2f}   "
            f"p50 {ratios[0]:.2f}   p99 {ratios[1]:.2f}",
            flush=True,
        )


def _times(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "-"
    return "   ".join(f"p{percent} {percentile(seconds, percent) * 1000:.1f} ms" for percent in (50, 99))
