"""The files of a report before they are protected: their names and the CSV."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple

import msgspec

from reports.model import ReportError
from reports.threads import Check

_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A cell that begins with one of these may be run as a formula by a spreadsheet; OWASP, "CSV Injection".

The last four are full-width forms of ``=``, ``+``, ``-`` and ``@``.
"""
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?%?")


class CsvFormat(NamedTuple):
    """How cells are written."""

    escapes_formulas: bool = True
    has_byte_order_mark: bool = False
    """Excel takes a CSV without the mark for one of the local code page."""


def relative_path(job_id: str, request_id: str | None, batch_id: str, label: str, now: datetime) -> Path:
    """``<job_id>/<request_id>/<batch_id>_<label>_<yyyyMMdd>.csv``, without the request's folder if there is none.

    ``now`` is in the zone of the reports. Raises ReportError for an id that would lead to another folder.
    """
    folders = [job_id] if request_id is None else [job_id, request_id]
    for name in (*folders, batch_id):
        if not is_file_name(name):
            raise ReportError(f"The id {name!r} cannot be part of a file name")
    return Path(*folders, f"{batch_id}_{label}_{now:%Y%m%d}.csv")


def is_file_name(name: str) -> bool:
    """Whether an id can be part of a path and leads nowhere else."""
    return _NAME.fullmatch(name) is not None


def escape_formula(cell: str) -> str:
    """``cell`` with an apostrophe before it if a spreadsheet might run it. Ids, titles and answers come from clients.

    A plain number stays as it is, also a negative one.
    """
    if cell.lstrip(" ").startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell


def write_csv(file: Path, csv_format: CsvFormat, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """UTF-8, with the quotes and line ends of RFC 4180."""
    encoding = "utf-8-sig" if csv_format.has_byte_order_mark else "utf-8"
    with file.open("w", encoding=encoding, newline="") as text:
        writer = csv.writer(text)
        for row in _chain(header, rows):
            writer.writerow(map(escape_formula, row) if csv_format.escapes_formulas else row)


def _chain(header: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[Iterable[str]]:
    yield header
    yield from rows


class Spool:
    """Rows on disk. The last columns of a report are known only when all its rows are."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, str]) -> None:
        """``columns`` are titles by column, in order. ``file`` is empty and used by nobody else."""
        self._file = file
        self._columns = columns
        self._last_titles: set[str] = set()

    def add(self, cells: Mapping[str, str], last_cells: Mapping[str, str] | None = None) -> None:
        """Adds a row: ``cells`` by column, of which only those of the report are kept, and ``last_cells`` by title."""
        last_cells = last_cells or {}
        self._last_titles.update(last_cells)
        row = [cells[column] for column in self._columns]
        # JSON, because the csv module refuses to read a cell as large as it is ready to write.
        self._file.write(msgspec.json.encode((row, last_cells)) + b"\n")

    def write(self, file: Path, csv_format: CsvFormat, check: Check) -> None:
        """All rows as CSV. The last columns are in the order of their titles, and empty where a row has no such cell.

        For a thread: raises what ``check`` raises.
        """
        titles = sorted(self._last_titles)
        write_csv(file, csv_format, [*self._columns.values(), *titles], self._rows(titles, check))

    def close(self) -> None:
        """Frees the space on disk."""
        self._file.close()

    def _rows(self, titles: list[str], check: Check) -> Iterator[list[str]]:
        decoder = msgspec.json.Decoder(tuple[list[str], dict[str, str]])
        self._file.seek(0)
        for line in self._file:
            check()
            row, last_cells = decoder.decode(line)
            yield [*row, *(last_cells.get(title, "") for title in titles)]
