"""Packs the code of the jobs into one archive for `flink run --pyFiles`: `python -m local package`.

The archive holds the packages `common` and `jobs` with their YAML files, which the code reads with
`importlib.resources`. The same files always give the same bytes.
"""

import tempfile
import zipfile
from pathlib import Path

from local.config import REPOSITORY

ARCHIVE_NAME = "learner-aggregates.zip"
_PACKAGES = ("common", "jobs")
_SUFFIXES = frozenset({".py", ".yaml"})
# The earliest time that a zip can hold. With the files' own times every checkout would give different bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_archive(folder: Path, repository: Path = REPOSITORY) -> Path:
    """Writes the archive to `folder`, which is created if it is missing, and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / ARCHIVE_NAME
    files = sorted(
        file
        for package in _PACKAGES
        for file in (repository / package).rglob("*")
        if file.suffix in _SUFFIXES and file.is_file()
    )
    with (
        # Each caller writes its own temporary file, because several jobs may be submitted at once.
        tempfile.NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for file in files:
            entry = zipfile.ZipInfo(str(file.relative_to(repository)), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            target.writestr(entry, file.read_bytes())
    # Renamed at the end, so that a job that is being submitted never reads a half-written archive.
    Path(partial.name).replace(archive)
    return archive
