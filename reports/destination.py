"""Where finished reports go; this file has the interface and the local folder."""

import asyncio
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path


class Destination(ABC):
    """Takes finished files. Raises WorldFault, TaskFault and OSError."""

    @abstractmethod
    async def place(self, file: Path, path: Path) -> str:
        """Moves ``file`` to the relative ``path``, replaces what is there, and returns what ``download_urls`` holds."""

    @abstractmethod
    async def delete_leftovers(self, path: Path, *, with_itself: bool = False) -> None:
        """Deletes files that differ from ``path`` in date or suffix alone; ``with_itself``, also the file at ``path``.

        A run that is killed between a file and its row leaves a file that no row names. The next run makes it again,
        perhaps after midnight, or lets the request share the file of a duplicate.
        """


class Folder(Destination):
    """A local folder."""

    def __init__(self, folder: Path) -> None:
        """``folder`` is created with the first file. Unfinished files must be on the same file system."""
        self.folder = folder

    async def place(self, file: Path, path: Path) -> str:
        """Appears under its name when it is complete; ``path`` itself."""
        await asyncio.to_thread(self._place, file, self.folder / path)
        return path.as_posix()

    async def delete_leftovers(self, path: Path, *, with_itself: bool = False) -> None:
        """As the base class says."""
        await asyncio.to_thread(self._delete_leftovers, self.folder / path, with_itself)

    def _place(self, file: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)

    def _delete_leftovers(self, target: Path, with_itself: bool) -> None:
        names = [file.name for file in target.parent.iterdir()] if target.parent.exists() else []
        for name in leftovers(names, target.name, with_itself):
            target.with_name(name).unlink(missing_ok=True)
        if with_itself and names and not any(target.parent.iterdir()):
            target.parent.rmdir()


def leftovers(names: Iterable[str], name: str, with_itself: bool) -> list[str]:
    """Of names like ``<batch>_<report>_<yyyyMMdd>.<suffix>`` those of the same batch and report."""
    stem = name[: name.rindex("_") + 1]
    pattern = re.compile(re.escape(stem) + r"[0-9]{8}\.(csv|zip)")
    return [other for other in names if (with_itself or other != name) and pattern.fullmatch(other)]
