"""The files of findings and the journal of a repair: what is in them after a kill at any byte; what a repair sends."""

from contextlib import nullcontext
from pathlib import Path

import pytest
from msgspec import structs

from common.config.model import JobKafkaConfig
from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.domain.faults import TaskFault
from desk.config import DeskKafkaConfig
from desk.doctor import repair
from desk.doctor.findings import Check, Finding, FindingsError, FindingsFile, Header, read
from desk.doctor.journal import Event, Intent, Journal, JournalError
from desk.doctor.repair import Repair, plan
from desk.remedies import Remedy
from tests.support.unseen_topics import HIDDEN, MISSING, REASONS, see_topics

HEADER = Header("do_course", None, tuple(Check), 2)


def finding(user_id: str = "asha", check: Check = Check.SCORES, remedy: Remedy | None = Remedy.RECOMPUTE) -> Finding:
    return Finding(check, "kind", user_id, "do_course", "b1", "what is wrong", remedy, "do_1")


def event(user_id: str = "asha", remedy: Remedy = Remedy.SYNC) -> Event:
    return Event(remedy, user_id, "do_course", "b1", "", 1)


class TestFindings:
    def test_killed_after_any_byte_the_findings_are_those_of_whole_ranges(self, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        file = FindingsFile(path, HEADER)
        file.add(0, 10, [finding("asha"), finding("ravi")])
        file.add(1, 5, [finding("meena")])
        file.close()
        whole = path.read_bytes()
        lines = whole.splitlines(keepends=True)
        end_of_header, end_of_first = len(lines[0]), len(b"".join(lines[:4]))
        for size in range(end_of_header, len(whole) + 1):
            path.write_bytes(whole[:size])
            users = [one.user_id for one in read(path)]
            first = ["asha", "ravi"] if size >= end_of_first else []
            assert users == first + (["meena"] if size == len(whole) else [])
            file = FindingsFile(path, HEADER)
            assert file.done == ({0: 10} if first else {}) | ({1: 5} if size == len(whole) else {})
            file.add(7, 1, [finding("new")])
            file.close()
            assert [one.user_id for one in read(path)] == [*users, "new"]

    def test_a_header_that_was_cut_is_begun_again(self, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        FindingsFile(path, HEADER).close()
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            FindingsFile(path, HEADER).close()
            assert path.read_bytes() == whole

    @pytest.mark.parametrize("text", [b"a note", b'{"type":"header","course_id":"do_other"', b"\xff\x00"])
    def test_another_file_without_a_line_end_stays_as_it_is(self, tmp_path: Path, text: bytes) -> None:
        path = tmp_path / "findings.jsonl"
        path.write_bytes(text)
        with pytest.raises(FindingsError, match="is no file of findings: name another file"):
            FindingsFile(path, HEADER)
        assert path.read_bytes() == text

    def test_another_scan_is_not_continued(self, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        FindingsFile(path, HEADER).close()
        with pytest.raises(FindingsError, match="name another file"):
            FindingsFile(path, Header("do_other", None, tuple(Check), 2))

    def test_findings_that_somebody_has_picked_need_no_header(self, tmp_path: Path) -> None:
        source, picked = tmp_path / "findings.jsonl", tmp_path / "picked.jsonl"
        file = FindingsFile(source, HEADER)
        file.add(0, 10, [finding("asha"), finding("ravi")])
        file.close()
        picked.write_bytes(source.read_bytes().splitlines(keepends=True)[2])
        assert list(read(picked)) == [finding("ravi")]

    def test_a_line_that_is_no_finding_is_named(self, tmp_path: Path) -> None:
        path = tmp_path / "findings.jsonl"
        path.write_bytes(b'{"some":"thing"}\n')
        with pytest.raises(FindingsError, match="line 1: not a finding"):
            list(read(path))
        with pytest.raises(FindingsError, match="cannot be read"):
            list(read(tmp_path / "nothing.jsonl"))

    def test_a_file_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(FindingsError, match=r"nothing/findings\.jsonl cannot be written: No such file"):
            FindingsFile(tmp_path / "nothing" / "findings.jsonl", HEADER)


class TestJournal:
    def test_what_was_confirmed_is_sent(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        journal.intend({"topic": {0: 5}}, [event("asha")])
        assert journal.open_intent is not None
        journal.confirm()
        journal.intend({"topic": {0: 6}}, [event("ravi")])
        journal.close()
        again = Journal(path)
        assert set(again.sent) == {(Remedy.SYNC, event("asha").key)}
        assert again.open_intent is not None
        assert again.open_intent.ends == {"topic": {0: 6}}
        assert list(again.open_intent.events) == [event("ravi")]
        again.confirm()
        again.close()
        assert len(Journal(path).sent) == 2

    def test_an_intent_that_was_cut_was_not_begun(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        journal = Journal(path)
        journal.intend({}, [event("asha")])
        journal.close()
        whole = path.read_bytes()
        for size in range(len(whole)):
            path.write_bytes(whole[:size])
            cut = Journal(path)
            assert (cut.open_intent, cut.sent) == (None, {})
            cut.close()
            assert path.read_bytes() == b""

    def test_another_file_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "journal"
        for text in (b"a text\n", b"a text without an end"):
            path.write_bytes(text)
            with pytest.raises(JournalError, match="line 1"):
                Journal(path)
            assert path.read_bytes() == text

    def test_a_file_that_cannot_be_written_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(JournalError, match="nothing/journal cannot be written: No such file"):
            Journal(tmp_path / "nothing" / "journal")


class TestPlan:
    def test_one_event_of_a_kind_for_an_enrolment(self) -> None:
        events = plan([finding(), finding(check=Check.DETAILS), finding("ravi")], list(Check), 7)
        assert [(one.remedy, one.user_id, one.content_id, one.time_ms) for one in events] == [
            (Remedy.RECOMPUTE, "asha", "do_1", 7),
            (Remedy.RECOMPUTE, "ravi", "do_1", 7),
        ]

    def test_what_is_only_reported_sends_nothing(self) -> None:
        assert plan([finding(remedy=None)], list(Check), 7) == []

    def test_only_some_checks(self) -> None:
        assert plan([finding(check=Check.SCORES)], [Check.DETAILS], 7) == []

    def test_what_would_issue_a_certificate_again_is_left_out_unless_it_is_asked_for(self) -> None:
        findings = [structs.replace(finding(), issues_again=True), finding("ravi")]
        assert [one.user_id for one in plan(findings, list(Check), 7)] == ["ravi"]
        assert [one.user_id for one in plan(findings, list(Check), 7, issue_again=True)] == ["asha", "ravi"]

    def test_a_recompute_makes_a_certificate_request_needless(self) -> None:
        """It sends one itself, with the right scores."""
        certificate = finding(check=Check.CERTIFICATES, remedy=Remedy.CERTIFICATE)
        assert [one.remedy for one in plan([certificate, finding()], list(Check), 7)] == [Remedy.RECOMPUTE]
        sync = finding(check=Check.PROGRESS, remedy=Remedy.SYNC)
        assert {one.remedy for one in plan([certificate, sync], list(Check), 7)} == {Remedy.CERTIFICATE, Remedy.SYNC}


def test_the_same_event_has_the_same_bytes() -> None:
    """By which a repair that was killed recognises on the topic what it has sent."""
    kafka = JobKafkaConfig(bootstrap_servers="kafka:9092", env="dev")
    for remedy in Remedy:
        assert event(remedy=remedy).message(kafka) == event(remedy=remedy).message(kafka)
    assert event().key == EnrolmentKey("asha", "do_course", "b1")


def test_of_what_was_sent_since_an_intent_only_its_own_events_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill the repair reads on from there, and learners' events have come all the time."""
    kafka = DeskKafkaConfig.model_validate({"bootstrap_servers": "b:9092", "env": "dev"})
    intent = Intent(1, {"dev.telemetry.assess": {0: 5}}, [event("asha"), event("ravi")])
    ours, not_sent = (one.message(kafka).value for one in intent.events)
    monkeypatch.setattr(repair, "watermarks", lambda *_: (0, 10))
    monkeypatch.setattr(repair, "reading_consumer", lambda *_: nullcontext())
    monkeypatch.setattr(repair, "closing", lambda consumer: consumer)
    monkeypatch.setattr(repair, "read_to_end", lambda *_: iter([b"foreign", ours, b"other"]))
    sender = Repair(kafka, Journal(tmp_path / "journal"), print)
    assert sender._values_since(intent, {ours, not_sent}) == {ours}


@pytest.mark.parametrize("error", [HIDDEN, MISSING])
def test_a_repair_says_what_is_to_be_done_about_a_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    see_topics(monkeypatch, {topics.ASSESS: error})
    kafka = DeskKafkaConfig.model_validate({"bootstrap_servers": "b:9092", "env": "dev"})
    sender = Repair(kafka, Journal(tmp_path / "journal"), print)
    with pytest.raises(TaskFault, match=REASONS[error]):
        sender.lag(Remedy.RECOMPUTE)
    with pytest.raises(TaskFault, match=REASONS[error]):
        sender._ends([Remedy.RECOMPUTE])
