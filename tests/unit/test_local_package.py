"""The archive that is shipped to the cluster."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from local.package import build_archive


def make_repository(folder: Path) -> Path:
    for name, text in {
        "common/__init__.py": "",
        "common/tool.py": "NAME = 'tool'",
        "jobs/__init__.py": "",
        "jobs/one/__init__.py": "",
        "jobs/one/__main__.py": (
            "import importlib.resources, common.tool\n"
            "print(common.tool.NAME, importlib.resources.files(__package__).joinpath('config.yaml').read_text())"
        ),
        "jobs/one/config.yaml": "a: 1",
        "jobs/one/__pycache__/stale.cpython-311.pyc": "",
        "tests/test_it.py": "",
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


def test_it_holds_the_two_packages_and_runs_by_itself(tmp_path: Path) -> None:
    archive = build_archive(tmp_path / "out", make_repository(tmp_path / "repository"))
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == [
            "common/__init__.py",
            "common/tool.py",
            "jobs/__init__.py",
            "jobs/one/__init__.py",
            "jobs/one/__main__.py",
            "jobs/one/config.yaml",
        ]
    output = subprocess.run(
        [sys.executable, "-m", "jobs.one"],
        env={"PYTHONPATH": str(archive)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert output == "tool a: 1\n"


def test_the_same_files_make_the_same_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    first = make_repository(tmp_path / "first")
    second = make_repository(tmp_path / "second")
    os.utime(second / "common" / "tool.py", (1_000_000_000, 1_000_000_000))
    (second / "common" / "tool.py").chmod(0o600)
    assert build_archive(tmp_path / "a", first).read_bytes() == build_archive(tmp_path / "b", second).read_bytes()
