"""The oracle notices the sabotages of rules and messages. It needs no servers for these, only the edited code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.sabotage import SABOTAGES
from local.config import REPOSITORY

PROGRAM = """
import sys
from chaos.load import Load
from chaos.oracle import compare
from chaos.sabotage import SABOTAGES
from chaos.sent import SentMessages
from tests.support.rules_pipeline import Pipeline

load = Load(6, cohort=4)
pipeline, messages = Pipeline(load), SentMessages()
for _ in range(500):
    pipeline.apply(load.next_event())
for number, message in enumerate(pipeline.sent):
    messages.add(message.topic, message.value, message.key, number)
observed = messages.of(load)
observed.values, observed.written = pipeline.observed.values, pipeline.observed.written
problems = compare(load, observed)
print(len(problems), bool(SABOTAGES[sys.argv[1]].noticed_by(problems)) if sys.argv[1:] else False)
"""


def problems(folder: Path, *sabotage: str) -> tuple[int, bool]:
    """The number of problems that the oracle finds with the code changed by the sabotage, and if it is noticed."""
    for package in ("chaos", "common", "jobs", "local", "schema", "tests"):
        ignored = shutil.ignore_patterns("*.jar", "__pycache__")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    for name in sabotage:
        for edit in SABOTAGES[name].edits:
            file = folder / edit.file
            file.write_text(edit.apply(file.read_text()))
    environment = os.environ | {"PYTHONPATH": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, *sabotage],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    number, is_noticed = result.stdout.split()
    return int(number), is_noticed == "True"


@pytest.mark.parametrize(
    "sabotage",
    [
        "other requests",
        "other AUDIT events",
        "other certificates",
        "no keys of failed events",
        "no metadata of failed events",
        "new ids for repeats",
        "new request ids for repeats",
        "new certificate ids for repeats",
        "AUDIT ids without the time",
        "request ids without the time",
        "certificate ids without the time",
        "lost certificates",
        "certificates without a score",
        "count-replay",
    ],
)
def test_a_sabotage_of_rules_or_messages_is_noticed(sabotage: str, tmp_path: Path) -> None:
    number, is_noticed = problems(tmp_path, sabotage)
    assert number > 0
    assert is_noticed


def test_without_a_sabotage_nothing_is_wrong(tmp_path: Path) -> None:
    assert problems(tmp_path) == (0, False)
