"""Folders for unfinished files: who deletes which."""

from pathlib import Path

from reports.scratch import delete_abandoned, scratch_folder


def test_a_folder_lasts_as_long_as_its_run(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "half.csv").touch()
        delete_abandoned(tmp_path)
        assert (folder / "half.csv").exists()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_run_has_left_is_deleted_without_a_new_folder(tmp_path: Path) -> None:
    left = tmp_path / ".exhaust-left"
    left.mkdir()
    (left / "half.csv").touch()
    (tmp_path / "finished.zip").touch()
    delete_abandoned(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["finished.zip"]


def test_a_new_folder_clears_what_killed_runs_have_left(tmp_path: Path) -> None:
    (tmp_path / ".exhaust-left").mkdir()
    with scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
