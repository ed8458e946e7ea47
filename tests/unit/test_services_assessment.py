"""Submit, save and read of assessments: validation, what is published, whose data it is."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.domain.events import Refused
from services.assessment import (
    CAPTURED,
    EMPTY,
    INVALID,
    Assessment,
    Attempt,
    Incomplete,
    Invalid,
    ReadQuery,
    check_content,
    parse,
    parse_read,
    results,
    score_hash,
    shape,
)
from services.envelope import ApiError

NOW_MS = 1_800_000_000_000
EVENT = {"ets": 5, "edata": {"score": 7.5, "item": {"id": "q", "maxscore": 10}}}
COMPLETE = {"contentId": "do_1", "attemptId": "a", "assessmentTs": 7, "events": [EVENT]}


def read_one(assessment: dict[str, Any]) -> Assessment:
    [parsed] = parse(json.dumps({"assessments": [assessment]}).encode(), "u", NOW_MS)
    return parsed


def published(assessment: dict[str, Any]) -> dict[str, Any]:
    parsed = read_one(assessment)
    assert isinstance(parsed, Attempt), parsed
    message: dict[str, Any] = json.loads(parsed.message)
    return message


@pytest.mark.parametrize(
    ("request_", "user_id", "messages"),
    [
        (None, "u", {"request.assessments": EMPTY}),
        (b"null", "u", {"request.assessments": EMPTY}),
        (b"{}", "u", {"request.assessments": EMPTY}),
        (b'{"assessments": []}', "u", {"request.assessments": EMPTY}),
        (b'{"assessments": [5]}', "u", {"request.assessments": INVALID}),
        (b"[]", "u", {"request.assessments": INVALID}),
        (b'{"assessments": [{}]}', None, {"request.userId": "Invalid User-authenticated-Token Header"}),
        (
            b"{}",
            None,
            {"request.userId": "Invalid User-authenticated-Token Header", "request.assessments": EMPTY},
        ),
    ],
)
def test_requests_that_are_refused(request_: bytes | None, user_id: str | None, messages: dict[str, str]) -> None:
    with pytest.raises(ApiError) as raised:
        parse(request_, user_id, NOW_MS)

    assert (raised.value.http_status, raised.value.fields) == (400, messages)


def test_each_assessment_needs_its_ids() -> None:
    assert read_one({}) == Incomplete(
        "", '{"request.contentId":"Field cannot be empty","request.attemptId":"Field cannot be empty"}'
    )
    assert read_one({**COMPLETE, "attemptId": " "}) == Incomplete(
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
    [parsed] = parse(duplicated % json.dumps(EVENT).encode(), "u", NOW_MS)

    assert message["userId"] == "u"
    assert [event.get("actor") for event in message["events"]] == [{"id": "u", "type": "User"}, "other", None]
    assert isinstance(parsed, Attempt)
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

    assert isinstance(parsed, Invalid)
    assert json.loads(parsed.message)["userId"] == "u"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from([*COMPLETE, "userId", "collectionId", "courseId"]), JSON))
def test_whatever_is_sent_belongs_to_the_tokens_user(changes: dict[str, Any]) -> None:
    [parsed] = parse(msgspec.json.encode({"assessments": [{**COMPLETE, **changes}]}), "u", NOW_MS)

    if isinstance(parsed, Incomplete):
        assert EMPTY in parsed.text
    else:
        assert parsed.user_id == json.loads(parsed.message)["userId"] == "u"


def test_the_content_must_be_a_leaf_node_where_those_are_known() -> None:
    attempt = read_one(COMPLETE)
    assert isinstance(attempt, Attempt)

    assert check_content(attempt, frozenset()) == attempt
    assert check_content(attempt, {"do_1", "do_2"}) == attempt
    invalid = Invalid("u", "do_1", attempt.message)
    assert check_content(attempt, {"do_2"}) == invalid
    assert check_content(attempt, Refused("bad_cache_value", "no set")) == invalid


def test_results_are_texts_by_content() -> None:
    attempt = read_one(COMPLETE)
    checked = [attempt, Incomplete("do_2", "text"), Invalid("u", "do_1", b""), attempt]

    assert results(checked, {0: CAPTURED, 3: CAPTURED}) == {"do_1": [CAPTURED, INVALID, CAPTURED], "do_2": ["text"]}


def test_the_score_is_that_of_the_latest_answers() -> None:
    again = {**EVENT, "ets": 6, "edata": {"score": 2, "item": {"id": "q", "maxscore": 10}}}
    attempt = read_one({**COMPLETE, "collectionId": "c", "contextId": "b", "events": [again, EVENT]})
    assert isinstance(attempt, Attempt)

    assert score_hash(attempt) == ("u:do_1:c:b", {"score": "2.0", "maxScore": "10.0"})


def test_reads() -> None:
    query = parse_read(b'{"collectionId":"c","contextId":"b","contentId":["x","x","y"],"userId":"other"}', "u")

    assert query == ReadQuery("u", "c", "b", ("x", "y"))
    assert parse_read(b'{"courseId":"c","batchId":"b"}', "u") == ReadQuery("u", "c", "b", None)
    assert parse_read(b'{"contentId":"x"}', "u") == ReadQuery("u", "x", "x", ("x",))
    assert parse_read(b'{"collectionId":"c","contentId":[]}', "u") == ReadQuery("u", "c", "c", None)


@pytest.mark.parametrize(
    ("request_", "user_id", "messages"),
    [
        (b'{"collectionId":"c"}', None, {"request.userId": "Invalid User-authenticated-Token Header"}),
        (None, "u", {"request.collectionId": EMPTY}),
        (b'{"contentId":["x"]}', "u", {"request.collectionId": EMPTY}),
        (b'{"collectionId":5}', "u", {"request.collectionId": INVALID}),
        (b'{"contentId":[5]}', "u", {"request.contentId": INVALID}),
        (b"[]", "u", {"request": INVALID}),
    ],
)
def test_reads_that_are_refused(request_: bytes | None, user_id: str | None, messages: dict[str, str]) -> None:
    with pytest.raises(ApiError) as raised:
        parse_read(request_, user_id)

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
