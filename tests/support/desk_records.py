"""A learner's record for the desk: Asha has completed a course of two contents, with 7.5 of 10 in its quiz."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_time_ms
from desk.explanation import explain
from desk.explanation.settings import JobSettings, job_settings
from desk.explanation.steps import Explanation
from desk.explanation.wording import Wording
from desk.records import AggregatesRow, Batch, ContentRow, Course, EnrolmentRow, LearnerRecord, LearnerRows
from desk.sentences import LANGUAGES
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator.rules import Attempt
from jobs.collection_cert_pre_processor.templates import parse
from local.expected import content_aggregates

KEY = EnrolmentKey("asha", "do_course", "batch")
VIDEO, QUIZ = "do_video", "do_quiz"
NOW = datetime(2024, 5, 14, 9, 12, 40, tzinfo=UTC)
NOW_MS = to_time_ms(NOW)
COMPLETED = {"enrollment": {"status": 2}}
AT_LEAST_75 = {"assessment": {"score": {">=": 75}}}
SETTINGS = job_settings(["SelfAssess"], enable_suppress_exception=True)
WORDING = Wording(LANGUAGES["en"], UTC)


def template(criteria: object, name: str = "Completion") -> dict[str, str]:
    """A template with these criteria."""
    return {"name": name, "url": "https://c/t.svg", "criteria": json.dumps(criteria)}


def batch(*templates: Mapping[str, str]) -> Batch:
    """Asha's batch; the keys of the templates are t-0, t-1, …"""
    parsed = parse(KEY.batch_id, {f"t-{number}": fields for number, fields in enumerate(templates)})
    return Batch(KEY.course_id, KEY.batch_id, parsed, "May")


def course(*contents: str, optional: tuple[str, ...] = ()) -> Course:
    """Asha's course with these contents."""
    nodes = frozenset(contents)
    return Course(KEY.course_id, "Botany", LeafNodes(nodes, nodes - set(optional)))


def completed(content_id: str) -> ContentRow:
    """The row of a content that was completed once."""
    return ContentRow(Content(content_id, 2, 1, 1, NOW_MS * 1000, NOW_MS * 1000), NOW)


def aggregates(score: float, completed_count: float = 2, **columns: Any) -> AggregatesRow:
    """The row that follows from one attempt at the quiz."""
    entries = {**content_aggregates(QUIZ, [(score, 10.0)]), COMPLETED_COUNT: completed_count}
    return replace(AggregatesRow(aggregates=entries), **columns)


def learner(score: float = 7.5, **changes: Any) -> LearnerRecord:
    """Asha's record; ``changes`` are fields of the record, of its rows, or of the enrolment's row."""
    enrolment: EnrolmentRow | None = EnrolmentRow(
        active=True,
        status=2,
        enrolled_on=NOW,
        completed_on=NOW,
        progress=2,
        content_status={VIDEO: 2, QUIZ: 2},
        issued_certificates=None,
    )
    of_row = {name: changes.pop(name) for name in EnrolmentRow.__dataclass_fields__ if name in changes}
    if enrolment is not None and of_row:
        enrolment = replace(enrolment, **of_row)
    rows = LearnerRows(
        enrolment,
        [completed(VIDEO), completed(QUIZ)],
        [Attempt(QUIZ, "a", NOW, NOW, score, 10.0)],
        aggregates(score),
    )
    of_rows = {name: changes.pop(name) for name in LearnerRows.__dataclass_fields__ if name in changes}
    record = LearnerRecord(
        KEY,
        NOW_MS,
        course(VIDEO, QUIZ),
        batch(template({**COMPLETED, **AT_LEAST_75})),
        replace(rows, **of_rows),
        content_types={QUIZ: "SelfAssess"},
        names={VIDEO: "Leaves", QUIZ: "Quiz 1"},
        user={"firstName": "Asha", "rootOrgId": "org-1"},
    )
    return replace(record, **changes)


def explained(record: LearnerRecord, settings: JobSettings = SETTINGS, wording: Wording = WORDING) -> Explanation:
    """What the desk says about a record."""
    return explain(record, settings, wording)


def verdict(record: LearnerRecord) -> str:
    """The last sentence about a record."""
    return explained(record).verdict.sentence
