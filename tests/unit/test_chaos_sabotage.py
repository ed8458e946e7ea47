"""The edits of the chaos runs still fit the code of the jobs, so that they do not fail when they are needed."""

import ast

import pytest

from chaos.cluster import Edit
from chaos.faults import CODE_CHANGE, FAULTS
from chaos.oracle import Kind, Problem
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


@pytest.mark.parametrize("sabotage", SABOTAGES.values(), ids=SABOTAGES.keys())
def test_a_sabotage_is_noticed_by_a_problem_of_its_kinds_only(sabotage: Sabotage) -> None:
    assert sabotage.kinds
    for kind in Kind:
        assert bool(sabotage.noticed_by([Problem(kind, f"this is {sabotage.about}")])) == (kind in sabotage.kinds)
    assert not sabotage.noticed_by([])
    assert bool(sabotage.noticed_by([Problem(kind, "") for kind in sabotage.kinds])) == (not sabotage.about)


def test_every_kind_of_problem_is_what_some_sabotage_leads_to() -> None:
    assert {kind for sabotage in SABOTAGES.values() for kind in sabotage.kinds} == set(Kind)


def test_the_mechanisms_against_workers_that_write_too_late_are_removed_one_at_a_time() -> None:
    """Each is shown to matter without the other, which is still there."""
    pause, failure = (
        {edit.old for edit in SABOTAGES[f"zombies after a {name}"].edits} for name in ("pause", "failure")
    )
    of_pauses, of_end = "        if seconds is not None:\n", "        if has_task_ended():\n"
    assert of_pauses in pause - failure
    assert {of_end, "    os._exit(1)\n"} <= failure - pause


def test_the_file_of_the_code_change_exists() -> None:
    assert (REPOSITORY / CODE_CHANGE.file).is_file()


@pytest.mark.parametrize("text", ["", "x = 1\n", "y = 1\ny = 1\n"])
def test_an_edit_is_refused_unless_its_old_text_occurs_exactly_once(text: str) -> None:
    with pytest.raises(ValueError, match=rf"a\.py contains this {text.count('y = 1')} times instead of once:\ny = 1"):
        Edit("a.py", "y = 1", "y = 2").apply(text)


def test_an_edit_without_old_text_appends() -> None:
    assert Edit("a.py", "", "y = 2\n").apply("x = 1\n") == "x = 1\ny = 2\n"
