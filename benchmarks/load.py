"""What a benchmark of one job has to say; everything else is common to all jobs."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import Processes
from common.cassandra import Cassandra, Write
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
    """Records the statements that a job's store executes, and executes them later without the job.

    What is recorded in one call may be executed at once, as the job does it; reads return no row while recording.
    """

    _waves: list[Sequence[Write | Sequence[Write]]] | None = None

    def record(self) -> None:
        """From now on statements are recorded instead of executed."""
        self._waves = self._waves or []

    async def replay(self) -> None:
        """Executes all that was recorded, wave after wave, and records no longer."""
        waves, self._waves = self._waves or (), None
        for wave in waves:
            await self._execute_all(wave)

    async def _execute_all(self, requests: Sequence[Write | Sequence[Write]]) -> list[Any]:
        if self._waves is None:
            return await super()._execute_all(requests)
        self._waves.append(requests)
        return [[] for _ in requests]


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
