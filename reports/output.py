"""The files of a report: their names, the CSV, the zip."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO

import msgspec
import pyzipper

from reports.model import ReportError

_NAME = re.compile(r"[\w-][\w.-]{0,199}", re.ASCII)


def relative_path(job_id: str, request_id: str | None, batch_id: str, label: str, now: datetime) -> Path:
    """``<job_id>/<request_id>/<batch_id>_<label>_<yyyyMMdd>.csv``, without the request's folder if there is none.

    ``now`` is in the zone of the reports. Raises ReportError for an id that would lead to another folder.
    """
    folders = [job_id] if request_id is None else [job_id, request_id]
    for name in (*folders, batch_id):
        if not _NAME.fullmatch(name):
            raise ReportError(f"The id {name!r} cannot be part of a file name")
    return Path(*folders, f"{batch_id}_{label}_{now:%Y%m%d}.csv")


def write_csv(file: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """UTF-8, with the quotes and line ends of RFC 4180."""
    with file.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(header)
        writer.writerows(rows)


class Spool:
    """Rows whose last columns are known only when all rows are: kept on disk until then."""

    def __init__(self, file: IO[bytes], columns: Mapping[str, str]) -> None:
        """``columns`` are titles by column, in order; ``file`` is empty and used by nobody else."""
        self._file = file
        self._columns = columns
        self._last_titles: set[str] = set()

    def add(self, cells: Mapping[str, str], last_cells: Mapping[str, str] | None = None) -> None:
        """``cells`` by column, of which only those of the report are kept; ``last_cells`` by title."""
        last_cells = last_cells or {}
        self._last_titles.update(last_cells)
        row = [cells[column] for column in self._columns]
        # JSON, because the csv module refuses to read a cell as large as it is ready to write.
        self._file.write(msgspec.json.encode((row, last_cells)) + b"\n")

    def write(self, file: Path) -> None:
        """All rows as CSV; the last columns in the order of their titles, empty where a row has no such cell."""
        titles = sorted(self._last_titles)
        write_csv(file, [*self._columns.values(), *titles], self._rows(titles))

    def _rows(self, titles: list[str]) -> Iterator[list[str]]:
        decoder = msgspec.json.Decoder(tuple[list[str], dict[str, str]])
        self._file.seek(0)
        for line in self._file:
            row, last_cells = decoder.decode(line)
            yield [*row, *(last_cells.get(title, "") for title in titles)]


def write_zip(source: Path, target: Path, password: str | None) -> None:
    """``source`` as the one member of a zip, encrypted with AES-256 if there is a password. Raises OSError."""
    encryption = pyzipper.WZ_AES if password else None
    with pyzipper.AESZipFile(target, "w", compression=pyzipper.ZIP_DEFLATED, encryption=encryption) as archive:
        if password:
            archive.setpassword(password.encode())
        archive.write(source, source.name)
