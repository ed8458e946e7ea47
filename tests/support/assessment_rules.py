"""Events, stored rows and decisions of the assessment aggregator's rules, by short names."""

import json
from datetime import UTC, datetime

from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.events import to_datetime
from common.domain.questions import Question, to_item, to_responses
from jobs.assessment_aggregator.rules import (
    Attempt,
    Decision,
    Effect,
    Settings,
    decide,
)
from tests.support.strategies import ASHA, T0, JsonObject

NOW_MS = T0 + 60_000


NOW = to_datetime(NOW_MS)


EARLIER = to_datetime(T0 - 60_000)


ITEM = to_item(id="q1", max_score=2.0, type="mcq", title=None, params=(), description=None)


QUESTION = Question(item=ITEM, time_ms=T0 - 10_000, score=1.5, resvalues=to_responses(()), duration=None)


SETTINGS = Settings(certificate_topic="dev.issue.certificate.request", time_zone=UTC)


def submitted(
    attempt_id: str = "a", content_id: str = "do_1", time_ms: int = T0, score: float = 7.5, max_score: float = 10.0
) -> AssessmentEvent:
    return AssessmentEvent(ASHA, content_id, time_ms, SubmittedAttempt(attempt_id, (), score, max_score))


def recompute(content_id: str = "do_1", time_ms: int = T0) -> AssessmentEvent:
    return AssessmentEvent(ASHA, content_id, time_ms, None)


def stored(
    attempt_id: str = "a",
    content_id: str = "do_1",
    time_ms: int | None = T0,
    score: float | None = 6.0,
    max_score: float | None = 10.0,
    created_on: datetime | None = EARLIER,
) -> Attempt:
    attempted_on = None if time_ms is None else to_datetime(time_ms)
    return Attempt(content_id, attempt_id, attempted_on, created_on, score, max_score)


def decided(
    events: list[AssessmentEvent],
    attempts: list[Attempt] | None = None,
    keys: tuple[str, ...] = (),
    settings: Settings = SETTINGS,
) -> Decision:
    return decide(attempts or [], events, keys, settings, NOW_MS)


def aggregates(decision: Decision) -> dict[str, float]:
    assert decision.aggregates is not None
    return dict(decision.aggregates.aggregates)


def details(decision: Decision) -> list[JsonObject]:
    assert decision.aggregates is not None
    return [json.loads(detail) for detail in decision.aggregates.agg_details]


def effects(decision: Decision) -> list[Effect]:
    return [result.effect for result in decision.results]
