"""What one job differs in from another. Every job is one :class:`Job`."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import ClassVar, Generic, TypeVar

from common.config.model import JobConfig
from common.domain import messages
from common.domain.events import Refused, Skip
from common.domain.messages import Message
from common.metrics import Metrics

Event = TypeVar("Event")
Group = TypeVar("Group", bound=Hashable)

Outcome = Sequence[Message | Refused]
"""What becomes of one event: the messages to send, and why the event or parts of it go to the failed topic."""


class Job(ABC, Generic[Event, Group]):
    """What one job differs in from another. Instances are pickled and shipped to the Python workers."""

    name: ClassVar[str]
    """The ``src`` of failed-topic messages."""

    user_id_path: ClassVar[Sequence[str]]
    """Where an event holds the user id by which the stream is partitioned; an array stands for its first element."""

    def __init__(self, config: JobConfig) -> None:
        """Connects to nothing."""
        self.failed_topic = config.kafka.topic(config.failed_topic)
        self.batch = config.batch
        self.retry = config.retry

    @abstractmethod
    def decode(self, value: bytes, timestamp_ms: int) -> Event | Skip:
        """The event of a Kafka value and its Kafka timestamp in ms. Raises BadEvent."""

    @abstractmethod
    def group_of(self, event: Event) -> Group:
        """What the event is decided together with: the events of a batch that belong to the same enrolment, say."""

    def must_follow(self, earlier: Event, later: Event) -> bool:
        """Whether ``later`` may not be in the batch of ``earlier``, an event of the same user.

        For a job that would not recognise ``earlier`` any more, if a batch of both is applied again.
        """
        return False

    @abstractmethod
    async def open(self, metrics: Metrics, clock: Callable[[], int]) -> None:
        """Connects to what :meth:`apply` needs. Raises WorldFault or TaskFault.

        ``clock`` gives the timestamps of all requests to Cassandra. One that raises TaskFault ends all writing.
        """

    @abstractmethod
    async def apply(self, events_by_group: Mapping[Group, Sequence[Event]]) -> Mapping[Group, Sequence[Outcome]]:
        """Applies a batch. Returns the outcomes of each group, in the order of its events.

        The events of a group are in the order they arrived. The batch may have been applied before, in whole or in
        part. Raises WorldFault to be called again with the same batch, TaskFault to end the task.
        """

    @abstractmethod
    async def close(self) -> None:
        """Releases what :meth:`open` took. It is also called if ``open`` failed half-way."""

    def failed_message(self, value: bytes, refused: Refused, user_id: str | None) -> Message:
        """The failed-topic message of an event, or of the part of it that ``refused`` is about.

        ``value`` is the Kafka value as received, ``user_id`` becomes the Kafka key.
        """
        if refused.user_id is not None:
            value, user_id = self.part_of(value, refused.user_id), refused.user_id
        return messages.failed(self.failed_topic, self.name, value, refused.reason, user_id)

    def part_of(self, value: bytes, user_id: str) -> bytes:
        """The Kafka value of an event reduced to one of its users: what a Refused with a ``user_id`` is about.

        A job whose events are about one user needs none.
        """
        raise NotImplementedError(f"{self.name} refuses whole events only")

    async def apply_batch(self, events: Sequence[Event]) -> list[Outcome]:
        """Groups the events, applies them, and returns one outcome per event, in order. Raises as :meth:`apply`."""
        indexes_by_group: dict[Group, list[int]] = {}
        for index, event in enumerate(events):
            indexes_by_group.setdefault(self.group_of(event), []).append(index)
        outcomes_by_group = await self.apply(
            {group: [events[index] for index in indexes] for group, indexes in indexes_by_group.items()}
        )
        outcomes: list[Outcome] = [()] * len(events)
        for group, indexes in indexes_by_group.items():
            for index, outcome in zip(indexes, outcomes_by_group[group], strict=True):
                outcomes[index] = outcome
        return outcomes
