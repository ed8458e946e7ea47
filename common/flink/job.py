"""What one job differs in from another."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from common.config.model import JobConfig
from common.domain.events import BadEvent, Skip
from common.domain.messages import Message
from common.metrics import Metrics

Event = TypeVar("Event")

Outcome = Sequence[Message] | BadEvent
"""What becomes of one event: the messages to send, or why it goes to the failed topic."""


class Job(ABC, Generic[Event]):
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
        """The event of a Kafka value and its Kafka timestamp. Raises BadEvent."""

    @abstractmethod
    async def open(self, metrics: Metrics) -> None:
        """Connects to what ``apply`` needs. Raises WorldFault or TaskFault."""

    @abstractmethod
    async def apply(self, events: Sequence[Event]) -> Sequence[Outcome]:
        """Applies a batch and returns one outcome per event, in their order.

        Events of one user are in the order they arrived. The batch may have been applied before, wholly or in
        part. Raises WorldFault to be called again with the same batch, TaskFault to end the task.
        """

    @abstractmethod
    async def close(self) -> None:
        """Lets go of what ``open`` took; called also when ``open`` failed half-way."""
