"""Planted faults on real tables: found, and nothing else; repaired, and nothing is sent twice."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from common.domain import topics
from common.domain.enrolments import EnrolmentKey
from common.metrics import Metrics
from common.servers.cassandra import Cassandra, Write
from desk import remedies
from desk.config import GroupIdsConfig
from desk.doctor.charts import doctor_settings, open_doctor
from desk.doctor.findings import Check, FindingsError, FindingsFile, Header, read
from desk.doctor.journal import Event, Journal
from desk.doctor.repair import Repair, plan
from desk.doctor.scan import scan
from desk.doctor.store import Scope
from desk.recompute import recompute
from desk.remedies import Remedy
from desk.sender import send
from local.config import REPOSITORY
from tests.integration.doctor.conftest import Ward
from tests.support.activity_model import T0
from tests.support.patient_rows import admit
from tests.support.patients import CERTIFIED, FAULTS, PLAIN, Kinds, Patient, healthy, sick

PATIENTS = int(os.environ.get("DOCTOR_PATIENTS", "200"))
"""Set it to 10000 for the long run."""
RANGES = 16


def admitted(ward: Ward, number: int) -> list[Patient]:
    """Three in four are healthy; each fault is planted in turn in the others."""
    source = random.Random(ward.prefix)
    made = []
    for index in range(number):
        user_id = f"{ward.prefix}-{index}"
        ward.services.users[user_id] = {"firstName": "Asha", "rootOrgId": "org-1", "status": 1}
        if index % 4:
            batch_id = f"{ward.prefix}{source.choice((PLAIN, CERTIFIED))}"
            made.append(healthy(source, EnrolmentKey(user_id, ward.course.course_id, batch_id), ward.course))
        else:
            fault = FAULTS[index // 4 % len(FAULTS)]
            made.append(sick(source, fault, ward.course, user_id, ward.prefix))
    return made


class Stopped(Exception):
    """Somebody has stopped the scan."""


class Quiet:
    """An observer that stops the scan after some token ranges."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.ranges = 0
        self.enrolments = 0
        self._stop_after = stop_after

    def examined(self, enrolments: int, findings: int) -> None:
        self.enrolments += enrolments

    def range_done(self) -> None:
        self.ranges += 1
        if self.ranges == self._stop_after:
            raise Stopped


async def check(ward: Ward, path: Path, observer: Quiet | None = None) -> None:
    scope = Scope(ward.course.course_id)
    file = FindingsFile(path, Header(*scope, tuple(Check), RANGES))
    try:
        async with open_doctor(ward.config, list(Check)) as doctor:
            await scan(doctor, scope, file, RANGES, observer or Quiet())
    finally:
        file.close()


def kinds_by_user(path: Path) -> dict[str, Kinds]:
    found = defaultdict[str, Kinds](set)
    for finding in read(path):
        found[finding.user_id].add((finding.check, finding.kind))
    return dict(found)


async def test_planted_faults_are_found_and_nothing_else(ward: Ward, tmp_path: Path) -> None:
    patients = admitted(ward, PATIENTS)
    await admit(ward.config.cassandra, patients)
    observer = Quiet()
    await check(ward, tmp_path / "findings.jsonl", observer)
    assert observer.enrolments == PATIENTS
    expected = {patient.key.user_id: patient.expected for patient in patients if patient.expected}
    assert kinds_by_user(tmp_path / "findings.jsonl") == expected


async def test_a_check_that_was_stopped_goes_on(ward: Ward, tmp_path: Path) -> None:
    patients = admitted(ward, 100)
    await admit(ward.config.cassandra, patients)
    whole, stopped = tmp_path / "whole.jsonl", tmp_path / "stopped.jsonl"
    await check(ward, whole)
    with pytest.raises(Stopped):
        await check(ward, stopped, Quiet(stop_after=5))
    with stopped.open("ab") as file:
        file.write(b'{"type":"finding","check":"scores","ki')  # killed while it wrote
    again = Quiet()
    await check(ward, stopped, again)
    assert again.ranges <= RANGES - 5
    assert Counter(read(stopped)) == Counter(read(whole))
    with pytest.raises(FindingsError, match="other findings"):
        FindingsFile(stopped, Header(None, None, tuple(Check), RANGES))


