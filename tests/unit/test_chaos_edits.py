"""The archive with the edits of a chaos run: an edit that changes nothing is refused, not ignored."""

import zipfile
from pathlib import Path

import pytest

from chaos.cluster import Edit, apply_edits


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    archive = tmp_path / "code.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("jobs/a.py", "x = 1\n")
        file.writestr("jobs/b.py", "x = 1\n")
    return archive


def test_only_the_file_of_an_edit_changes(archive: Path) -> None:
    edits = [Edit("jobs/a.py", "x = 1", "x = 2"), Edit("jobs/a.py", "", "y = 3\n")]
    changed = apply_edits(archive, archive.with_name("changed.zip"), edits)
    with zipfile.ZipFile(changed) as file:
        assert {name: file.read(name) for name in file.namelist()} == {
            "jobs/a.py": b"x = 2\ny = 3\n",
            "jobs/b.py": b"x = 1\n",
        }


def test_without_edits_the_archive_stays_as_it_is(archive: Path) -> None:
    assert apply_edits(archive, archive.with_name("changed.zip"), []) == archive


def test_an_edit_of_a_file_that_the_archive_does_not_contain_is_refused(archive: Path) -> None:
    edits = [Edit("jobs/a.py", "x = 1", "x = 2"), Edit("jobs/moved.py", "x = 1", "x = 2")]
    with pytest.raises(ValueError, match=r"does not contain the files of these edits: jobs/moved\.py"):
        apply_edits(archive, archive.with_name("changed.zip"), edits)
