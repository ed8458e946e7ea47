"""Submit, save and read of assessments: validation, what is published, whose data it is."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.events import Refused
from services import assessment_scores
from services.assessment import (
    CAPTURED,
    INVALID_ASSESSMENT,
    AcceptedAssessment,
    Assessment,
    IncompleteAssessment,
    RefusedAssessment,
    check_content,
    parse,
    results,
)
from services.assessment_scores import ReadQuery, shape
from services.envelope import EMPTY, INVALID, ApiError

USER = "u"
LIMIT = 3
NOW_MS = 1_800_000_000_000
EVENT = {"ets": 5, "edata": {"score": 7.5, "item": {"id": "q", "maxscore": 10}}}
COMPLETE = {"contentId": "do_1", "attemptId": "a", "assessmentTs": 7, "events": [EVENT]}


def read_one(assessment: dict[str, Any]) -> Assessment:
    [parsed] = parse(json.dumps({"assessments": [assessment]}).encode(), "u", NOW_MS, LIMIT)
    return parsed


def published(assessment: dict[str, Any]) -> dict[str, Any]:
    parsed = read_one(assessment)
    assert isinstance(parsed, AcceptedAssessment), parsed
    message: dict[str, Any] = json.loads(parsed.message)
    return message


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        (None, {"request.assessments": EMPTY}),
        (b"null", {"request.assessments": EMPTY}),
        (b"{}", {"request.assessments": EMPTY}),
        (b'{"assessments": []}', {"request.assessments": EMPTY}),
        (b'{"assessments": null, "contentId": "do_1", "events": []}', {"request.assessments": EMPTY}),
        (b'{"assessments": [5]}', {"request.assessments": INVALID}),
        (b'{"assessments": "text"}', {"request.assessments": INVALID}),
        (b"[]", {"request.assessments": INVALID}),
        # Neither an attempt nor an ASSESS event.
        (b'{"assessments": [{}]}', {"request.assessments": INVALID}),
        (b'{"contentId": "do_1", "assessments": [{"eid": "ASSESS"}]}', {"request.assessments": INVALID}),
        # ASSESS events of no content.
        (b'{"assessments": [{"edata": {}}]}', {"request.contentId": EMPTY}),
        (b'{"contentId": " ", "events": [{"edata": {}}]}', {"request.contentId": EMPTY}),
    ],
)
def test_requests_that_are_refused(request_: bytes | None, messages: dict[str, str]) -> None:
    with pytest.raises(ApiError) as raised:
        parse(request_, USER, NOW_MS, LIMIT)

    assert (raised.value.http_status, raised.value.fields) == (400, messages)


def test_the_number_of_assessments_in_a_request_is_bounded() -> None:
    def request_of(count: int, **members: Any) -> bytes:
        return json.dumps({"assessments": [{"contentId": "do_1"}] * count, **members}).encode()

    assert len(parse(request_of(LIMIT), USER, NOW_MS, LIMIT)) == LIMIT
    for request in (request_of(LIMIT + 1), request_of(LIMIT + 1, contentId="do_1")):
        with pytest.raises(ApiError) as raised:
            parse(request, USER, NOW_MS, LIMIT)
        assert raised.value.http_status == 400
        assert raised.value.fields == {"request.assessments": "No more than 3 assessments are taken at a time"}


@pytest.mark.parametrize("name", ["assessments", "events"])
def test_one_attempt_may_stand_in_the_request_itself(name: str) -> None:
    """As Sunbird documents /v1/assessment/submit: ``assessments`` are the ASSESS events."""
    flat = {"contentId": "do_1", "collectionId": "c", "contextId": "b", "attemptId": "a", "assessmentTs": 7}
    # More events than assessments are allowed: each is the answer to one question.
    events = [EVENT] * (LIMIT + 1)

    [parsed] = parse(json.dumps({**flat, name: events, "more": 1}).encode(), USER, NOW_MS, LIMIT)

    assert isinstance(parsed, AcceptedAssessment)
    ids = {"userId": USER, "courseId": "c", "batchId": "b"}
    assert json.loads(parsed.message) == {**flat, **ids, "events": events, "more": 1}


def test_an_attempt_without_an_id_gets_one_that_is_the_same_when_it_is_sent_again() -> None:
    def attempt_id(user_id: str = USER, now_ms: int = NOW_MS, **changes: Any) -> str:
        flat = {"contentId": "do_1", "assessments": [EVENT], **changes}
        [parsed] = parse(json.dumps(flat).encode(), user_id, now_ms, LIMIT)
        assert isinstance(parsed, AcceptedAssessment)
        assert parsed.event.attempt is not None
        return parsed.event.attempt.attempt_id

    assert attempt_id() == attempt_id(now_ms=NOW_MS + 60_000)
    others = [
        attempt_id(),
        attempt_id("u2"),
        attempt_id(contentId="do_2"),
        attempt_id(collectionId="c"),
        attempt_id(assessmentTs=8),
        attempt_id(assessments=[{**EVENT, "ets": 6}]),
    ]
    assert len(set(others)) == len(others)


@pytest.mark.parametrize(
    ("time", "time_ms"),
    [
        (7, 7),
        ("1715657560002", 1_715_657_560_002),
        ("2024-05-14T03:32:40.002Z", 1_715_657_560_002),
        ("2024-05-14T09:02:40.002+05:30", 1_715_657_560_002),
        ("2024-05-14T03:32:40.002", 1_715_657_560_002),
        (None, NOW_MS),
    ],
)
def test_the_time_of_an_attempt_is_a_number_numeric_text_or_iso_8601(time: object, time_ms: int) -> None:
    parsed = read_one({**COMPLETE, "assessmentTs": time})

    assert isinstance(parsed, AcceptedAssessment)
    assert parsed.event.time_ms == time_ms


def test_each_assessment_needs_its_ids() -> None:
    assert read_one({"events": [EVENT]}) == IncompleteAssessment(
        "", '{"request.contentId":"Field cannot be empty","request.attemptId":"Field cannot be empty"}'
    )
    assert read_one({**COMPLETE, "attemptId": " "}) == IncompleteAssessment(
        "do_1", '{"request.attemptId":"Field cannot be empty"}'
    )


def test_what_is_published_is_what_was_sent_with_the_aggregators_names() -> None:
    sent = {**COMPLETE, "collectionId": "c", "contextId": "b", "courseId": "x", "batchId": "y", "more": [1, None]}

    assert published(sent) == {**sent, "userId": "u", "courseId": "c", "batchId": "b"}


@pytest.mark.parametrize(
    ("ids", "course_id", "batch_id"),
    [
        ({}, "do_1", "do_1"),
        ({"collectionId": "c"}, "c", "c"),
        ({"contextId": "b"}, "do_1", "b"),
        ({"collectionId": "", "contextId": None}, "do_1", "do_1"),
        ({"courseId": "c", "batchId": "b"}, "c", "b"),
    ],
)
def test_ids_that_are_missing_default(ids: dict[str, str | None], course_id: str, batch_id: str) -> None:
    message = published({**COMPLETE, **ids})

    assert (message["courseId"], message["batchId"]) == (course_id, batch_id)


def test_a_missing_time_is_now() -> None:
    assert published({**COMPLETE, "assessmentTs": None})["assessmentTs"] == NOW_MS
    assert published(COMPLETE)["assessmentTs"] == 7


def test_no_field_makes_it_another_users() -> None:
    events = [{**EVENT, "actor": {"id": "other", "type": "User"}}, {**EVENT, "actor": "other"}, EVENT]

    message = published({**COMPLETE, "userId": "other", "events": events})
    duplicated = b'{"assessments": [{"contentId":"d","userId":"u","attemptId":"a","events":[%s],"userId":"other"}]}'
    [parsed] = parse(duplicated % json.dumps(EVENT).encode(), "u", NOW_MS, LIMIT)

    assert message["userId"] == "u"
    assert [event.get("actor") for event in message["events"]] == [{"id": "u", "type": "User"}, "other", None]
    assert isinstance(parsed, AcceptedAssessment)
    assert b"other" not in parsed.message


@pytest.mark.parametrize(
    "changes",
    [
        {"events": None},
        {"events": []},
        {"events": [5]},
        {"events": [{"edata": {"score": "many"}}]},
        {"events": [{**EVENT, "ets": None}]},
        {"contentId": 5},
        {"collectionId": ["c"]},
        {"assessmentTs": "yesterday"},
        {"assessmentTs": -1},
        {"attemptId": "x" * 70_000},
    ],
)
def test_what_the_aggregator_would_refuse_is_invalid(changes: dict[str, Any]) -> None:
    parsed = read_one({**COMPLETE, **changes})

    assert isinstance(parsed, RefusedAssessment)
    assert json.loads(parsed.message)["userId"] == "u"
    assert parsed.refusal.reason.startswith("event ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*COMPLETE, "userId", "collectionId", "courseId"]), JSON))
def test_whatever_is_sent_belongs_to_the_tokens_user(changes: dict[str, Any]) -> None:
    [parsed] = parse(msgspec.json.encode({"assessments": [{**COMPLETE, **changes}]}), "u", NOW_MS, LIMIT)

    if isinstance(parsed, IncompleteAssessment):
        assert EMPTY in parsed.text
    else:
        assert parsed.user_id == json.loads(parsed.message)["userId"] == "u"


def test_the_content_must_be_a_leaf_node_where_those_are_known() -> None:
    attempt = read_one(COMPLETE)
    assert isinstance(attempt, AcceptedAssessment)

    assert check_content(attempt, frozenset()) == attempt
    assert check_content(attempt, {"do_1", "do_2"}) == attempt
    for leaf_nodes, kind, reason in (
        ({"do_2"}, "content_not_in_course", "content 'do_1' is not part of course 'do_1'"),
        (Refused("bad_cache_value", "no set"), "bad_cache_value", "no set"),
    ):
        refused = check_content(attempt, leaf_nodes)
        assert isinstance(refused, RefusedAssessment)
        assert (refused.user_id, refused.content_id, refused.message) == ("u", "do_1", attempt.message)
        assert (refused.refusal.kind, refused.refusal.reason) == (kind, reason)


def test_results_are_texts_by_content() -> None:
    attempt = read_one(COMPLETE)
    refused = RefusedAssessment("u", "do_1", b"", Refused("kind", "reason"))
    checked = [attempt, IncompleteAssessment("do_2", "text"), refused, attempt]

    texts = [CAPTURED, INVALID_ASSESSMENT, CAPTURED]
    assert results(checked, {0: CAPTURED, 3: CAPTURED}) == {"do_1": texts, "do_2": ["text"]}


def test_reads() -> None:
    query = assessment_scores.parse(
        b'{"collectionId":"c","contextId":"b","contentId":["x","x","y"],"userId":"other"}', "u"
    )

    assert query == ReadQuery("u", "c", "b", ("x", "y"))
    assert assessment_scores.parse(b'{"courseId":"c","batchId":"b"}', "u") == ReadQuery("u", "c", "b", None)
    assert assessment_scores.parse(b'{"contentId":"x"}', "u") == ReadQuery("u", "x", "x", ("x",))
    assert assessment_scores.parse(b'{"collectionId":"c","contentId":[]}', "u") == ReadQuery("u", "c", "c", None)


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        (None, {"request.collectionId": EMPTY}),
        (b'{"contentId":["x"]}', {"request.collectionId": EMPTY}),
        (b'{"collectionId":5}', {"request.collectionId": INVALID}),
        (b'{"contentId":[5]}', {"request.contentId": INVALID}),
        (b"[]", {"request": INVALID}),
    ],
)
def test_reads_that_are_refused(request_: bytes | None, messages: dict[str, str]) -> None:
    with pytest.raises(ApiError) as raised:
        assessment_scores.parse(request_, USER)

    assert (raised.value.http_status, raised.value.fields) == (400, messages)


def test_scores_of_a_read() -> None:
    aggregates = {"score:b": 0.0, "score:a": 7.5, "max_score:a": 10.0, "attempts_count:a": 2.0, "max_score:c": 1.0}

    every = json.loads(msgspec.json.encode(shape(ReadQuery("u", "c", "b", None), aggregates)))
    chosen = shape(ReadQuery("u", "c", "b", ("c", "b", "a")), aggregates)

    assert every == {
        "userId": "u",
        "collectionId": "c",
        "contextId": "b",
        "contents": [
            {"identifier": "a", "score": 7.5, "max_score": 10.0, "attempts_count": 2.0},
            {"identifier": "b", "score": 0.0},
        ],
    }
    assert [content.identifier for content in chosen.contents] == ["b", "a"]
