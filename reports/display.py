"""What a run shows: a live line on a terminal, plain lines anywhere else."""

from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_LEARNERS_PER_LINE = 10_000


class Display:
    """Of one report after the other; used by ``with``."""

    def __init__(self, console: Console | None = None) -> None:
        """``console`` writes to standard error by default: what is asked for is in files."""
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.completed:,.0f} learners"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._learners = 0

    def begin(self, name: str) -> None:
        """Something is being read now."""
        self._name, self._learners = name, 0
        self._task = self._progress.add_task(name, total=None)

    def advance(self, learners: int) -> None:
        """So many more learners have been read."""
        before, self._learners = self._learners, self._learners + learners
        if self._task is not None:
            self._progress.advance(self._task, learners)
        if not self._console.is_terminal and before // _LEARNERS_PER_LINE < self._learners // _LEARNERS_PER_LINE:
            self._print(f"{self._learners:,} learners")

    def end(self, what: str) -> None:
        """What was begun has ended with this."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._print(what)

    def __enter__(self) -> Self:
        """Starts the live line, if there is one."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._progress.stop()

    def _print(self, what: str) -> None:
        # Ids and messages are no markup, whatever brackets they have, and lines are cut by nobody.
        self._console.print(f"{self._name}: {what}", markup=False, highlight=False, soft_wrap=True)
