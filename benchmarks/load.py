"""What a benchmark of one job has to say; everything else is common to all jobs."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import aiohttp

from benchmarks.measure import Processes
from common.servers.cassandra import Cassandra, Row, Statement, Write
from local.world import World


@dataclass(frozen=True, slots=True)
class Event:
    """One event to be produced, and the query that returns a row once it is applied.

    A job that writes no rows has no query: it is applied once a message with its ``ets`` is in the output topic.
    """

    value: bytes
    query: str = ""
    parameters: Sequence[str] = ()


class PlainDriver(Cassandra):
    """Records what a job asks of the world, and asks it later without the job, with the same driver and HTTP client.

    What is recorded in one call may be executed at once, as the job does it; reads return no row while recording.
    """

    _waves: list[Callable[[], Awaitable[object]]] | None = None

    def record(self) -> None:
        """From now on statements are recorded instead of executed."""
        self._waves = self._waves or []

    async def get_all(self, urls: Sequence[str]) -> None:
        """Asks for each of them by HTTP, or records it. Raises aiohttp.ClientError for an answer but 2xx."""
        if self._waves is not None:
            self._waves.append(partial(self.get_all, urls))
            return
        await asyncio.gather(*map(self._get, urls))

    async def replay(self, in_flight: int) -> None:
        """Executes all that was recorded, so many waves at a time, and records no longer."""
        waves, self._waves = iter(self._waves or ()), None

        async def take_turns() -> None:
            for wave in waves:
                await wave()

        async with aiohttp.ClientSession(raise_for_status=True) as self._http:
            await asyncio.gather(*(take_turns() for _ in range(in_flight)))

    async def read(self, statement: Statement, parameters: Sequence[Sequence[Any]]) -> list[list[Row]]:
        """As a job calls it, or records it and returns no row."""
        if self._waves is None:
            return await super().read(statement, parameters)
        self._waves.append(partial(super().read, statement, parameters))
        return [[] for _ in parameters]

    async def write(self, partitions: Iterable[Sequence[Write]]) -> None:
        """As a job calls it, or records it."""
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
    input_topic: str
    """Without the environment."""
    output_topic: str
    """Of the messages by which progress is measured."""
    messages_per_event: float
    """Of :attr:`output_topic`."""

    def events_done(self, messages: int) -> int:
        """How many events of seed 1 have been applied where so many messages have been sent."""
        return int(messages / self.messages_per_event)

    @property
    def environment(self) -> Mapping[str, str]:
        """Of the submitted job, once prepared; laid over what names the servers."""
        return {}

    @property
    def processes(self) -> Processes:
        """What else spends CPU while the job runs, once prepared."""
        return {}

    @abstractmethod
    def prepare(self, world: World) -> None:
        """Fills Redis and the tables with what the events refer to."""

    def close(self) -> None:  # noqa: B027 - most loads have nothing to close
        """Ends what ``prepare`` has started."""

    @abstractmethod
    def events(self, seed: int) -> Iterator[Event]:
        """Events without end; the same for the same seed, and with no user of another seed."""

    @abstractmethod
    def record(self, driver: PlainDriver, seed: int, batch_size: int) -> AsyncIterator[None]:
        """With each step records what the job executes for the next batch of the events of ``seed``, without end."""
