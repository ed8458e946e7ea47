"""What comes of events that the brokers do not take."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from common.config.loader import load
from common.domain.faults import WorldFault
from common.domain.messages import Message
from desk import sender
from desk.config import DeskConfig
from tests.support.required_keys import REQUIRED

MEGABYTE = 1024 * 1024
KAFKA = load(DeskConfig, environ=REQUIRED[DeskConfig]).kafka


class Brokers:
    """A producer whose messages arrive with the flush. Refuses by itself what librdkafka would refuse."""

    def __init__(self) -> None:
        self.values: list[bytes] = []
        self.refuses_all = False
        self._limit = 0
        self._queued: list[tuple[bytes, Callable[[KafkaError | None, object], None]]] = []

    def __call__(self, settings: Mapping[str, Any]) -> "Brokers":
        self._limit = settings.get("message.max.bytes", 1_000_000)
        return self

    def produce(self, topic: str, value: bytes, key: bytes | None, on_delivery: Any) -> None:
        if len(value) > self._limit:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        if len(self._queued) == 5:
            raise BufferError("Local: Queue full")
        self._queued.append((value, on_delivery))

    def flush(self, timeout: float) -> int:
        for value, on_delivery in self._queued:
            if not self.refuses_all:
                self.values.append(value)
            on_delivery(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED) if self.refuses_all else None, None)
        return 0


@pytest.fixture
def brokers(monkeypatch: pytest.MonkeyPatch) -> Brokers:
    found = Brokers()
    monkeypatch.setattr(sender, "Producer", found)
    return found


def messages(*values: bytes) -> list[Message]:
    return [Message("dev.telemetry.assess", value) for value in values]


def test_an_event_of_some_megabytes_is_sent(brokers: Brokers) -> None:
    sender.send(KAFKA, messages(b"x" * 2 * MEGABYTE))
    assert len(brokers.values) == 1


def test_an_event_that_is_too_large_holds_up_no_others(brokers: Brokers) -> None:
    with pytest.raises(WorldFault, match=r"2 of 3 events were delivered: .*MSG_SIZE_TOO_LARGE"):
        sender.send(KAFKA, messages(b"first", b"x" * 17 * MEGABYTE, b"last"))
    assert brokers.values == [b"first", b"last"]


def test_a_full_queue_is_said(brokers: Brokers) -> None:
    with pytest.raises(WorldFault, match="5 of 6 events were delivered: Local: Queue full"):
        sender.send(KAFKA, messages(*[b"x"] * 6))


def test_what_the_brokers_refuse_is_not_delivered(brokers: Brokers) -> None:
    brokers.refuses_all = True
    with pytest.raises(WorldFault, match="0 of 1 events were delivered"):
        sender.send(KAFKA, messages(b"x"))
