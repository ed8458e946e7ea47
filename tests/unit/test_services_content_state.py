"""Content state read: validation in its order, and rows of every kind shaped as clients know them."""

import json
import struct
from datetime import UTC
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.content_state import AttemptTotals, Consumption, ContentStateQuery, parse, shape, shortest_float
from services.envelope import ApiError

COMPLETE = {"courseId": "c", "batchId": "b"}
EMPTY_ROW = Consumption("do_1", "c", "b", None, None, None, None, None, None, None, None)


def shaped(
    row: Consumption,
    attempts: tuple[AttemptTotals, ...] = (),
    aggregates: dict[str, float] | None = None,
    limit: int = 25,
) -> dict[str, Any]:
    states = shape([row], attempts, aggregates or {}, True, limit, UTC)
    [state] = json.loads(msgspec.json.encode(states))["contentList"]
    assert isinstance(state, dict)
    return state


@pytest.mark.parametrize(
    ("request_", "code", "message"),
    [
        ({"courseIds": "c", "contentIds": "d"}, "DATA_TYPE_ERROR", "Data type of courseIds should be List."),
        ({"contentIds": "d", "userId": ""}, "DATA_TYPE_ERROR", "Data type of contentIds should be List."),
        ({"contentIds": {"0": "d"}}, "DATA_TYPE_ERROR", "Data type of contentIds should be List."),
        ({"contentIds": ["d", 5]}, "DATA_TYPE_ERROR", "Data type of contentIds should be List."),
        ({"courseId": 5}, "DATA_TYPE_ERROR", "Data type of courseId should be String."),
        ({"fields": "score"}, "DATA_TYPE_ERROR", "Data type of fields should be List."),
        ({}, "MANDATORY_PARAMETER_MISSING", "Mandatory parameter userId is missing."),
        ({"userId": "u"}, "MANDATORY_PARAMETER_MISSING", "Mandatory parameter courseId is missing."),
        (
            {"userId": "u", "courseIds": [], "courseId": ""},
            "MANDATORY_PARAMETER_MISSING",
            "Mandatory parameter courseId is missing.",
        ),
        (
            {"userId": "u", "courseId": "c", "batchId": None},
            "MANDATORY_PARAMETER_MISSING",
            "Mandatory parameter batchId is missing.",
        ),
    ],
)
def test_the_first_problem_wins(request_: dict[str, Any], code: str, message: str) -> None:
    with pytest.raises(ApiError) as raised:
        parse(request_, None)

    assert (raised.value.http_status, raised.value.code, raised.value.message) == (400, code, message)


def test_the_tokens_user_overwrites_that_of_the_body() -> None:
    assert parse({**COMPLETE, "userId": "other"}, "u").user_id == "u"
    assert parse({**COMPLETE, "userId": "other"}, None).user_id == "other"


def test_a_query() -> None:
    request = {**COMPLETE, "contentIds": ["d", "d"], "fields": ["progress", "score"], "unknown": 1}

    assert parse(request, "u") == ContentStateQuery("u", "c", "b", {"d"}, True)
    assert parse({**COMPLETE, "contentIds": None, "fields": ["scores"]}, "u") == ("u", "c", "b", frozenset(), False)


def test_a_row_with_nothing_in_it() -> None:
    assert shaped(EMPTY_ROW) == {
        "contentId": "do_1",
        "courseId": "c",
        "collectionId": "c",
        "batchId": "b",
        "status": None,
        "progress": None,
        "viewCount": None,
        "completedCount": None,
        "completionPercentage": None,
        "progressdetails": None,
        "lastAccessTime": None,
        "lastCompletedTime": None,
        "score": [],
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("", None),
        (" ", None),
        ('{"max_size": 12, "current": ["7"]}', {"max_size": 12, "current": ["7"]}),
        ("{broken", "{broken"),
        ("NaN", "NaN"),
        ("[" * 100_000, "[" * 100_000),
        ('"' + "x" * 1_000_000 + '"', "x" * 1_000_000),
    ],
)
def test_progressdetails(text: str | None, value: object) -> None:
    assert shaped(EMPTY_ROW._replace(progressdetails=text))["progressdetails"] == value


