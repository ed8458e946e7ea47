"""The response report: one row a question, decimals kept, JSON made plain, and attempts that lack everything."""

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.model import Batch, Collection, ReportError
from reports.response import COLUMNS, AttemptRow, ResponseRows

ROWS = ResponseRows(Collection("course", "Roses", "owner"), Batch("course", "b", "May"), ZoneInfo("Asia/Kolkata"))
QUESTION: dict[str, Any] = {
    "id": "do_112887q1",
    "assess_ts": "2024-05-14 09:12:40.002Z",
    "max_score": 2.0,
    "score": 1.5,
    "type": "mcq",
    "title": "Which of these is a flower?",
    "resvalues": [{"1": '{"text":"Rose"}'}],
    "params": [{"1": '{"text":"Rose\\n"}'}, {"answer": '{"correct":["1"]}'}],
    "description": "",
    "duration": 12.5,
}


def rows(asked: Any, titles: dict[str, str] | None = None, **columns: Any) -> list[dict[str, str]]:
    attempt = AttemptRow("do_1", "a-1", datetime(2024, 5, 14, 9, 12, 40, 2000, tzinfo=UTC), 1.5, json.dumps(asked))
    return list(ROWS.rows("u-1", attempt._replace(**columns), titles or {}))


def test_every_cell() -> None:
    (cells,) = rows([QUESTION], {"do_1": "Quiz"})
    assert {title: cells[column] for column, title in COLUMNS.items()} == {
        "Collection Id": "course",
        "Collection Name": "Roses",
        "Batch Id": "BatchId_b",
        "Batch Name": "May",
        "User UUID": "u-1",
        "QuestionSet Id": "do_1",
        "QuestionSet Title": "Quiz",
        "Attempt Id": "a-1",
        "Attempted On": "2024-05-14T14:42:40.002+05:30",
        "Question Id": "do_112887q1",
        "Question Type": "mcq",
        "Question Title": "Which of these is a flower?",
        "Question Description": "",
        "Question Duration": "13",
        "Question Score": "1.5",
        "Question Max Score": "2.0",
        "Question Options": "[{'1':'{'text':'Rose'}'},{'answer':'{'correct':['1']}'}]",
        "Question Response": "[{'1':'{'text':'Rose'}'}]",
    }
    assert cells.keys() == COLUMNS.keys()


def test_one_row_a_question_in_order() -> None:
    assert [cells["questionid"] for cells in rows([{**QUESTION, "id": "q2"}, {**QUESTION, "id": "q1"}])] == ["q2", "q1"]


@pytest.mark.parametrize("questions", [None, []])
def test_an_attempt_without_questions_is_one_row(questions: Any) -> None:
    (cells,) = rows(questions)
    assert {column for column, cell in cells.items() if not cell} == {
        "contentname",
        *(column for column in COLUMNS if column.startswith("question")),
    }


def test_an_attempt_without_columns() -> None:
    (cells,) = rows(None, questions=None, last_attempted_on=None)
    assert cells["last_attempted_on"] == ""


def test_a_question_without_fields() -> None:
    (cells,) = rows([dict.fromkeys(QUESTION)])
    assert not any(cells[column] for column in COLUMNS if column.startswith("question"))


@pytest.mark.parametrize(
    ("duration", "cell"), [("0", "0"), ("0.5", "1"), ("12.4999", "12"), ("2.5", "3"), ("1E+3", "1E+3"), ("-0.4", "-0")]
)
def test_duration_is_rounded_half_up(duration: str, cell: str) -> None:
    (cells,) = rows(None, questions=f'[{{"duration": {duration}}}]')
    assert cells["questionduration"] == cell


def test_values_that_are_null() -> None:
    (cells,) = rows([{**QUESTION, "params": [None, {"1": None}], "resvalues": []}])
    assert (cells["questionoption"], cells["questionresponse"]) == ("[null,{'1':null}]", "[]")


def test_huge_texts() -> None:
    (cells,) = rows([{**QUESTION, "title": "x" * 3_000_000, "params": [{"1": "y" * 3_000_000}]}])
    assert len(cells["questiontitle"]) == 3_000_000
    assert len(cells["questionoption"]) == 3_000_010


@given(st.text())
def test_no_line_break_backslash_or_double_quote_is_left(text: str) -> None:
    (cells,) = rows([{**QUESTION, "params": [{"1": json.dumps(text)}], "resvalues": [{"1": text}]}])
    for cell in (cells["questionoption"], cells["questionresponse"]):
        assert not set('\r\n\\"') & set(cell)


def test_what_is_no_list_of_questions() -> None:
    with pytest.raises(ReportError, match="questions of attempt a-1 cannot be read"):
        rows({"id": "q"})


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        # As a text, and in the JSON that a player sends as a text.
        (r"a \neq b", "a neq b"),
        (json.dumps({"text": r"a \neq b"}), "{'text': 'a neq b'}"),
        (json.dumps({"text": r"\frac{1}{2} \rightarrow"}), "{'text': 'frac{1}{2} rightarrow'}"),
        (json.dumps({"text": "line\nbreak\r\n"}), "{'text': 'linebreak'}"),
        ("line\nbreak", "linebreak"),
        ("a\tb", "a b"),
        (json.dumps({"text": "a\tb"}), "{'text': 'a b'}"),
        (json.dumps({"text": "r\u00f3sa \U0001f339"}), "{'text': 'r\u00f3sa \U0001f339'}"),
        (json.dumps({"text": 'say "rose"'}), "{'text': 'say 'rose''}"),
        # No JSON after all: a number keeps its digits, half a surrogate pair has no meaning.
        ("1.50", "1.50"),
        ('{"text": "\\ud800"}', "{'text': 'ud800'}"),
        ("[" * 2_000, "[" * 2_000),
    ],
)
def test_formulas_keep_their_letters(value: str, cell: str) -> None:
    (cells,) = rows([{**QUESTION, "resvalues": [{"1": value}]}])
    assert cells["questionresponse"] == f"[{{'1':'{cell}'}}]"


def test_a_saved_draft_is_not_submitted() -> None:
    attempt = AttemptRow("do_1", "a-1", None, None, "[]")
    assert not attempt.is_submitted
    assert attempt._replace(total_score=0.0).is_submitted


def test_questions_that_are_nested_too_deeply() -> None:
    deep = '[{"unknown": ' + "[" * 100_000 + "]" * 100_000 + "}]"
    with pytest.raises(ReportError, match="questions of attempt a-1 cannot be read"):
        rows(None, questions=deep)
