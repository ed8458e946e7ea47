"""Attempts that Sunbird's archival job has moved from Cassandra to object storage, as it writes them. Pure.

A file has the attempts of one batch of a course that were updated in one week: CSV as Apache Spark writes it, with a
header, backslashes before quotes and backslashes, and the questions of an attempt as JSON in one cell. The columns are
those of ``assessment_aggregator``, in an order that differs between releases.
"""

import csv
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

from common.domain.events import MAX_TIME_MS, MIN_TIME_MS, to_datetime, to_time_ms
from reports.model import Batch, ReportError
from reports.response import AttemptRow, questions_of

LONGEST_CELL = 16 * 1024 * 1024
"""Characters. A quote that is never closed would otherwise take the rest of its file for one cell."""

_FILE_NAME = re.compile(r"([0-9]{1,9})-([0-9]{1,9})-(.+)\.csv(?:\.gz)?")
_COLUMNS = (
    "user_id",
    "course_id",
    "batch_id",
    "content_id",
    "attempt_id",
    "last_attempted_on",
    "total_score",
    "question",
)
# Outside quotes Spark writes a backslash as it is, and the reader would take it for the beginning of an escape.
_QUOTED_OR_BACKSLASH = re.compile(r'("[^"\\]*+(?:\\.[^"\\]*+)*+")|\\', re.DOTALL)
_reader = partial(csv.reader, escapechar="\\", strict=True)
_UNSET = ("", "null")


class Archived(NamedTuple):
    """A submitted attempt of a learner of the batch."""

    user_id: str
    attempt: AttemptRow


class Malformed(NamedTuple):
    """A row that cannot be read, and why. ``line`` is its first line, and 1 for the header."""

    line: int
    reason: str


def folders(batch: Batch) -> tuple[str, str]:
    """Where the files of a batch are: in older releases in the first one, in newer ones in the second."""
    return batch.batch_id, f"{batch.batch_id}_{batch.course_id}"


def files_in_order(paths: Iterable[str]) -> list[str]:
    """The paths of archived files among ``paths``, in the order in which they were written.

    A name has the year, the week, and mostly the time in ms at which the file was written. Files without that time are
    in order of their weeks, before the others. At New Year the year and the week do not belong together: 30 December
    2024 is in week 1 of 2025, and the archival job names it 2024-1.
    """

    def moment(path: str) -> tuple[int, int, int, list[tuple[int, str]], str] | None:
        if (match := _FILE_NAME.fullmatch(path.rpartition("/")[2])) is None:
            return None
        year, week, rest = match.groups()
        written = [(int(digits or 0), text) for digits, text in re.findall(r"([0-9]{1,18})|([^0-9]+)", rest)]
        time_ms = written[0][0] if re.match(r"[0-9]{13}(?![0-9])", rest) else 0
        return time_ms, int(year), int(week), written, path

    return [key[-1] for key in sorted(filter(None, map(moment, paths)))]


def read(lines: Iterable[str], batch: Batch) -> Iterator[Archived | Malformed]:
    """The attempts of ``batch`` in a file with these lines, drafts and other batches left out.

    Raises ReportError if the header lacks a column.
    """
    rows = _cells(lines)
    header = next(rows, None)
    if header is None:
        return
    line, names = header
    if isinstance(names, str) or (missing := [name for name in _COLUMNS if name not in names]):
        raise ReportError(names if isinstance(names, str) else f"there is no column {', '.join(missing)}")
    places = [names.index(name) for name in _COLUMNS]
    for line, cells in rows:
        if isinstance(cells, str):
            yield Malformed(line, cells)
        elif len(cells) != len(names):
            yield Malformed(line, f"{len(cells)} cells instead of {len(names)}")
        else:
            try:
                archived = _archived([cells[place] for place in places], batch)
            except (ValueError, ReportError) as error:
                yield Malformed(line, str(error))
            else:
                if archived is not None:
                    yield archived


def _cells(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Each row with the number of its first line; instead of its cells, why it cannot be read."""
    # The limit is one of the process. Nothing else in it reads CSV.
    csv.field_size_limit(LONGEST_CELL)
    record: list[str] = []

    def recorded() -> Iterator[str]:
        for line in lines:
            record.append(line)
            yield line

    reader = _reader(recorded())
    while True:
        record.clear()
        first_line = reader.line_num + 1
        try:
            cells = next(reader)
            text = "".join(record)
            if "\\" in text and (escaped := _QUOTED_OR_BACKSLASH.sub(_escaped, text)) != text:
                cells = next(_reader([escaped]))
            if cells:
                yield first_line, cells
        except csv.Error as error:
            yield first_line, str(error)
        except StopIteration:
            return


def _escaped(match: re.Match[str]) -> str:
    return match[1] or "\\\\"


def _archived(cells: list[str], batch: Batch) -> Archived | None:
    """None for a row that the report does not show. Raises ValueError and ReportError."""
    user_id, course_id, batch_id, content_id, attempt_id, last_attempted_on, total_score, questions = cells
    if (course_id, batch_id) != (batch.course_id, batch.batch_id):
        return None
    for name, value in zip(_COLUMNS, cells, strict=True):
        if not value.isascii():
            _check_encoding(name, value)
    if not (user_id and content_id and attempt_id):
        raise ValueError("an id is empty")
    attempt = AttemptRow(
        content_id,
        attempt_id,
        None if last_attempted_on in _UNSET else _time(last_attempted_on),
        None if total_score in _UNSET else _number(total_score),
        None if questions in _UNSET else questions,
    )
    # Here, where the line is known: a report must not end because of one row.
    questions_of(attempt)
    return Archived(user_id, attempt) if attempt.is_submitted else None


def _check_encoding(name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} is not UTF-8") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"total_score is no number: {text[:40]!r}") from error


def _time(text: str) -> datetime:
    """From epoch milliseconds, or ISO 8601: Spark writes a timestamp of Cassandra so."""
    try:
        time_ms = int(text) if re.fullmatch(r"-?[0-9]{1,19}", text) else to_time_ms(_in_utc(text))
        if not MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
            raise ValueError("out of range")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"last_attempted_on is no time: {text[:40]!r}") from error
    return to_datetime(time_ms)


def _in_utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
