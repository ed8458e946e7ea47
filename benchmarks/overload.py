"""The read APIs with four times the requests that one process can take, with Cassandra as it is and with a slow one.

Requests come at an even rate, whatever becomes of them: first at half the rate that the process can take, then at all
of it, then at four times as much. Content state with scores, 50 contents.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from benchmarks.http_load import Answers, Load, http_request, send
from benchmarks.measure import percentile
from benchmarks.reader_apis import SERVERS, apis, choose, prepare, running, writes
from benchmarks.rows import cassandra_config, open_cassandra, write_rows
from local.generator import Course
from local.readers import Readers
from local.world import World
from services.envelope import USER_TOKEN
from services.store import Store

__all__ = ["SERVERS", "run"]

CONTENTS = 50
WARM_UP_SECONDS = 4.0
SECONDS = 10.0
HEALTH = ("/health/live", "/health/ready")
TIMES = (0.5, 1.0, 4.0)
CONNECTIONS = 4
"""They keep the process busy, and are no overload yet."""
SLOW_PERIOD_SECONDS, SLOW_SHARE = 0.02, 0.25
"""A slow Cassandra runs for a quarter of every 20 ms."""


def run(world: World) -> None:
    """Prints the figures."""
    with running(world) as (services, readers):
        course, users = prepare(services, 0, CONTENTS)
        requests = asyncio.run(_prepare(world, readers, course, users))
        _measure(readers, requests, "Cassandra as it is")
        with _slowed(world.cassandra.pid):
            _measure(readers, requests, f"Cassandra at {SLOW_SHARE:.0%} of its speed")


async def _prepare(world: World, readers: Readers, course: Course, users: list[str]) -> list[bytes]:
    """Writes the learners' rows. Returns requests of learners in a random order."""
    async with open_cassandra(world) as cassandra:
        await write_rows(cassandra, await writes(cassandra, course, users))
        store = Store(cassandra, cassandra_config(world).keyspace)
        await store.prepare()
        api = apis(store, course, users)[0]
    requests = {
        user_id: http_request("POST", api.path, {USER_TOKEN: readers.token(user_id)}, api.bodies[user_id])
        for user_id in users
    }
    return [requests[user_id] for user_id in islice(choose(users), 10 * len(users))]


@contextmanager
def _slowed(pid: int) -> Iterator[None]:
    """Stops a process again and again."""
    ended = threading.Event()

    def stop_and_continue() -> None:
        while not ended.is_set():
            os.kill(pid, signal.SIGSTOP)
            time.sleep(SLOW_PERIOD_SECONDS * (1 - SLOW_SHARE))
            os.kill(pid, signal.SIGCONT)
            time.sleep(SLOW_PERIOD_SECONDS * SLOW_SHARE)

    thread = threading.Thread(target=stop_and_continue)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _measure(readers: Readers, requests: Sequence[bytes], name: str) -> None:
    def load(seconds: float, per_second: float | None) -> Answers:
        return send(Load(readers.url, requests, seconds, per_second, CONNECTIONS, readers.internal_url, HEALTH))

    load(WARM_UP_SECONDS, None)
    capacity = len(load(SECONDS, None).accepted) / SECONDS
    print(
        f"  {name}: content state with scores, {CONTENTS} contents: the process takes {capacity:.0f} requests/s",
        flush=True,
    )
    base: Answers | None = None
    for times in TIMES:
        answers = load(SECONDS, times * capacity)
        _print(times, answers, base)
        base = base or answers


def _print(times: float, answers: Answers, base: Answers | None) -> None:
    accepted, refused = (len(some) / SECONDS for some in (answers.accepted, answers.refused))
    print(f"    {times:g} times that: {accepted:.0f}/s accepted, {refused:.0f}/s refused")
    print(f"      accepted {_times(answers.accepted)}   refused {_times(answers.refused)}")
    for path, seconds in answers.health.items():
        print(f"      {path} {_times(seconds)}")
    print(
        f"      answers of health other than 200: {answers.unhealthy}   "
        f"load generator: {answers.cpu_share:.0%} of a core, sent too late {_times(answers.late)}",
        flush=True,
    )
    if answers.failed or answers.without_retry_after:
        raise RuntimeError(f"{answers.failed} failed, {answers.without_retry_after} answers 503 have no Retry-After")
    if base is not None:
        ratios = [percentile(answers.accepted, percent) / percentile(base.accepted, percent) for percent in (50, 99)]
        print(f"      ratios to {TIMES[0]:g} times: accepted p50 {ratios[0]:.2f}   p99 {ratios[1]:.2f}", flush=True)


def _times(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "-"
    return "   ".join(f"p{percent} {percentile(seconds, percent) * 1000:.1f} ms" for percent in (50, 99))
