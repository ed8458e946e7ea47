"""The parts of a benchmark that differ between the jobs: their events, and the statements executed for them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import aiohttp

from benchmarks.measure import Processes
from common.domain.enrolments import EnrolmentKey
from common.servers.cassandra import Cassandra, Row, Statement, Write
from local.world import World

JOB_SEED = 1
LATENCY_SEED = 2
WARM_UP_SEED = 4
PLAIN_SEEDS = (3, 5)
"""Of the plain driver before and after the job."""


class Entry(NamedTuple):
    """An entry of an enrolment's ``aggregates``, and what it reaches or exceeds once an event has been applied."""

    enrolment: EnrolmentKey
    key: str
    at_least: float


@dataclass(frozen=True, slots=True)
class Event:
    """An event, and the entry that shows that it has been applied.

    A job that writes no rows has no entry. Its events have been applied once a message with the same ``ets`` is in the
    output topic.
    """

    value: bytes
    entry: Entry | None = None


class PlainDriver(Cassandra):
    """Records the statements and HTTP requests of a job, and executes them later without the job.

    It uses the same driver and HTTP client as the job. The statements of one call form a wave: they are executed
    concurrently, as in the job. While recording, reads return no rows.
    """

    _waves: list[Callable[[], Awaitable[object]]] | None = None

    def record(self) -> None:
        """Starts recording: statements are no longer executed."""
        self._waves = self._waves or []

    async def get_all(self, urls: Sequence[str]) -> None:
        """Sends GET requests for all ``urls``, or records them. Raises aiohttp.ClientError for any status but 2xx."""
        if self._waves is not None:
            self._waves.append(partial(self.get_all, urls))
            return
        await asyncio.gather(*map(self._get, urls))

    async def replay(self, in_flight: int, progress: Callable[[float], None]) -> None:
        """Stops recording and executes everything that was recorded, with ``in_flight`` waves at a time.

        ``progress`` is called after each wave with the share of the waves that have been executed.
        """
        recorded, self._waves = self._waves or [], None
        waves, done = iter(recorded), count(1)

        async def run_waves() -> None:
            for wave in waves:
                await wave()
                progress(next(done) / len(recorded))

        # As many connections as there are requests. The default would be the limit when answers take long.
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, raise_for_status=True) as self._http:
            await asyncio.gather(*(run_waves() for _ in range(in_flight)))

    async def read(self, statement: Statement, parameters: Sequence[Sequence[Any]]) -> list[list[Row]]:
        """Executes the reads like the base class, or records them and returns no rows."""
        if self._waves is None:
            return await super().read(statement, parameters)
        self._waves.append(partial(super().read, statement, parameters))
        return [[] for _ in parameters]

    async def write(self, partitions: Iterable[Sequence[Write]]) -> None:
        """Executes the writes like the base class, or records them."""
        if self._waves is None:
            await super().write(partitions)
        else:
            self._waves.append(partial(super().write, list(partitions)))

    async def _get(self, url: str) -> None:
        async with self._http.get(url) as response:
            await response.read()


class Load(ABC):
    """The load of one job."""

    module: str
    """The Python module of the job."""
    input_topic: str
    """The name of the topic without the environment."""
    output_topic: str
    """The topic, without the environment, whose messages show the progress of the job."""
    messages_per_event: float
    """The number of messages in :attr:`output_topic` per event."""

    def events_done(self, messages: int) -> int:
        """The number of events of :data:`JOB_SEED` that have been applied when ``messages`` messages have been sent."""
        return int(messages / self.messages_per_event)

    @property
    def environment(self) -> Mapping[str, str]:
        """Additional environment variables for the job. Only valid after :meth:`prepare`."""
        return {}

    @property
    def processes(self) -> Processes:
        """Further processes to measure while the job runs. Only valid after :meth:`prepare`."""
        return {}

    @abstractmethod
    def prepare(self, world: World) -> None:
        """Fills Redis and the tables with the data that the events refer to."""

    def close(self) -> None:  # noqa: B027 - most loads have nothing to close
        """Stops what :meth:`prepare` has started."""

    @abstractmethod
    def events(self, seed: int) -> Iterator[Event]:
        """The events of a seed. Equal seeds give equal events.

        Seeds share no users, unless the job writes no rows.
        """

    @abstractmethod
    def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """In each step, records what the job executes for the next ``batch_size`` events of ``seed``."""
