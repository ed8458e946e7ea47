"""Check and repair as commands, as an operator types them."""

import random
import re
from pathlib import Path

import pytest

from common.domain import topics
from desk.doctor.findings import read
from tests.integration.doctor.conftest import Ward
from tests.support.desk_world import run_desk
from tests.support.patient_rows import admit
from tests.support.patients import Patient, score_differs, sick


@pytest.fixture
async def patients(ward: Ward) -> list[Patient]:
    """Two learners whose stored scores are wrong."""
    made = [sick(random.Random(n), score_differs, ward.course, f"{ward.prefix}-{n}", ward.prefix) for n in range(2)]
    await admit(ward.config.cassandra, made)
    return made


def test_a_check_sums_up_what_it_has_found_and_is_continued(
    ward: Ward, patients: list[Patient], tmp_path: Path
) -> None:
    file = tmp_path / "findings.jsonl"
    arguments = ("check", "--course", ward.course.course_id, "--findings", str(file))
    for _ in range(2):
        ended = run_desk(ward.environment, *arguments)
        assert ended.returncode == 0, ended.stderr
        assert f"2 enrolments examined, findings in {file}\n" in ended.stdout
        for check, kind in patients[0].expected:
            assert re.search(rf"^ +2  {check}: {kind}", ended.stdout, re.MULTILINE)
    assert {finding.user_id for finding in read(file)} == {patient.key.user_id for patient in patients}

    other = (
        "check",
        "--course",
        ward.course.course_id,
        "--checks",
        "times",
        "--findings",
        str(tmp_path / "times.jsonl"),
    )
    assert "nothing is wrong\n" in run_desk(ward.environment, *other).stdout


def test_a_repair_sends_nothing_unless_told_to(ward: Ward, patients: list[Patient], tmp_path: Path) -> None:
    file = str(tmp_path / "findings.jsonl")
    run_desk(ward.environment, "check", "--course", ward.course.course_id, "--findings", file)
    dry = run_desk(ward.environment, "repair", file, "--dry-run")
    assert (dry.returncode, dry.stdout.splitlines()[0]) == (0, "       2  recompute")
    for patient in patients:
        assert patient.key.user_id in dry.stdout
    nobody_asked = run_desk(ward.environment, "repair", file)
    assert (nobody_asked.returncode, nobody_asked.stderr) == (1, "nothing was sent: say --yes\n")
    assert run_desk(ward.environment, "repair", file, "--only", "times", "--yes").stdout == "nothing to send\n"
    assert ward.jobs.values(topics.ASSESS) == []
