"""Files: names that lead nowhere else, CSV that can be read back, zips that only the password opens; ring ranges."""

import csv
import io
import zipfile
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import pyzipper
from rich.console import Console

from common.servers.cassandra import token_ranges
from reports import output, protection
from reports.display import Display
from reports.model import ReportError
from reports.output import CsvFormat, escape_formula

NOW = datetime(2024, 5, 14, 23, 59)


def spooled(tmp_path: Path, *rows: tuple[dict[str, str], dict[str, str]]) -> list[list[str]]:
    with (tmp_path / "spool").open("w+b") as file:
        spool = output.Spool(file, {"b": "B", "a": "A"})
        for row in rows:
            spool.add(*row)
        spool.write(tmp_path / "report.csv", CsvFormat(escapes_formulas=False), lambda: None)
    with (tmp_path / "report.csv").open(encoding="utf-8", newline="") as text:
        return list(csv.reader(text))


class TestNames:
    def test_of_a_request(self) -> None:
        path = output.relative_path("progress-exhaust", "0A1B", "01309", "progress", NOW)
        assert path == Path("progress-exhaust/0A1B/01309_progress_20240514.csv")

    def test_stand_alone(self) -> None:
        path = output.relative_path("response-exhaust", None, "01309", "response", NOW)
        assert path == Path("response-exhaust/01309_response_20240514.csv")

    @pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\\b", "a\0", "x" * 201, "a\n"])
    def test_no_name(self, name: str) -> None:
        with pytest.raises(ReportError, match="cannot be part of a file name"):
            output.relative_path("progress-exhaust", name, "b", "progress", NOW)
        with pytest.raises(ReportError, match="cannot be part of a file name"):
            output.relative_path("progress-exhaust", None, name, "progress", NOW)


class TestCsv:
    def test_last_columns_are_the_union_over_the_rows(self, tmp_path: Path) -> None:
        rows = spooled(tmp_path, ({"a": "1", "b": "2", "c": "3"}, {"z": "4"}), ({"a": "5", "b": ""}, {"y": "6"}))
        assert rows == [["B", "A", "y", "z"], ["2", "1", "", "4"], ["", "5", "6", ""]]

    def test_no_rows(self, tmp_path: Path) -> None:
        assert spooled(tmp_path) == [["B", "A"]]

    def test_any_text_comes_back(self, tmp_path: Path) -> None:
        text = 'comma, "quote"\r\nline\rbreak\nनमस्ते' + "x" * 100_000
        assert spooled(tmp_path, ({"a": text, "b": "\r"}, {})) == [["B", "A"], ["\r", text]]

    def test_a_cell_beyond_the_limit_of_the_csv_reader(self, tmp_path: Path) -> None:
        before = csv.field_size_limit(5_000_000)
        try:
            assert spooled(tmp_path, ({"a": "x" * 3_000_000, "b": ""}, {}))[1][1] == "x" * 3_000_000
        finally:
            csv.field_size_limit(before)


class TestFormulas:
    """OWASP, "CSV Injection"."""

    @pytest.mark.parametrize(
        "cell",
        [
            '=HYPERLINK("http://evil", "click")',
            "@SUM(A1:A9)",
            "+1+cmd|' /C calc'!A0",
            "-2+3",
            "\t=1",
            "\r=1",
            "\n=1",
            "  =1",
            "\uff1d1",
            "-",
            "+91 98450 12345",
        ],
    )
    def test_escaped(self, cell: str) -> None:
        assert escape_formula(cell) == f"'{cell}"

    @pytest.mark.parametrize(
        "cell", ["", "a=1", "7.5", "-7.5", "-0", "+3", "1E+3", "-1.5e-07", "75%", "-50%", "[{'1':'='}]"]
    )
    def test_left_alone(self, cell: str) -> None:
        assert escape_formula(cell) == cell

    @pytest.mark.parametrize(("escapes", "cells"), [(True, ["'=A", "'@b"]), (False, ["=A", "@b"])])
    def test_titles_and_cells(self, tmp_path: Path, escapes: bool, cells: list[str]) -> None:
        file = tmp_path / "report.csv"
        output.write_csv(file, CsvFormat(escapes), ["=A"], [["@b"]])
        assert file.read_bytes().decode().split() == cells

    def test_the_mark_for_excel(self, tmp_path: Path) -> None:
        file = tmp_path / "report.csv"
        output.write_csv(file, CsvFormat(has_byte_order_mark=True), ["é"], [])
        assert file.read_bytes() == b"\xef\xbb\xbf\xc3\xa9\r\n"


class TestZip:
    @pytest.fixture
    def report(self, tmp_path: Path) -> Path:
        file = tmp_path / "b_progress_20240514.csv"
        file.write_bytes(b"B,A\r\n" * 1_000)
        return file

    def test_plain(self, report: Path, tmp_path: Path) -> None:
        protection.write_zip(report, tmp_path / "x.zip", None, lambda: None)
        with zipfile.ZipFile(tmp_path / "x.zip") as archive:
            assert archive.namelist() == [report.name]
            assert archive.read(report.name) == report.read_bytes()
        assert (tmp_path / "x.zip").stat().st_size < report.stat().st_size

    def test_encrypted_with_aes_256(self, report: Path, tmp_path: Path) -> None:
        protection.write_zip(report, tmp_path / "x.zip", "pässwörd", lambda: None)
        assert b"B,A" not in (tmp_path / "x.zip").read_bytes()
        with pyzipper.AESZipFile(tmp_path / "x.zip") as archive:
            assert archive.getinfo(report.name).wz_aes_strength == 3
            with pytest.raises(RuntimeError, match="password"):
                archive.read(report.name)
            with pytest.raises(RuntimeError, match="password"):
                archive.read(report.name, b"wrong")
            assert archive.read(report.name, "pässwörd".encode()) == report.read_bytes()


@pytest.mark.parametrize("count", [1, 3, 64])
def test_ranges_cover_the_ring_once(count: int) -> None:
    ranges = token_ranges(count)
    assert len(ranges) == count
    assert (ranges[0][0], ranges[-1][1]) == (-(2**63), 2**63 - 1)
    assert all(before[1] == after[0] for before, after in pairwise(ranges))
    assert all(first < last for first, last in ranges)


@pytest.mark.parametrize("is_terminal", [False, True])
def test_display(is_terminal: bool) -> None:
    text = io.StringIO()
    with Display(Console(file=text, force_terminal=is_terminal, width=60)) as display:
        display.begin("batch [b]")
        for _ in range(25):
            display.advance(1_000)
        display.print("batch [b]", "done")
        display.end()
    lines = text.getvalue().splitlines()
    if is_terminal:
        assert any("batch [b]: done" in line for line in lines)
    else:
        assert lines == ["batch [b]: 10,000 enrolments", "batch [b]: 20,000 enrolments", "batch [b]: done"]
