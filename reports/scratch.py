"""A folder for files that are not finished, which no killed run leaves behind for long."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".exhaust-"


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent`` that only this user can read; gone at the end, with all that is in it.

    It is locked as long as this process lives. Raises OSError.
    """
    parent.mkdir(parents=True, exist_ok=True)
    delete_abandoned(parent)
    while (created := _create(parent)) is None:
        pass
    folder, lock = created
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def delete_abandoned(parent: Path) -> None:
    """Deletes folders of the same kind that are not locked: they belonged to runs that were killed."""
    for folder in parent.glob(f"{_PREFIX}*"):
        _delete_if_abandoned(folder)


def _create(parent: Path) -> tuple[Path, int] | None:
    """None if another run has taken the folder for an abandoned one before it was locked."""
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if folder.stat().st_ino == os.fstat(lock).st_ino:
            return folder, lock
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(lock)
    return None


def _delete_if_abandoned(folder: Path) -> None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # deleted by its owner, or no folder
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass  # in use
    finally:
        os.close(lock)
