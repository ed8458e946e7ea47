"""A small course on the model of the tables, and what the activity rules decide about it."""

import json
from typing import Any

from common.domain.enrolments import EnrolmentKey
from common.domain.messages import Message
from jobs.activity_aggregate_updater.events import ContentsCompleted
from jobs.activity_aggregate_updater.rules import (
    Content,
    ContentCounts,
    Decision,
    Effect,
    EnrolmentChange,
    contents_to_locate,
    decide,
)
from tests.support.activity_model import (
    ASHA,
    SETTINGS,
    RelationCache,
    Tables,
    Updater,
)

UNITS = {"do_unit_1": ["A", "B"], "do_unit_2": ["C", "D"]}


WRITTEN, REPLAYED, DUPLICATE = Effect.WRITTEN, Effect.REPLAYED, Effect.DUPLICATE


class World:
    """A course of two units of two contents each, and a learner who is enrolled."""

    def __init__(self, units: dict[str, list[str]] | None = None, optional: tuple[str, ...] = ()) -> None:
        self.cache = RelationCache(units or UNITS, optional)
        self.tables = Tables()
        self.tables.enrol(ASHA)
        self.settings = SETTINGS

    def stored(self, *contents: Content, by: EnrolmentKey = ASHA) -> "World":
        for content in contents:
            self.tables.put_content(by, content)
        return self

    def decide(self, *events: ContentsCompleted) -> Decision:
        stored = self.tables.stored(events[0].enrolment)
        relations = self.cache.relations(contents_to_locate(stored, events, self.settings))
        return decide(events[0].enrolment, events, stored, relations, self.settings)

    def apply(self, *events: ContentsCompleted) -> list[Message]:
        """Applies the events as one batch and returns what was sent."""
        updater = Updater(self.tables, self.cache, self.settings)
        updater.run(events, [len(events)])
        return updater.sent

    def content(self, content_id: str, by: EnrolmentKey = ASHA) -> Content:
        return self.tables.content(by, content_id)

    def counts(self, content_id: str, by: EnrolmentKey = ASHA) -> tuple[int | None, int | None]:
        content = self.content(content_id, by)
        return content.view_count, content.completed_count

    def enrolment(self, by: EnrolmentKey = ASHA) -> dict[Any, Any]:
        return {cell[2:]: value for cell, (_, value) in self.tables.cells.items() if cell[:2] == ("enrolments", by)}


def counted(content_id: str, at_us: int, times: int = 1) -> Content:
    """A row whose completions were counted, the last one at this time."""
    return Content(content_id, 2, times, times, at_us, at_us)


def counts_of(decision: Decision) -> list[ContentCounts]:
    return [write for write in decision.learner if isinstance(write, ContentCounts)]


def change_of(decision: Decision) -> EnrolmentChange:
    (change,) = [write for write in decision.learner if isinstance(write, EnrolmentChange)]
    return change


def effects(decision: Decision) -> list[tuple[Effect, ...]]:
    return [result.effects for result in decision.results]


def kinds(sent: list[Message]) -> list[tuple[str, str]]:
    """Action and object of each message."""
    parsed = [json.loads(message.value) for message in sent]
    return [(event["edata"].get("type") or event["edata"]["action"], event["object"]["id"]) for event in parsed]
