"""What a run shows: a live line on a terminal, plain lines anywhere else."""

from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

_ENROLMENTS_PER_LINE = 10_000


class Display:
    """Shows how far a run is; used by ``with``."""

    def __init__(self, console: Console | None = None) -> None:
        """``console`` writes to standard error by default: the results are files."""
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.completed:,.0f} enrolments"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: TaskID | None = None
        self._name = ""
        self._enrolments = 0

    def begin(self, name: str) -> None:
        """A scan begins."""
        self._name, self._enrolments = name, 0
        self._task = self._progress.add_task(name, total=None)

    def advance(self, enrolments: int) -> None:
        """So many more enrolments have been read."""
        before, self._enrolments = self._enrolments, self._enrolments + enrolments
        if self._task is not None:
            self._progress.advance(self._task, enrolments)
        lines = self._enrolments // _ENROLMENTS_PER_LINE
        if not self._console.is_terminal and before // _ENROLMENTS_PER_LINE < lines:
            self.print(self._name, f"{self._enrolments:,} enrolments")

    def end(self) -> None:
        """The scan has ended."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None

    def print(self, name: str, what: str) -> None:
        """A line of its own."""
        # Ids and messages are no markup, whatever brackets they have, and must not be wrapped.
        self._console.print(f"{name}: {what}", markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        """Starts the live line, if there is one."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends it."""
        self._progress.stop()
