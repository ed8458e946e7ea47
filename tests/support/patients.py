"""Learners for the doctor: healthy ones, made by the jobs' rules from random events, and faults planted in their rows.

What a fault has to be found as is part of it, so that a test can say "this and nothing else".
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from common.domain.aggregates import COMPLETED_COUNT
from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.enrolments import EnrolmentKey
from common.domain.events import to_datetime
from desk.doctor.chart import Answers, Chart, StoredTime, UnitRow
from desk.doctor.findings import Check
from desk.records import AggregatesRow, Batch, ContentRow, Course, EnrolmentRow, LearnerRecord, LearnerRows
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator import rules as assessment_rules
from jobs.assessment_aggregator.rules import Attempt
from jobs.collection_cert_pre_processor.templates import parse
from tests.support.activity_model import DAY, T0, RelationCache, Tables, Updater, completed

UNITS = {"do_unit_1": ["A", "B"], "do_unit_2": ["C", "Q1"], "do_unit_3": ["Q2"]}
OPTIONAL = ["B"]
CONTENTS = ["A", "B", "C", "Q1", "Q2"]
QUIZZES = ["Q1", "Q2"]
PASS_PERCENT = 75
CERTIFICATE = "Completion"
TEMPLATES = {
    "t-1": {
        "identifier": "t-1",
        "name": CERTIFICATE,
        "url": "https://c/t.svg",
        "criteria": json.dumps({"enrollment": {"status": 2}, "assessment": {"score": {">=": PASS_PERCENT}}}),
    }
}
PLAIN, CERTIFIED = "plain", "certified"
"""The batches: without and with a certificate."""
FAR_MS = (T0 + DAY) * 1_000
"""A time in us where ms belong."""

Kinds = set[tuple[Check, str]]


@dataclass
class AttemptRow:
    """A row of ``assessment_aggregator``. The scores are those of its questions."""

    total_score: float | None
    time_ms: int
    questions: list[tuple[str, float]]
    updated_on_ms: int

    @property
    def maximum(self) -> float:
        return 10.0


@dataclass
class Patient:
    """All rows of a learner in a batch, column by column."""

    key: EnrolmentKey
    course: RelationCache
    enrolment: dict[str, Any] = field(default_factory=dict)
    contents: dict[str, Content] = field(default_factory=dict)
    attempts: dict[tuple[str, str], AttemptRow] = field(default_factory=dict)
    agg: dict[str, dict[str, int]] = field(default_factory=dict)
    """By activity id, as the next one."""
    aggregates: dict[str, dict[str, float]] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)
    enrolment_ms: int = T0
    """``user_enrolments.datetime``."""
    content_ms: int = T0
    """``last_access_time`` of each content."""
    agg_last_updated_ms: int = T0
    expected: Kinds = field(default_factory=set)
    exact: dict[str, dict[str, float]] = field(default_factory=dict)
    """What ``aggregates`` must hold, by activity id."""

    @property
    def of_course(self) -> dict[str, float]:
        """``aggregates`` of the course."""
        return self.aggregates.setdefault(self.course.course_id, {})

    @property
    def is_complete(self) -> bool:
        return self.enrolment.get("status") == 2

    def chart(self) -> Chart:
        """What the doctor reads of these rows."""
        course_id = self.course.course_id
        row = self.enrolment
        nodes = frozenset(CONTENTS)
        templates = parse(self.key.batch_id, TEMPLATES if self.key.batch_id.endswith(CERTIFIED) else None)
        record = LearnerRecord(
            self.key,
            T0 + DAY,
            Course(course_id, "Botany", LeafNodes(nodes, nodes - set(OPTIONAL))),
            Batch(course_id, self.key.batch_id, templates),
            LearnerRows(
                EnrolmentRow(
                    row.get("active"),
                    row.get("status"),
                    None,
                    None if row.get("completedon") is None else to_datetime(row["completedon"]),
                    row.get("progress"),
                    row.get("contentstatus"),
                    row.get("issued_certificates"),
                ),
                [ContentRow(content) for content in self.contents.values()],
                [
                    Attempt(*ids, to_datetime(attempt.time_ms), None, attempt.total_score, attempt.maximum)
                    for ids, attempt in self.attempts.items()
                ],
                AggregatesRow(self.agg.get(course_id, {}), self.aggregates.get(course_id, {}), {}, self.details),
            ),
            # The doctor asks for no type where no template asks for a score.
            content_types=dict.fromkeys((*CONTENTS, "gone"), "SelfAssess") if templates.need_aggregates else {},
            user={"firstName": "Asha", "rootOrgId": "org-1"},
        )
        relations = self.course.relations(self.contents)
        return Chart(
            record,
            relations,
            {unit: UnitRow(self.agg.get(unit, {}), self.aggregates.get(unit, {})) for unit in relations.units},
            [Answers(*ids, attempt.total_score, attempt.questions) for ids, attempt in self.attempts.items()],
            self._times(),
        )

    def _times(self) -> list[StoredTime]:
        def of(table: str, column: str, time_by_row: dict[str, int]) -> list[StoredTime]:
            return [StoredTime(table, column, row, time_ms) for row, time_ms in time_by_row.items()]

        return [
            *of("user_enrolments", "datetime", {"": self.enrolment_ms}),
            *of("user_content_consumption", "last_access_time", dict.fromkeys(self.contents, self.content_ms)),
            *of(
                "assessment_aggregator", "updated_on", {ids[1]: one.updated_on_ms for ids, one in self.attempts.items()}
            ),
            *of("user_activity_agg", "agg_last_updated", dict.fromkeys(self.of_course, self.agg_last_updated_ms)),
        ]


def course_of(prefix: str) -> RelationCache:
    """A course of three units with two quizzes and an optional content; its units have names of their own, too."""
    return RelationCache(
        {f"{prefix}-{unit}": contents for unit, contents in UNITS.items()}, OPTIONAL, f"{prefix}-course"
    )


def healthy(source: random.Random, key: EnrolmentKey, course: RelationCache) -> Patient:
    """A learner as the jobs leave one: events in random number and order, applied by their rules."""
    patient = Patient(key, course)
    _complete_contents(source, patient)
    _attempt_quizzes(source, patient)
    best = max((attempt.total_score or 0 for attempt in patient.attempts.values()), default=0)
    if key.batch_id.endswith(CERTIFIED) and patient.is_complete and best * 10 >= PASS_PERCENT:
        patient.enrolment["issued_certificates"] = [{"name": CERTIFICATE, "identifier": f"c-{key.user_id}"}]
    return patient


def _complete_contents(source: random.Random, patient: Patient) -> None:
    tables = Tables()
    tables.enrol(patient.key)
    updater = Updater(tables, patient.course)
    to_complete = CONTENTS if source.random() < 0.5 else source.sample(CONTENTS, source.randint(0, 4))
    for number, content_id in enumerate(source.sample(to_complete, len(to_complete))):
        updater.run([completed(content_id, at=T0 + number, by=patient.key)])
    for content_id in set(CONTENTS) - set(to_complete):
        if source.random() < 0.3:
            # Opened, and not completed: the API has written the row, and no job has looked at it.
            tables.put_content(patient.key, Content(content_id, 1))
    stored = tables.stored(patient.key)
    assert stored.enrolment is not None
    patient.contents = {content.content_id: content for content in stored.contents}
    patient.enrolment = {
        "active": stored.enrolment.active,
        "status": stored.enrolment.status,
        "progress": stored.enrolment.progress,
        "completedon": stored.enrolment.completed_on_ms,
        "contentstatus": dict(stored.enrolment.content_status or {}),
    }
    patient.aggregates = {
        activity_id: {COMPLETED_COUNT: count} for activity_id, count in tables.completed_counts(patient.key).items()
    }


def _attempt_quizzes(source: random.Random, patient: Patient) -> None:
    settings = assessment_rules.Settings(certificate_topic="", time_zone=UTC)
    points = source.choice(((0.0, 0.25, 0.5, 0.75, 1.0), (0.5, 0.75, 0.75, 1.0)))
    for quiz in QUIZZES:
        for number in range(source.randint(0, 3)):
            scores = [source.choice(points) for _ in range(10)]
            patient.attempts[quiz, f"{quiz}-{number}"] = AttemptRow(
                sum(scores), T0 + number, [(f"q{index}", score) for index, score in enumerate(scores)], T0
            )
    events = [
        AssessmentEvent(
            patient.key, quiz, attempt.time_ms, SubmittedAttempt(attempt_id, (), attempt.total_score or 0.0, 10.0)
        )
        for (quiz, attempt_id), attempt in patient.attempts.items()
    ]
    if events:
        changes = assessment_rules.decide([], events, [], settings, T0).aggregates
        assert changes is not None
        patient.of_course.update(changes.aggregates)
        patient.details = list(changes.agg_details)


Fault = Callable[[random.Random, Patient], Kinds | None]
"""Plants a fault and returns what it must be found as; None if it does not fit the learner."""


def _some_score(source: random.Random, patient: Patient) -> str | None:
    return source.choice(sorted({quiz for quiz, _ in patient.attempts})) if patient.attempts else None


def score_differs(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.key.batch_id.endswith(CERTIFIED) or (quiz := _some_score(source, patient)) is None:
        return None
    patient.of_course[f"{source.choice(('score', 'max_score', 'attempts_count'))}:{quiz}"] -= 0.5
    return {(Check.SCORES, "score_differs")}


def attempts_missing(source: random.Random, patient: Patient) -> Kinds | None:
    """The best attempt, or another one, was archived."""
    if patient.key.batch_id.endswith(CERTIFIED) or (quiz := _some_score(source, patient)) is None:
        return None
    patient.of_course[f"{source.choice(('score', 'attempts_count'))}:{quiz}"] += 1.0
    return {(Check.SCORES, "attempts_missing")}


def score_missing(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.key.batch_id.endswith(CERTIFIED) or (quiz := _some_score(source, patient)) is None:
        return None
    del patient.of_course[f"{source.choice(('score', 'max_score', 'attempts_count'))}:{quiz}"]
    return {(Check.SCORES, "score_missing")}


def score_only_in_agg(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.key.batch_id.endswith(CERTIFIED) or (quiz := _some_score(source, patient)) is None:
        return None
    for metric in ("score", "max_score", "attempts_count"):
        value = patient.of_course.pop(f"{metric}:{quiz}")
        patient.agg.setdefault(patient.course.course_id, {})[f"{metric}:{quiz}"] = int(value)
    return {(Check.SCORES, "score_only_in_agg")}


def score_without_attempt(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.key.batch_id.endswith(CERTIFIED):
        return None
    patient.of_course["score:gone"] = 5.0
    return {(Check.SCORES, "score_without_attempt")}


def detail_doubled(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.details:
        return None
    patient.details.append(source.choice(patient.details))
    return {(Check.DETAILS, "detail_doubled")}


def detail_missing(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.details:
        return None
    patient.details.pop(source.randrange(len(patient.details)))
    return {(Check.DETAILS, "detail_missing")}


def detail_differs(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.details:
        return None
    index = source.randrange(len(patient.details))
    patient.details[index] = json.dumps({**json.loads(patient.details[index]), "score": 99.0})
    return {(Check.DETAILS, "detail_differs")}


def detail_unreadable(source: random.Random, patient: Patient) -> Kinds | None:
    patient.details.append("no JSON")
    return {(Check.DETAILS, "detail_unreadable")}


def detail_without_attempt(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.details:
        return None
    patient.details.append(json.dumps({**json.loads(patient.details[0]), "attempt_id": "gone"}))
    return {(Check.DETAILS, "detail_without_attempt")}


def _some_attempt(source: random.Random, patient: Patient) -> AttemptRow | None:
    return source.choice(list(patient.attempts.values())) if patient.attempts else None


def question_doubled(source: random.Random, patient: Patient) -> Kinds | None:
    if (attempt := _some_attempt(source, patient)) is None:
        return None
    attempt.questions += attempt.questions
    return {(Check.DETAILS, "question_doubled")}


def question_missing(source: random.Random, patient: Patient) -> Kinds | None:
    attempt = _some_attempt(source, patient)
    if attempt is None or not attempt.total_score:
        return None
    attempt.questions.remove(max(attempt.questions, key=lambda question: question[1]))
    return {(Check.DETAILS, "question_missing")}


def completed_count_too_low(source: random.Random, patient: Patient) -> Kinds | None:
    return _change_a_count(source, patient, -1, "completed_count_too_low")


def completed_count_too_high(source: random.Random, patient: Patient) -> Kinds | None:
    """The course was published anew with fewer contents."""
    return _change_a_count(source, patient, 1, "completed_count_too_high")


def _change_a_count(source: random.Random, patient: Patient, by: int, kind: str) -> Kinds | None:
    counted = [activity for activity, values in patient.aggregates.items() if COMPLETED_COUNT in values]
    if not counted:
        return None
    patient.aggregates[source.choice(counted)][COMPLETED_COUNT] += by
    return {(Check.PROGRESS, kind)}


def progress_too_low(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.is_complete or not patient.enrolment["progress"]:
        return None
    patient.enrolment["progress"] = source.choice((None, patient.enrolment["progress"] - 1))
    return {(Check.PROGRESS, "progress_too_low")}


def progress_too_high(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.is_complete:
        return None
    patient.enrolment["progress"] = (patient.enrolment["progress"] or 0) + 1
    return {(Check.PROGRESS, "progress_too_high")}


def status_differs(source: random.Random, patient: Patient) -> Kinds | None:
    """Also in a batch with certificates: who has the certificate of a completed course has it too early then."""
    if patient.key.batch_id.endswith(CERTIFIED) or patient.enrolment["status"] == 0:
        return None
    patient.enrolment["status"] = 0
    # A completed enrolment gets no more entries; one that is not completed must have them.
    finished = [one.content_id for one in patient.contents.values() if one.completed_count]
    patient.enrolment["contentstatus"] |= dict.fromkeys(finished, 2)
    return {(Check.PROGRESS, "status_differs")}


def content_status_lacks(source: random.Random, patient: Patient) -> Kinds | None:
    finished = [content_id for content_id, status in patient.enrolment["contentstatus"].items() if status == 2]
    if patient.is_complete or not finished:
        return None
    del patient.enrolment["contentstatus"][source.choice(finished)]
    return {(Check.PROGRESS, "content_status_lacks")}


def no_longer_complete(source: random.Random, patient: Patient) -> Kinds | None:
    if patient.key.batch_id.endswith(CERTIFIED) or patient.is_complete:
        return None
    patient.enrolment["status"] = 2
    return {(Check.PROGRESS, "no_longer_complete")}


def certificate_missing(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.enrolment.get("issued_certificates"):
        return None
    patient.enrolment["issued_certificates"] = None
    return {(Check.CERTIFICATES, "certificate_missing")}


def certificate_not_earned(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.key.batch_id.endswith(CERTIFIED) or patient.enrolment.get("issued_certificates"):
        return None
    patient.enrolment["issued_certificates"] = [{"name": CERTIFICATE.upper(), "identifier": "c-1"}]
    return {(Check.CERTIFICATES, "certificate_not_earned")}


def _percents(patient: Patient) -> tuple[float, float]:
    """The best score in percent, exact and cut."""
    best = max((attempt.total_score or 0.0 for attempt in patient.attempts.values()), default=0.0)
    return best * 10, int(best) * 10.0


def newly_passes(source: random.Random, patient: Patient) -> Kinds | None:
    """``aggregates`` is as it should be; the old column has the integers."""
    exact, cut = _percents(patient)
    if not patient.key.batch_id.endswith(CERTIFIED) or not cut < PASS_PERCENT <= exact:
        return None
    patient.agg[patient.course.course_id] = {
        key: int(value) for key, value in patient.of_course.items() if key != COMPLETED_COUNT
    }
    return {(Check.CUT, "newly_passes")}


def no_longer_passes(source: random.Random, patient: Patient) -> Kinds | None:
    exact, _ = _percents(patient)
    if not patient.key.batch_id.endswith(CERTIFIED) or exact >= PASS_PERCENT or not patient.attempts:
        return None
    quiz = next(iter(patient.attempts))[0]
    patient.agg[patient.course.course_id] = {f"score:{quiz}": 8, f"max_score:{quiz}": 10}
    return {(Check.CUT, "no_longer_passes")}


def phantom(source: random.Random, patient: Patient) -> Kinds | None:
    patient.enrolment = {"lastreadcontentid": "A"}
    return {(Check.PHANTOMS, "phantom")}


def time_in_enrolment(source: random.Random, patient: Patient) -> Kinds | None:
    patient.enrolment_ms = FAR_MS
    return {(Check.TIMES, "time_out_of_range")}


def time_in_contents(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.contents:
        return None
    patient.content_ms = -1
    return {(Check.TIMES, "time_out_of_range")}


def time_in_attempts(source: random.Random, patient: Patient) -> Kinds | None:
    if (attempt := _some_attempt(source, patient)) is None:
        return None
    attempt.updated_on_ms = FAR_MS
    return {(Check.TIMES, "time_out_of_range")}


def time_in_aggregates(source: random.Random, patient: Patient) -> Kinds | None:
    if not patient.of_course:
        return None
    patient.agg_last_updated_ms = FAR_MS
    return {(Check.TIMES, "time_out_of_range")}


FAULTS: list[Fault] = [
    score_differs,
    attempts_missing,
    score_missing,
    score_only_in_agg,
    score_without_attempt,
    detail_doubled,
    detail_missing,
    detail_differs,
    detail_unreadable,
    detail_without_attempt,
    question_doubled,
    question_missing,
    completed_count_too_low,
    completed_count_too_high,
    progress_too_low,
    progress_too_high,
    status_differs,
    content_status_lacks,
    no_longer_complete,
    certificate_missing,
    certificate_not_earned,
    newly_passes,
    no_longer_passes,
    phantom,
    time_in_enrolment,
    time_in_contents,
    time_in_attempts,
    time_in_aggregates,
]


def sick(source: random.Random, fault: Fault, course: RelationCache, user_id: str, prefix: str = "") -> Patient:
    """A learner with this fault: learners are made until it fits one."""
    while True:
        batch_id = f"{prefix}{source.choice((PLAIN, CERTIFIED))}"
        patient = healthy(source, EnrolmentKey(user_id, course.course_id, batch_id), course)
        if (kinds := fault(source, patient)) is not None:
            patient.expected = kinds
            return patient