def test_scores_are_doubles_in_the_order_of_the_attempts_without_drafts() -> None:
    attempts = (
        AttemptTotals("do_1", "a", 5, 7.0, 10.0),
        AttemptTotals("do_1", "b", None, None, None),
        AttemptTotals("do_1", "c", None, 0.0, None),
        AttemptTotals("do_2", "d", 5, 9.0, 10.0),
        AttemptTotals("do_1", "e", 5, 8.0, 10.0),
    )

    assert shaped(EMPTY_ROW, attempts)["score"] == [
        {"attemptId": "a", "lastAttemptedOn": 5, "totalScore": 7.0, "totalMaxScore": 10.0},
        {"attemptId": "c", "lastAttemptedOn": None, "totalScore": 0.0, "totalMaxScore": 0.0},
        {"attemptId": "e", "lastAttemptedOn": 5, "totalScore": 8.0, "totalMaxScore": 10.0},
    ]
    assert b'"totalScore":7.0' in msgspec.json.encode(shape([EMPTY_ROW], attempts, {}, True, 25, UTC))


def test_members_from_the_aggregates() -> None:
    aggregates = {"max_score:do_1": 10.0, "score:do_10": 3.0, "score:xdo_1": 4.0}

    without_score = shaped(EMPTY_ROW, (), aggregates)
    with_score = shaped(EMPTY_ROW, (), aggregates | {"score:do_1": 0.0, "attempts_count:do_1": 2.0})

    assert not {"bestScore", "maxScore", "attemptsCount"} & without_score.keys()
    assert with_score["bestScore"] == {"totalScore": 0.0, "totalMaxScore": 10.0}
    assert with_score["attemptsCount"] == 2.0
    assert "maxScore" not in with_score
    without_max = shaped(EMPTY_ROW, (), {"score:do_1": 7.5})
    assert without_max["bestScore"] == {"totalScore": 7.5, "totalMaxScore": 0.0}


def test_of_too_many_attempts_the_best_and_the_latest_are_given() -> None:
    times = [1, 9, 2, 8, 3, 7]
    scores = [9.5, 4.0, 9.5, 1.0, 2.0, 3.0]
    attempts = tuple(
        AttemptTotals("do_1", f"a{number}", time, score, 10.0)
        for number, (time, score) in enumerate(zip(times, scores, strict=True))
    )

    def given(limit: int) -> list[str]:
        return [attempt["attemptId"] for attempt in shaped(EMPTY_ROW, attempts, limit=limit)["score"]]

    assert given(6) == ["a0", "a1", "a2", "a3", "a4", "a5"]
    assert given(3) == ["a0", "a1", "a3"]
    assert given(1) == ["a0"]
    draft = AttemptTotals("do_1", "a", 99, None, None)
    assert shaped(EMPTY_ROW, (draft, *attempts), limit=1) == shaped(EMPTY_ROW, attempts, limit=1)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60))
def test_the_maximum_of_the_given_attempts_is_the_best_score(scores: list[float]) -> None:
    attempts = tuple(AttemptTotals("do_1", f"a{number:02}", number, score, None) for number, score in enumerate(scores))

    given_scores = [attempt["totalScore"] for attempt in shaped(EMPTY_ROW, attempts)["score"]]

    assert max(given_scores) == max(scores)
    assert len(given_scores) == min(len(scores), 25)


def test_without_score_nothing_of_it_is_there() -> None:
    states = shape([EMPTY_ROW], (AttemptTotals("do_1", "a", 5, 7.0, 10.0),), {"score:do_1": 7.0}, False, 25, UTC)

    assert not {"score", "bestScore"} & json.loads(msgspec.json.encode(states))["contentList"][0].keys()


@given(st.floats(width=32, allow_nan=False))
def test_the_shortest_float_is_the_same_float(value: float) -> None:
    shortest = shortest_float(value)

    assert shortest is not None
    assert struct.pack(">f", shortest) == struct.pack(">f", value)


def test_a_float_looks_as_it_was_written() -> None:
    [stored] = struct.unpack(">f", struct.pack(">f", 99.9))

    assert (shortest_float(stored), shortest_float(100.0), shortest_float(None)) == (99.9, 100.0, None)
