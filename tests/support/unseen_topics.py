"""A Kafka consumer without servers, in whose cluster some topics are empty and others cannot be seen."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from common.servers import kafka
from desk import topic_search

HIDDEN = KafkaError.TOPIC_AUTHORIZATION_FAILED
MISSING = KafkaError.UNKNOWN_TOPIC_OR_PART
REASONS = {HIDDEN: "may not describe the topic", MISSING: "does not exist"}


class EmptyTopics:
    """All topics exist and are empty, but for those in ``unseen``, with Kafka's error by the end of their name."""

    def __init__(self, unseen: Mapping[str, int]) -> None:
        self._unseen = unseen

    def list_topics(self, topic: str | None = None, timeout: float = 0) -> Any:
        """As Kafka does: only who asks by name is told of an error."""
        if topic is None:
            return SimpleNamespace(topics={})
        codes = [code for name, code in self._unseen.items() if topic.endswith(f".{name}")]
        return SimpleNamespace(topics={topic: self._found(codes[0] if codes else None)})

    def _found(self, code: int | None) -> Any:
        return SimpleNamespace(error=None if code is None else KafkaError(code), partitions={} if code else {0: None})

    def get_watermark_offsets(self, *_: object) -> tuple[int, int]:
        return 0, 0

    def assign(self, _: list[TopicPartition]) -> None:
        pass

    def close(self) -> None:
        pass


def see_topics(monkeypatch: pytest.MonkeyPatch, unseen: Mapping[str, int]) -> None:
    """Has the desk read such a cluster."""
    for module in (kafka, topic_search):
        monkeypatch.setattr(module, "Consumer", lambda _: EmptyTopics(unseen))
