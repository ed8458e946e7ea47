"""Learners as the desk may find them: enrolled or not, with any scores, criteria and answers of the APIs."""

import json
from typing import Any

from hypothesis import strategies as st

from common.domain.aggregates import MAX_SCORE, SCORE, metric_key
from common.domain.events import Refused, Skip, to_datetime
from desk.records import AggregatesRow, Batch, ContentRow, Course, EnrolmentRow, LearnerRecord, LearnerRows
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator.rules import Attempt
from jobs.collection_cert_pre_processor.templates import parse
from tests.support.desk_records import KEY, NOW_MS

CONTENTS = ("do_1", "do_2", "do_3")
NAMES = ("Completion", "Merit")

# Few values, so that scores meet limits exactly and certificates meet templates.
_scores = st.sampled_from([0.0, 5.0, 7.4, 7.496, 7.5, 8.0, 10.0]) | st.floats(-1, 12, allow_nan=False)
_maxima = st.sampled_from([0.0, 10.0])
_times = st.integers(0, 5).map(lambda minutes: to_datetime(NOW_MS - minutes * 60_000))
_statuses = st.sampled_from([None, 0, 1, 2])


@st.composite
def criteria(draw: st.DrawFn) -> dict[str, Any]:
    """Any criteria, also unusable ones."""
    found: dict[str, Any] = {}
    if draw(st.booleans()):
        found["enrollment"] = draw(st.sampled_from([{}, {"status": 2}, {"status": 1}]))
    if draw(st.booleans()):
        limits = st.sampled_from([0, 50, 74, 74.96, 75, 80, 100])
        operators = st.sampled_from([">=", ">", "<=", "<", "=", "!=", "EQ", "ne"])
        found["assessment"] = {"score": draw(limits | st.dictionaries(operators, limits, min_size=1, max_size=2))}
    if draw(st.integers(0, 3)) == 0:
        found["user"] = {draw(st.sampled_from(["rootOrgId", "framework"])): draw(st.sampled_from(["org-1", "org-2"]))}
    return found


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Up to three templates."""
    drawn = draw(st.lists(st.tuples(st.sampled_from(NAMES), criteria()), max_size=3))
    templates = {
        f"t-{number}": {"name": name, "url": "https://c/t.svg", "criteria": json.dumps(asked)}
        for number, (name, asked) in enumerate(drawn)
    }
    return Batch(KEY.course_id, KEY.batch_id, parse(KEY.batch_id, templates), "May")


@st.composite
def enrolments(draw: st.DrawFn) -> EnrolmentRow | None:
    """None, a phantom, or an enrolment in any state."""
    if draw(st.integers(0, 9)) == 0:
        return None
    held = st.lists(st.sampled_from(NAMES).map(lambda name: {"name": name.upper(), "identifier": "c-1"}), max_size=1)
    return EnrolmentRow(
        active=draw(st.sampled_from([True, True, True, False, None])),
        status=draw(st.sampled_from([2, 2, 2, 1, 0, None])),
        enrolled_on=draw(st.none() | _times),
        completed_on=draw(st.none() | _times),
        progress=draw(st.none() | st.integers(0, 3)),
        content_status=draw(st.none() | st.dictionaries(st.sampled_from(CONTENTS), st.sampled_from([0, 1, 2]))),
        issued_certificates=draw(st.sampled_from([None, None, None]) | held),
    )


@st.composite
def rows(draw: st.DrawFn) -> LearnerRows:
    """Rows that need not fit each other."""
    aggregates: dict[str, float] = {}
    agg: dict[str, int] = {}
    for content_id in draw(st.sets(st.sampled_from(CONTENTS))):
        aggregates[metric_key(SCORE, content_id)] = draw(_scores)
        if draw(st.booleans()):
            aggregates[metric_key(MAX_SCORE, content_id)] = draw(_maxima)
    for content_id in draw(st.sets(st.sampled_from(CONTENTS))):
        agg[metric_key(SCORE, content_id)] = draw(st.integers(0, 10))
        agg[metric_key(MAX_SCORE, content_id)] = 10
    attempts = [
        Attempt(content_id, attempt_id, draw(st.none() | _times), draw(_times), draw(st.none() | _scores), 10.0)
        for content_id, attempt_id in draw(st.sets(st.tuples(st.sampled_from(CONTENTS), st.sampled_from("ab"))))
    ]
    contents = [
        ContentRow(Content(content_id, draw(_statuses), 1, draw(st.sampled_from([None, 0, 1])), 1, 1))
        for content_id in draw(st.sets(st.sampled_from(CONTENTS)))
    ]
    return LearnerRows(draw(enrolments()), contents, attempts, AggregatesRow(agg, aggregates))


@st.composite
def records(draw: st.DrawFn) -> LearnerRecord:
    """A learner in a batch, with everything that the rules ask for."""
    refused = Refused("content_api", "content read API answered 403")
    types = st.sampled_from(["SelfAssess", "SelfAssess", "SelfAssess", "Resource", "", None, refused])
    fields = st.fixed_dictionaries({"firstName": st.just("Asha"), "rootOrgId": st.sampled_from(["org-1", "org-2"])})
    user = st.sampled_from([Skip("blocked_user"), Refused("user_api", "user read API answered 404")])
    nodes = frozenset(CONTENTS)
    optional = draw(st.sets(st.sampled_from(CONTENTS[1:])))
    return LearnerRecord(
        KEY,
        NOW_MS,
        Course(
            KEY.course_id,
            draw(st.sampled_from(["Botany", "Botany", Refused("content_api", "no name")])),
            draw(st.sampled_from([LeafNodes(nodes, nodes - optional), None])),
        ),
        draw(batches()),
        draw(rows()),
        content_types={content_id: draw(types) for content_id in CONTENTS},
        user=draw(fields | fields | fields | user),
    )