def desk(ward: Ward, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "desk", *arguments],
        env={**os.environ, **ward.environment, "PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


SENT_TO = (topics.ASSESS, topics.ENROLMENT_SYNC_REQUEST, topics.ISSUE_CERTIFICATE_REQUEST)


def sent(ward: Ward) -> Counter[bytes]:
    """What the repair has sent, and the certificate requests of enrolments that a sync has completed."""
    values = [value for topic in SENT_TO for value in ward.jobs.values(topic)]
    return Counter(value for value in values if b"attemptId" not in value)


async def test_a_repair_that_is_killed_sends_nothing_twice_and_leaves_only_what_is_reported(
    ward: Ward, tmp_path: Path
) -> None:
    patients = admitted(ward, 150)
    await admit(ward.config.cassandra, patients)
    findings = tmp_path / "findings.jsonl"
    await check(ward, findings)
    events = plan(read(findings), list(Check), 0)
    assert {event.remedy for event in events} == set(Remedy)

    first = desk(ward, "repair", str(findings), "--yes", "--rate", "1")
    deadline = time.monotonic() + 240
    while sent(ward).total() < 4:
        assert time.monotonic() < deadline
        assert first.poll() is None, first.communicate()[0]
    first.send_signal(signal.SIGKILL)
    first.wait()
    before = sent(ward)
    assert 4 <= before.total() < len(events)

    second = desk(ward, "repair", str(findings), "--yes")
    while second.poll() is None:
        await ward.jobs.apply()
        await asyncio.sleep(0.2)
    output = second.communicate()[0]
    assert second.returncode == 0, output
    # Recompute requests and completed enrolments send certificate requests; ours have the desk's identity.
    counts = sent(ward)
    assert max(counts.values()) == 1
    assert sum(1 for value in counts if b"user-enrolment-sync" in value or b'"events":[]' in value) == sum(
        event.remedy is not Remedy.CERTIFICATE for event in events
    )

    third = desk(ward, "repair", str(findings), "--yes")
    await asyncio.to_thread(third.wait)
    assert "nothing to send" in third.communicate()[0]
    assert sent(ward) == counts

    await ward.jobs.apply()
    after = tmp_path / "after.jsonl"
    await check(ward, after)
    reported = {
        patient.key.user_id: patient.expected
        for patient in patients
        if patient.expected and not any(f.remedy for f in read(findings) if f.user_id == patient.key.user_id)
    }
    assert kinds_by_user(after) == reported


@pytest.mark.parametrize("delivered", [0, 3, 7])
async def test_events_that_were_being_sent_when_it_was_killed_are_completed(
    ward: Ward, tmp_path: Path, delivered: int
) -> None:
    patients = [sick(random.Random(n), FAULTS[0], ward.course, f"{ward.prefix}-{n}", ward.prefix) for n in range(7)]
    await admit(ward.config.cassandra, patients)
    await check(ward, tmp_path / "findings.jsonl")
    events = plan(read(tmp_path / "findings.jsonl"), list(Check), 1)
    assert len(events) == 7
    said: list[str] = []
    journal = Journal(tmp_path / "journal")
    repair = Repair(ward.config.kafka, journal, said.append)
    journal.intend(repair._ends([Remedy.RECOMPUTE]), events)
    send(ward.config.kafka, [event.message(ward.config.kafka) for event in events[:delivered]])
    journal.close()  # the process is gone

    journal = Journal(tmp_path / "journal")
    repair = Repair(ward.config.kafka, journal, said.append)
    assert await repair.finish_interrupted(all_of_them) == 7 - delivered
    await repair.send(events, 200, 10_000, all_of_them)
    expected = Counter(event.message(ward.config.kafka).value for event in events)
    assert Counter(ward.jobs.values(topics.ASSESS)) == expected
    journal.close()


async def test_what_is_not_wanted_any_more_after_a_kill_does_not_count_as_sent(ward: Ward, tmp_path: Path) -> None:
    keys = [EnrolmentKey(f"{ward.prefix}-{n}", ward.course.course_id, f"{ward.prefix}{PLAIN}") for n in range(3)]
    events = [Event(Remedy.RECOMPUTE, *key, "Q1", T0) for key in keys]
    journal = Journal(tmp_path / "journal")
    journal.intend(Repair(ward.config.kafka, journal, print)._ends([Remedy.RECOMPUTE]), events)
    send(ward.config.kafka, [events[0].message(ward.config.kafka)])
    journal.close()  # the process is gone

    async def only_the_second(left: Sequence[Event]) -> Sequence[Event]:
        assert left == events[1:]
        return left[:1]

    journal = Journal(tmp_path / "journal")
    assert await Repair(ward.config.kafka, journal, print).finish_interrupted(only_the_second) == 1
    journal.close()
    journal = Journal(tmp_path / "journal")
    assert list(journal.sent.values()) == events[:2]
    journal.close()


async def all_of_them(events: Sequence[Event]) -> Sequence[Event]:
    return events


async def archive(ward: Ward, patient: Patient) -> None:
    """As Sunbird's archival job: the attempts go, and what was computed of them stays."""
    cassandra = Cassandra(ward.config.cassandra, Metrics())
    await cassandra.open()
    try:
        delete = "DELETE FROM sunbird_courses.assessment_aggregator WHERE user_id = ? AND course_id = ?"
        await cassandra.write([[Write(await cassandra.prepare(delete), patient.key[:2])]])
    finally:
        await cassandra.close()


async def test_nothing_is_sent_for_what_is_not_found_any_more(ward: Ward, tmp_path: Path) -> None:
    """Between the check and the repair one learner's attempts were archived, and another one was put right."""
    patients = [sick(random.Random(n), FAULTS[0], ward.course, f"{ward.prefix}-{n}", ward.prefix) for n in range(3)]
    await admit(ward.config.cassandra, patients)
    findings = tmp_path / "findings.jsonl"
    await check(ward, findings)
    archived, right, wrong = patients
    await archive(ward, archived)
    right.of_course.update(recompute(right.chart().record, doctor_settings(ward.config)).changes.aggregates)
    await admit(ward.config.cassandra, [right])
    repair = desk(ward, "repair", str(findings), "--yes")
    while repair.poll() is None:
        await ward.jobs.apply()
        await asyncio.sleep(0.2)
    output = repair.communicate()[0]
    assert "1 of 3 sent, 2 not found any more" in output
    assert [wrong.key.user_id.encode() in value for value in ward.jobs.values(topics.ASSESS)] == [True]


async def test_the_lag_is_that_of_the_configured_group(ward: Ward, tmp_path: Path) -> None:
    await ward.jobs.apply()  # the job's own group has read everything there is
    kafka = ward.config.kafka
    other = kafka.model_copy(
        update={"group_ids": GroupIdsConfig.model_validate({"assessment_aggregator": f"{ward.prefix}-other"})}
    )
    key = EnrolmentKey(ward.prefix, ward.course.course_id, f"{ward.prefix}{PLAIN}")
    send(kafka, [remedies.event(Remedy.RECOMPUTE, key, "Q1", T0, kafka)])
    journal = Journal(tmp_path / "journal")
    repairs = [Repair(config, journal, print) for config in (kafka, other)]
    assert [repair.lag(Remedy.RECOMPUTE) for repair in repairs] == [1, 1]
    await ward.jobs.apply()
    assert [repair.lag(Remedy.RECOMPUTE) for repair in repairs] == [0, 1]
    journal.close()
