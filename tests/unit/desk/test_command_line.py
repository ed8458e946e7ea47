"""What ``python -m desk`` says of arguments that are wrong."""

import pytest

from desk.cli import main
from desk.config import DeskConfig
from tests.support.required_keys import REQUIRED


def exit_code(arguments: tuple[str, ...]) -> int:
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "a command is needed"),
        (("check",), "say --all, or --course, --batch or both"),
        (("check", "--all", "--batch", "b"), "say --all, or --course, --batch or both"),
        (("check", "--all", "--checks", "scores,tables"), "'tables' is not a valid Check; known are "),
        (("repair", "findings.jsonl", "--rate", "0"), "0 is less than 1"),
        (("preflight", "--jobs", "some.yaml"), "some"),
    ],
)
def test_the_reason_is_said(
    arguments: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in REQUIRED[DeskConfig].items():
        monkeypatch.setenv(name, value)
    assert exit_code(arguments) == 2
    assert reason in capsys.readouterr().err
