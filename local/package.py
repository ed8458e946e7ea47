"""Packs what a job needs on the cluster into one archive: `python -m local package` or `build_archive`.

The archive is what `flink run --pyFiles` ships. It holds the packages `common` and `jobs` with their YAML files, which
code reads by `importlib.resources`, and is the same, byte for byte, whenever the files are.
"""

import tempfile
import zipfile
from pathlib import Path

from local.config import REPOSITORY

ARCHIVE_NAME = "learner-aggregates.zip"
_PACKAGES = ("common", "jobs")
_SUFFIXES = frozenset({".py", ".yaml"})
# The earliest time a zip can hold: the files' own times would make every checkout's archive another.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def build_archive(folder: Path, repository: Path = REPOSITORY) -> Path:
    """Writes the archive into `folder` (made if need be) and returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / ARCHIVE_NAME
    files = sorted(
        file
        for package in _PACKAGES
        for file in (repository / package).rglob("*")
        if file.suffix in _SUFFIXES and file.is_file()
    )
    with (
        # One of its own for each caller: several jobs may be submitted at once.
        tempfile.NamedTemporaryFile(dir=folder, suffix=".partial", delete=False) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for file in files:
            entry = zipfile.ZipInfo(str(file.relative_to(repository)), _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            target.writestr(entry, file.read_bytes())
    # A job that is being submitted never sees half an archive.
    Path(partial.name).replace(archive)
    return archive
