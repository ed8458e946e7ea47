"""Rows of archived attempts: as Spark writes them, and broken in every way that a row can be."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import archive
from reports.archive import Archived, Malformed
from reports.model import Batch, ReportError
from reports.response import AttemptRow, with_archived
from tests.support.archive import COLUMNS, csv_file, row

BATCH = Batch("course", "b", "May")
NOON = datetime(2024, 5, 14, 12, tzinfo=UTC)
# What Apache Spark 3.5 has written for the statements of Sunbird's job.
OF_SPARK = r"""course_id,batch_id,user_id,content_id,attempt_id,last_attempted_on,total_max_score,total_score,question
course,b,u1,do_1,a1,2024-05-14T17:30:00.123+05:30,2.0,1.5,"[{\"id\":\"q1\",\"assess_ts\":\"2024-05-14T17:30:00.123+05:30\",
\"max_score\":2.0,\"score\":1.5,\"type\":\"mcq\",\"title\":\"Which of these\\nis a \\\\ \\\"flower\\\", \\\\neq?\",
\"resvalues\":[{\"1\":\"{\\\"text\\\":\\\"Rose\\\\n\\\"}\"}],\"params\":[{\"1\":\"{\\\"text\\\":\\\"Rose\\\"}\"},
{\"2\":\"line\\nbreak\"}],\"description\":\"\",\"duration\":12.500000000000000000}]"
course,b,u2,do_1,"a,\"2",2024-05-14T17:30:00.123+05:30,,,
course,b,u3,do_1,a\3,,2.0,NaN,[]
course,b,u4,do_1,"a
4",2024-05-14T17:30:00.000+05:30,2.0,2.0,[]
course,b,u5,do_1,\,2024-05-14T17:30:00.123+05:30,2.0,2.0,[]
course,b,u6,do_1,"x,\\",2024-05-14T17:30:00.123+05:30,2.0,2.0,[]
""".replace(",\n\\", ",\\").replace(",\n{", ",{")  # The line of u1 was too long for this file.


def read(content: str | bytes, batch: Batch = BATCH) -> list[Archived | Malformed]:
    data = content if isinstance(content, bytes) else content.encode()
    return list(archive.read(io.TextIOWrapper(io.BytesIO(data), "utf-8", "surrogateescape", newline=""), batch))


def read_one(**columns: Any) -> Archived | Malformed:
    (found,) = read(csv_file([row("u1", "course", "b", **columns)]))
    return found


def test_a_file_of_spark() -> None:
    found = [each for each in read(OF_SPARK) if isinstance(each, Archived)]
    ids = [("u1", "a1"), ("u3", "a\\3"), ("u4", "a\n4"), ("u5", "\\"), ("u6", "x,\\")]
    assert [(each.user_id, each.attempt.attempt_id) for each in found] == ids
    first = found[0].attempt
    assert (first.last_attempted_on, first.total_score) == (NOON.replace(microsecond=123_000), 1.5)
    assert found[1].attempt.last_attempted_on is None
    (question,) = json.loads(first.questions or "")
    assert question["title"] == 'Which of these\nis a \\ "flower", \\neq?'
    assert question["resvalues"] == [{"1": '{"text":"Rose\\n"}'}]
    assert question["params"] == [{"1": '{"text":"Rose"}'}, {"2": "line\nbreak"}]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_as_an_id(attempt_id: str) -> None:
    found = read_one(attempt_id=attempt_id)
    assert isinstance(found, Archived)
    assert found.attempt.attempt_id == attempt_id


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_in_a_question(title: str, answer: str) -> None:
    questions = [{"id": "q1", "title": title, "resvalues": [{"1": json.dumps({"text": answer})}]}]
    found = read_one(question=questions)
    assert isinstance(found, Archived)
    assert json.loads(found.attempt.questions or "") == questions


def test_line_breaks_between_the_parts_of_json() -> None:
    found = read_one(question=json.dumps([{"id": "q1", "title": 'a "b"'}], indent=2))
    assert isinstance(found, Archived)
    assert json.loads(found.attempt.questions or "") == [{"id": "q1", "title": 'a "b"'}]


@pytest.mark.parametrize(
    "text",
    ["1715688000000", "2024-05-14T12:00:00.000Z", "2024-05-14T17:30:00.000+05:30", "2024-05-14 12:00:00.000"],
)
def test_times(text: str) -> None:
    found = read_one(last_attempted_on=text)
    assert isinstance(found, Archived)
    assert found.attempt.last_attempted_on == NOON


@pytest.mark.parametrize("text", ["", "null"])
def test_unset_cells(text: str) -> None:
    attempt = AttemptRow("do_1", "a1", None, 1.5, None)
    assert read_one(last_attempted_on=text, question=text) == Archived("u1", attempt)


def test_drafts_and_other_batches_are_no_rows_of_the_report() -> None:
    rows = [
        row("u1", "course", "b", total_score=None),
        row("u1", "other-course", "b"),
        row("u1", "course", "other-batch", question="of no concern"),
    ]
    assert read(csv_file(rows)) == []


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"total_score": "ten"}, "total_score is no number: 'ten'"),
        ({"last_attempted_on": "noon"}, "last_attempted_on is no time: 'noon'"),
        ({"last_attempted_on": "9" * 19}, "last_attempted_on is no time"),
        ({"last_attempted_on": "9999-12-31T23:59:59-12:00"}, "last_attempted_on is no time"),
        ({"question": '[{"id":'}, "The questions of attempt a1 cannot be read"),
        ({"question": '[{"id":"q1","score":"one"}]'}, "The questions of attempt a1 cannot be read"),
        ({"question": "[" * 100_000}, "The questions of attempt a1 cannot be read"),
        ({"user_id": ""}, "an id is empty"),
        ({"attempt_id": ""}, "an id is empty"),
    ],
)
def test_a_cell_that_cannot_be_read(columns: dict[str, str], reason: str) -> None:
    broken = {**row("u1", "course", "b"), **columns}
    found = read(csv_file([row("u0", "course", "b"), broken, row("u2", "course", "b")]))
    assert [each.user_id if isinstance(each, Archived) else each.line for each in found] == ["u0", 3, "u2"]
    assert isinstance(found[1], Malformed)
    assert found[1].reason.startswith(reason)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("course,b,u1", "3 cells instead of 12"),
        ('course,b,u1,do_1,a1,,,,,1.5,,"[]"x', "',' expected after '\"'"),
        ('course,b,u1,do_1,a1,,,,,1.5,,"[]', "unexpected end of data"),
    ],
)
def test_a_row_that_cannot_be_read(line: str, reason: str) -> None:
    assert read(csv_file([row("u0", "course", "b")]) + line.encode())[1:] == [Malformed(3, reason)]


def test_bytes_that_are_not_utf_8() -> None:
    content = csv_file([row("u1", "course", "b", attempt_id="name"), row("u2", "course", "b")]).replace(
        b"name", b"\xff"
    )
    malformed, whole = read(content)
    assert malformed == Malformed(2, "attempt_id is not UTF-8")
    assert isinstance(whole, Archived)


def test_a_quote_that_is_never_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows are lost up to the longest cell, and no others."""
    monkeypatch.setattr(archive, "LONGEST_CELL", 200)
    lines = ['course,b,u0,do_1,a1,,,,,1.5,,"[]', *["course,b,u1,do_1,a1,,,,,1.5,,[]"] * 20]
    malformed, *others = read(",".join(COLUMNS) + "\n" + "\n".join(lines))
    assert malformed == Malformed(2, "field larger than field limit (200)")
    assert len(others) > 10
    assert all(isinstance(each, Archived) for each in others)


def test_files_without_rows() -> None:
    assert read("") == []
    assert read(csv_file([])) == []


@pytest.mark.parametrize("missing", ["user_id", "question", "total_score"])
def test_a_column_that_is_missing(missing: str) -> None:
    columns = [name for name in COLUMNS if name != missing]
    with pytest.raises(ReportError, match=f"there is no column {missing}"):
        read(csv_file([row("u1", "course", "b")], columns))


def test_the_order_of_files() -> None:
    names = ["2024-3-9.csv", "2024-3-10.csv.gz", "2024-22-1.csv", "2025-1-1-part-0.csv", "2025-1-1.csv.gz"]
    others = ["_SUCCESS", "2024-22.csv", "2024-3-1.json", "x2024-3-1.csv", "2024-3-1.csv.gz.crc"]
    paths = [f"b/{name}" for name in sorted(names + others)]
    assert archive.files_in_order(paths) == [f"b/{name}" for name in [*names[:3], names[4], names[3]]]


def test_the_order_of_files_at_new_year() -> None:
    """30 December 2024 is in the first week, which is that of 2025."""
    names = ["2024-50-1734000000000.csv.gz", "2024-1-1735600000000.csv.gz", "2025-2-1736500000000.csv.gz"]
    assert archive.files_in_order(sorted(names)) == names


def test_an_attempt_that_is_also_in_cassandra() -> None:
    stored = [AttemptRow("do_2", "a1", NOON, 2.0, None)]
    archived = [AttemptRow("do_2", "a1", None, 1.0, None), AttemptRow("do_1", "a1", None, 1.0, None)]
    assert with_archived(stored, archived) == [archived[1], stored[0]]
