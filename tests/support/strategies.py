"""Hypothesis strategies, and the example event that they are variations of."""

import json
from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from common.domain.attempts import AssessmentEvent, SubmittedAttempt
from common.domain.enrolments import EnrolmentKey
from common.domain.events import MAX_TIME_MS, to_datetime
from common.domain.questions import Question, to_item, to_responses
from jobs.assessment_aggregator.rules import Attempt

JsonObject = dict[str, Any]

T0 = 1_715_677_960_002
"""May 14, 2024, 9:12:40 AM in UTC, and 2 ms."""


def answer(**edata: Any) -> JsonObject:
    """An ASSESS event as the players send it; ``edata`` replaces members of its ``edata``, None removes them."""
    members = {
        "index": 1,
        "pass": "Yes",
        "score": 1.5,
        "duration": 12.4,
        "resvalues": [{"1": '{"text":"Rose"}'}],
        "item": item(),
        **edata,
    }
    return {
        "eid": "ASSESS",
        "ets": T0 - 10_000,
        "ver": "3.1",
        "mid": "ASSESS:1f9a",
        "actor": {"id": "u-1", "type": "User"},
        "edata": {key: value for key, value in members.items() if value is not None},
    }


def item(**members: Any) -> JsonObject:
    """The question of :func:`answer`; ``members`` are replaced in it, None removes them."""
    all_members = {
        "id": "do_112887q1",
        "type": "mcq",
        "title": "Which of these is a flower?",
        "desc": "",
        "maxscore": 2,
        "mc": [],
        "params": [{"1": '{"text":"Rose"}'}, {"2": '{"text":"Stone"}'}, {"answer": '{"correct":["1"]}'}],
        **members,
    }
    return {key: value for key, value in all_members.items() if value is not None}


def submission(**members: Any) -> JsonObject:
    """An event of ``telemetry.assess`` with one answer; ``members`` are replaced in it, None removes them."""
    all_members = {
        "assessmentTs": T0,
        "batchId": "0130929928739635200",
        "courseId": "do_1130928636168192001667",
        "userId": "u-1",
        "attemptId": "3bb2c1d6f7d1f4c3a2e5b9c0d8e7f6a5",
        "contentId": "do_1128870328040161281204",
        "events": [answer()],
        **members,
    }
    return {key: value for key, value in all_members.items() if value is not None}


texts = st.text(max_size=20)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(texts, values, max_size=3),
    max_leaves=8,
)

json_objects = st.dictionaries(texts | st.sampled_from(["userId", "edata", "metadata", "payload"]), json_values)

times_ms = st.integers(0, MAX_TIME_MS)

finite_decimals = st.decimals(allow_nan=False, allow_infinity=False).filter(
    lambda value: -324 <= value.adjusted() <= 308
) | st.decimals(-1000, 1000, places=2)

text_maps = st.lists(st.dictionaries(texts, texts, max_size=3), max_size=3).map(tuple)

questions = st.builds(
    Question,
    item=st.builds(
        to_item,
        id=texts,
        max_score=st.floats(allow_nan=False),
        type=st.none() | texts,
        title=st.none() | texts,
        params=text_maps,
        description=st.none() | texts,
    ),
    time_ms=times_ms,
    score=st.floats(allow_nan=False),
    resvalues=text_maps.map(to_responses),
    duration=st.none() | finite_decimals,
)


@st.composite
def mangled(draw: st.DrawFn, value: bytes) -> bytes:
    """``value`` with a few of its bytes cut out, doubled or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(value)))
        end = draw(st.integers(start, min(len(value), start + 40)))
        middle = draw(
            st.sampled_from([b"", value[start:end] * 2, b"NaN", b"null", b"1e999", b'"', b"\xff", b"[" * 3000])
        )
        value = value[:start] + middle + value[end:]
    return value


@st.composite
def with_odd_value(draw: st.DrawFn, value: JsonObject) -> JsonObject:
    """``value`` with any JSON value in the place of one that stands anywhere in it."""
    copy: JsonObject = json.loads(json.dumps(value))
    parent: Any = copy
    while True:
        key = draw(st.sampled_from(list(range(len(parent)) if isinstance(parent, list) else parent)))
        if not isinstance(parent[key], list | dict) or not parent[key] or draw(st.booleans()):
            parent[key] = draw(json_values | st.sampled_from([10**400, -1, "1e999", "NaN", 1e308, 2**63, "", " "]))
            return copy
        parent = parent[key]


# Few of everything, so that events meet.

ASHA = EnrolmentKey("asha", "course", "batch")
enrolments = st.sampled_from([ASHA, ASHA._replace(batch_id="other batch"), EnrolmentKey("binod", "course", "batch")])
content_ids = st.sampled_from(["do_1", "do_11", "do_\U0001f600", "do_\uffee"])
attempt_ids = st.sampled_from(["a", "b", "c"])
times_after_t0 = st.integers(0, 5).map(T0.__add__)
scores = st.sampled_from([0.0, 0.1, 0.30000000000000004, 6.0, 7.5, 10.0, 1e308]) | st.floats(0, 100)


@st.composite
def assessment_events(
    draw: st.DrawFn, of: st.SearchStrategy[EnrolmentKey] = enrolments, recomputes: bool = True
) -> AssessmentEvent:
    """Submitted attempts, and among them some recompute requests."""
    attempt = None
    if not recomputes or draw(st.integers(0, 4)) > 0:
        attempt = SubmittedAttempt(draw(attempt_ids), (), draw(scores), draw(scores))
    return AssessmentEvent(draw(of), draw(content_ids), draw(times_after_t0), attempt)


@st.composite
def stored_attempts(draw: st.DrawFn) -> list[Attempt]:
    """Attempts of one enrolment, among them drafts and rows that other writers left incomplete."""
    keys = draw(st.sets(st.tuples(content_ids, attempt_ids), max_size=6))
    times: st.SearchStrategy[datetime | None] = st.none() | times_after_t0.map(to_datetime)
    return [
        Attempt(content_id, attempt_id, draw(times), draw(times), draw(st.none() | scores), draw(st.none() | scores))
        for content_id, attempt_id in keys
    ]
