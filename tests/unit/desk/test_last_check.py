"""The page of the jobs shows what the doctor's last check has found."""

import html
import os
import re
from collections import Counter
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from common.config.loader import load
from desk.config import DeskConfig
from desk.doctor import findings
from desk.doctor.findings import Check, Finding, FindingsError, FindingsFile, Header
from desk.server import application
from desk.server.last_check import LastCheckFile
from tests.support.desk_server import VIEWER
from tests.support.required_keys import REQUIRED

LATER_NS = 2_000_000_000_000_000_000


def finding(check: Check, kind: str) -> Finding:
    return Finding(check, kind, "asha", "do_course", "batch", "what is wrong")


SCORE, CERTIFICATE = finding(Check.SCORES, "score_differs"), finding(Check.CERTIFICATES, "certificate_missing")


def write(path: Path, *ranges: list[Finding], header: Header | None = None) -> None:
    """A check that has examined ten enrolments in each of these token ranges."""
    file = FindingsFile(path, header or Header(None, None, tuple(Check), 2))
    for number, found in enumerate(ranges):
        file.add(number, 10, found)
    file.close()


class TestTheFile:
    async def test_is_counted_as_the_doctor_reads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        write(path, [SCORE, SCORE], [CERTIFICATE])
        with path.open("ab") as file:  # of a token range that was stopped
            file.write(b'{"type":"finding","check":"scores","kind":"score_differs","user_id":"u","course_id":"c",')
            file.write(b'"batch_id":"b","what":"w"}\n{"type":"fin')
        last = await LastCheckFile(path).read()
        assert last.numbers == Counter((one.check, one.kind) for one in findings.read(path))
        assert last.numbers == {(Check.SCORES, "score_differs"): 2, (Check.CERTIFICATES, "certificate_missing"): 1}
        assert (last.enrolments, last.ranges_done, last.has_ended) == (20, 2, True)

    async def test_is_read_again_when_it_has_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        write(path, [SCORE])
        file = LastCheckFile(path)
        first = await file.read()
        assert await file.read() is first
        path.unlink()
        write(path, [], [])
        os.utime(path, ns=(LATER_NS, LATER_NS))
        second = await file.read()
        assert (first.has_ended, second.has_ended) == (False, True)
        assert (second.numbers, second.written_at_ms) == ({}, LATER_NS // 1_000_000)

    @pytest.mark.parametrize("text", [None, "", "no finding\n"])
    async def test_that_is_none_of_a_check_is_refused(self, tmp_path: Path, text: str | None) -> None:
        path = tmp_path / "findings.jsonl"
        if text is not None:
            path.write_text(text)
        with pytest.raises(FindingsError, match=r"findings\.jsonl"):
            await LastCheckFile(path).read()


def page(monkeypatch: pytest.MonkeyPatch, path: Path | None) -> str:
    """The page of the jobs as one line of text, at a desk without servers."""
    variables = {"AGGREGATES__SERVER__VIEWER_TOKEN": VIEWER}
    if path is not None:
        variables["AGGREGATES__SERVER__FINDINGS_FILE"] = str(path)

    class NoServers:
        def __init__(self, *_: object) -> None:
            pass

        async def open(self) -> None:
            pass

        async def close(self) -> None:
            pass

    monkeypatch.setattr(application, "Reader", NoServers)
    app = application.create_application(load(DeskConfig, environ={**REQUIRED[DeskConfig], **variables}))
    headers = {"authorization": f"Bearer {VIEWER}"}
    with TestClient(app, base_url="https://desk.test", headers=headers) as client:
        answer = client.get("/jobs")
    assert answer.status_code == 200
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", answer.text)).split())


class TestThePage:
    def test_says_what_was_found_and_in_what(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        write(path, [SCORE, CERTIFICATE], [SCORE], header=Header("do_course", "b-1", (Check.SCORES,), 2))
        os.utime(path, ns=(LATER_NS, LATER_NS))
        text = page(monkeypatch, path)
        assert (
            "The last check looked at 20 enrolments of the course do_course, of the batch b-1 "
            "and found 3 things that operators look at." in text
        )
        assert "Its file was written 18 May 2033" in text
        assert "certificate_missing certificates 1 score_differs scores 2" in text
        assert "asha" not in text

    def test_says_that_a_check_has_not_ended(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        write(path, [])
        text = page(monkeypatch, path)
        assert "The last check has not ended. Until now it looked at 10 enrolments and found nothing wrong." in text
        assert "Token ranges: 1 of 2." in text

    def test_says_why_there_is_nothing_to_be_shown(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        text = page(monkeypatch, tmp_path / "missing.jsonl")
        assert "The desk cannot read what it has found." in text
        assert "missing.jsonl cannot be read: No such file or directory" in text

    def test_says_nothing_of_checks_unless_it_is_told_of_a_file(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "last check" not in page(monkeypatch, None)
