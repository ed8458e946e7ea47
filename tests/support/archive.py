"""Archived attempts as Sunbird's job has Apache Spark write them."""

import gzip
import json
from collections.abc import Mapping, Sequence
from typing import Any

COLUMNS = (
    "course_id",
    "batch_id",
    "user_id",
    "content_id",
    "attempt_id",
    "created_on",
    "grand_total",
    "last_attempted_on",
    "total_max_score",
    "total_score",
    "updated_on",
    "question",
)
"""In the order of the job's later releases."""


def row(user_id: str, course_id: str, batch_id: str, **columns: Any) -> dict[str, str]:
    """A submitted attempt; ``question`` is a list, or a text as it is to stand in its cell."""
    values = {
        "course_id": course_id,
        "batch_id": batch_id,
        "user_id": user_id,
        "content_id": "do_1",
        "attempt_id": "a1",
        "grand_total": "1.5/2",
        "last_attempted_on": 1715688000000,
        "total_max_score": 2.0,
        "total_score": 1.5,
        **columns,
    }
    if not isinstance(question := values.get("question", []), str):
        values["question"] = json.dumps(question, separators=(",", ":"), ensure_ascii=False)
    return {name: "" if value is None else str(value) for name, value in values.items()}


def cell(text: str) -> str:
    """In quotes where it has to be, with a backslash before each quote and backslash in them."""
    if not set(text) & set('",\n\r'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def csv_file(rows: Sequence[Mapping[str, str]], columns: Sequence[str] = COLUMNS) -> bytes:
    lines = [",".join(columns), *(",".join(cell(each.get(name, "")) for name in columns) for each in rows)]
    return "".join(f"{line}\n" for line in lines).encode()


def csv_gz_file(*parts: bytes) -> bytes:
    """Each part is a gzip file of its own: the job joins what Spark's tasks have written so."""
    return b"".join(map(gzip.compress, parts))
