"""Learners as the desk may find them: enrolled or not, with any scores, criteria and answers of the APIs."""

import json
from typing import Any

from hypothesis import strategies as st

from common.domain.aggregates import MAX_SCORE, SCORE, metric_key
from common.domain.events import Refused, Skip, to_datetime
from desk.records import (
    AggregatesRow,
    Batch,
    ContentRow,
    Course,
    EnrolmentRow,
    LearnerRecord,
    LearnerRows,
    Search,
)
from jobs.activity_aggregate_updater.relations import LeafNodes
from jobs.activity_aggregate_updater.rules import Content
from jobs.assessment_aggregator.rules import Attempt
from jobs.collection_cert_pre_processor.criteria import OPERATORS
from jobs.collection_cert_pre_processor.templates import parse
from tests.support.desk_records import KEY, NOW_MS

CONTENTS = ("do_1", "do_2", "do_3")
NAMES = ("Completion", "Merit")

# Few values, so that scores meet limits exactly and certificates meet templates. All strategies are made once: made
# inside of a composite, they would be made for every example, which takes most of the time.
_scores = st.sampled_from([0.0, 5.0, 7.4, 7.496, 7.5, 8.0, 10.0]) | st.floats(-1, 12, allow_nan=False)
_maxima = st.sampled_from([None, 0.0, 10.0, 10.0])
_times = st.integers(0, 5).map(lambda minutes: to_datetime(NOW_MS - minutes * 60_000))
_statuses = st.sampled_from([None, 0, 1, 2])
_limits = st.sampled_from([0, 50, 74, 74.96, 75, 80, 100])
_operators = st.sampled_from([">=", *OPERATORS])
_certificates = st.sampled_from(NAMES).map(lambda name: {"name": name.upper(), "identifier": "c-1"})

_enrollment = st.sampled_from([None, {}, {"status": 2}, {"status": 1}])
_score = st.none() | _limits | st.dictionaries(_operators, _limits, min_size=1, max_size=2)
_user = st.sampled_from([None, None, None, {"rootOrgId": "org-1"}, {"rootOrgId": "org-2"}, {"framework": "f"}])


def _criteria(enrollment: object, score: object, user: object) -> dict[str, Any]:
    asked = {
        "enrollment": enrollment,
        "assessment": None if score is None else {"score": score},
        "user": user,
    }
    return {kind: value for kind, value in asked.items() if value is not None}


criteria = st.builds(_criteria, _enrollment, _score, _user)
"""Any criteria, also unusable ones."""


def _batch(drawn: list[tuple[str, dict[str, Any]]]) -> Batch:
    templates = {
        f"t-{number}": {"name": name, "url": "https://c/t.svg", "criteria": json.dumps(asked)}
        for number, (name, asked) in enumerate(drawn)
    }
    return Batch(KEY.course_id, KEY.batch_id, parse(KEY.batch_id, templates), "May")


batches = st.lists(st.tuples(st.sampled_from(NAMES), criteria), max_size=3).map(_batch)
"""Batches of up to three templates."""

_enrolled = st.builds(
    EnrolmentRow,
    active=st.sampled_from([True, True, True, False, None]),
    status=st.sampled_from([2, 2, 2, 1, 0, None]),
    enrolled_on=st.none() | _times,
    completed_on=st.none() | _times,
    progress=st.none() | st.integers(0, 3),
    content_status=st.none() | st.dictionaries(st.sampled_from(CONTENTS), st.sampled_from([0, 1, 2])),
    issued_certificates=st.none() | st.lists(_certificates, max_size=1),
    columns=st.just({}),
)
enrolments = st.sampled_from([True] * 9 + [False]).flatmap(lambda exists: _enrolled if exists else st.none())
"""None, a phantom, or an enrolment in any state."""


def _aggregates(new: dict[str, tuple[float, float | None]], old: dict[str, int]) -> AggregatesRow:
    aggregates = {metric_key(SCORE, content_id): score for content_id, (score, _) in new.items()}
    aggregates |= {
        metric_key(MAX_SCORE, content_id): maximum for content_id, (_, maximum) in new.items() if maximum is not None
    }
    agg = {metric_key(SCORE, content_id): score for content_id, score in old.items()}
    agg |= {metric_key(MAX_SCORE, content_id): 10 for content_id in old}
    return AggregatesRow(agg, aggregates)


_aggregate_rows = st.builds(
    _aggregates,
    st.dictionaries(st.sampled_from(CONTENTS), st.tuples(_scores, _maxima)),
    st.dictionaries(st.sampled_from(CONTENTS), st.integers(0, 10)),
)
_attempts = st.lists(
    st.builds(
        Attempt,
        content_id=st.sampled_from(CONTENTS),
        attempt_id=st.sampled_from("ab"),
        last_attempted_on=st.none() | _times,
        created_on=_times,
        total_score=st.none() | _scores,
        total_max_score=st.just(10.0),
    ),
    max_size=4,
    unique_by=lambda attempt: (attempt.content_id, attempt.attempt_id),
)
_content_rows = st.lists(
    st.builds(
        lambda content_id, status, count: ContentRow(Content(content_id, status, 1, count, 1, 1)),
        st.sampled_from(CONTENTS),
        _statuses,
        st.sampled_from([None, 0, 1]),
    ),
    max_size=3,
    unique_by=lambda row: row.content.content_id,
)
rows = st.builds(LearnerRows, enrolments, _content_rows, _attempts, _aggregate_rows)
"""Rows that need not fit each other."""

_refused = Refused("content_api", "content read API answered 403")
_types = st.fixed_dictionaries(
    dict.fromkeys(CONTENTS, st.sampled_from(["SelfAssess", "SelfAssess", "SelfAssess", "Resource", "", None, _refused]))
)
_users = st.sampled_from(
    [
        *({"firstName": "Asha", "rootOrgId": org} for org in ("org-1", "org-1", "org-2")),
        Skip("blocked_user"),
        Refused("user_api", "user read API answered 404"),
    ]
)


def _course(name: str | Refused, optional: set[str], has_leaf_nodes: bool) -> Course:
    nodes = frozenset(CONTENTS)
    return Course(KEY.course_id, name, LeafNodes(nodes, nodes - optional) if has_leaf_nodes else None)


_courses = st.builds(
    _course,
    st.sampled_from(["Botany", "Botany", Refused("content_api", "no name")]),
    st.sets(st.sampled_from(CONTENTS[1:])),
    st.sampled_from([True, True, True, False]),
)

records = st.builds(
    LearnerRecord,
    key=st.just(KEY),
    now_ms=st.just(NOW_MS),
    course=_courses,
    batch=batches,
    rows=rows,
    content_types=_types,
    names=st.just({}),
    user=_users,
    failed=st.just(Search()),
    certificate_messages=st.just(Search()),
)
"""Learners in a batch, with everything that the rules ask for."""
