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
from chaos.load import Load
from chaos.oracle import compare
from chaos.sent import SentMessages
from tests.support.rules_pipeline import Pipeline

load = Load(4, cohort=4)
pipeline, messages = Pipeline(load), SentMessages()
for _ in range(300):
    pipeline.apply(load.next_event())
for message in pipeline.sent:
    messages.add(message.topic, message.value, message.key)
observed = messages.of(load)
observed.values, observed.written = pipeline.observed.values, pipeline.observed.written
print(len(compare(load, observed)))
"""


def problems(folder: Path, sabotage: str | None) -> int:
    """The number of problems that the oracle finds with the code changed by the sabotage."""
    for package in ("chaos", "common", "jobs", "local", "schema", "tests"):
        ignored = shutil.ignore_patterns("*.jar", "__pycache__")
        shutil.copytree(REPOSITORY / package, folder / package, ignore=ignored)
    for edit in SABOTAGES[sabotage].edits if sabotage else ():
        file = folder / edit.file
        file.write_text(edit.apply(file.read_text()))
    environment = os.environ | {"PYTHONPATH": str(folder)}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize(
    "sabotage",
    ["other requests", "other AUDIT events", "new ids for repeats", "other certificates", "count-replay"],
)
def test_a_sabotage_of_rules_or_messages_is_noticed(sabotage: str, tmp_path: Path) -> None:
    assert problems(tmp_path, sabotage) > 0


def test_without_a_sabotage_nothing_is_wrong(tmp_path: Path) -> None:
    assert problems(tmp_path, None) == 0
