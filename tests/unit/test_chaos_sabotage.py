"""The edits of the chaos runs still fit the code of the jobs, so that they do not fail when they are needed."""

import ast

import pytest

from chaos.cluster import Edit
from chaos.faults import CODE_CHANGE, FAULTS
from chaos.sabotage import SABOTAGES, Sabotage
from local.config import REPOSITORY


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_every_edit_of_a_sabotage_applies_and_the_code_still_compiles(sabotage: Sabotage) -> None:
    original: dict[str, str] = {}
    changed: dict[str, str] = {}
    for edit in sabotage.edits:
        original.setdefault(edit.file, (REPOSITORY / edit.file).read_text())
        changed[edit.file] = edit.apply(changed.get(edit.file, original[edit.file]))

    assert changed
    for file, text in changed.items():
        assert ast.dump(ast.parse(text, file)) != ast.dump(ast.parse(original[file], file))


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_every_fault_of_a_sabotage_exists(sabotage: Sabotage) -> None:
    assert sabotage.faults
    assert set(sabotage.faults) <= FAULTS.keys()


def test_the_file_of_the_code_change_exists() -> None:
    assert (REPOSITORY / CODE_CHANGE.file).is_file()


@pytest.mark.parametrize("text", ["", "x = 1\n", "y = 1\ny = 1\n"])
def test_an_edit_is_refused_unless_its_old_text_occurs_exactly_once(text: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.py contains this {text.count('y = 1')} times instead of once:\ny = 1"):
        Edit("a.py", "y = 1", "y = 2").apply(text)


def test_an_edit_without_old_text_appends() -> None:
    assert Edit("a.py", "", "y = 2\n").apply("x = 1\n") == "x = 1\ny = 2\n"
