"""Packs `numbers_job.py` as the job `jobs.numbers`, so that it is submitted as the real jobs are."""

import shutil
from pathlib import Path

from local.config import REPOSITORY
from local.package import build_archive

MODULE = "jobs.numbers"


def build_numbers_archive(folder: Path) -> Path:
    """`common` as it is, and the job; returns the archive in `folder`."""
    repository = folder / "repository"
    job = repository / "jobs" / "numbers"
    job.mkdir(parents=True)
    shutil.copytree(REPOSITORY / "common", repository / "common")
    (repository / "jobs" / "__init__.py").touch()
    (job / "__init__.py").touch()
    (job / "config.yaml").write_text("a: 1\n")
    shutil.copy(REPOSITORY / "tests" / "support" / "numbers_job.py", job / "__main__.py")
    return build_archive(folder, repository)
