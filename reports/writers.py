"""Writers of one report each: they are fed learners page by page and end with a file."""

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

from reports import output, progress, response
from reports.config import ReportsConfig
from reports.hierarchy import AssessmentTypes, read_course
from reports.model import Batch, Collection, EnrolmentRow, Learner, is_visible
from reports.output import CsvFormat
from reports.progress import ProgressRows
from reports.protection import Protection, protect
from reports.response import ResponseRows
from reports.store import Store, chunks
from reports.threads import Check, in_thread

if TYPE_CHECKING:
    from reports.archived_attempts import ArchivedAttempts

JOB_IDS = (progress.JOB_ID, response.JOB_ID)

_LEARNERS_WITH_ATTEMPTS = 32
"""Learners whose attempts are in memory at a time: some kilobytes a question, and no bound on a learner's attempts."""

_ARCHIVED = "archived-attempts"
"""The name of a temporary file, which no report has: theirs end with a date and a suffix."""


class Enrolled(NamedTuple):
    """An enrolled learner."""

    enrolment: EnrolmentRow
    learner: Learner


@dataclass(frozen=True, eq=False, slots=True)
class Report:
    """A file to be made."""

    job_id: str
    """One of :data:`JOB_IDS`."""
    batch: Batch
    collection: Collection
    now: datetime
    request_id: str | None = None
    channel: str | None = None
    """The requester's organisation; None for an operator, who sees all learners."""
    protection: Protection = field(default_factory=Protection)


class File(NamedTuple):
    """A finished file, still among the unfinished ones."""

    file: Path
    path: Path
    """Where it belongs, relative to its destination."""
    size_in_bytes: int


class ReportWriter(ABC):
    """Writes one report. Its methods raise ReportError, WorldFault, TaskFault and OSError."""

    label: ClassVar[str]
    """What the report is called in the names of files."""

    def __init__(
        self, report: Report, config: ReportsConfig, store: Store, folder: Path, columns: Mapping[str, str]
    ) -> None:
        """``folder`` is a new one for the unfinished files of this report. ``columns`` are titles by column."""
        self.report = report
        self._store = store
        self._zone = ZoneInfo(config.time_zone)
        self._csv_format = CsvFormat(config.csv.escape_formulas, config.csv.byte_order_mark)
        self._folder = folder
        self._columns = columns
        self._spool: output.Spool | None = None

    async def open(self) -> None:
        """Reads what all rows need. :meth:`close` is to be called whatever happens."""
        # Before any work: an id that cannot be part of a file name fails at once.
        self._path()
        self._folder.mkdir()
        self._spool = output.Spool(tempfile.TemporaryFile(dir=self._folder), self._columns)  # noqa: SIM115
        await self._read_course()

    async def add(self, page: Sequence[Enrolled]) -> None:
        """Adds the rows of some learners of the batch, of those alone whom the requester may see."""
        report = self.report
        if visible := [one for one in page if is_visible(one.learner, report.collection, report.channel)]:
            await self._add(visible)

    async def finish(self) -> File:
        """The finished file. In a thread, so that the run can be told to end meanwhile."""
        return await in_thread(self._finish)

    def close(self) -> None:
        """Frees the space of the rows. May be called again."""
        spool, self._spool = self._spool, None
        if spool is not None:
            spool.close()

    @abstractmethod
    async def _read_course(self) -> None: ...

    @abstractmethod
    async def _add(self, page: Sequence[Enrolled]) -> None: ...

    @property
    def _rows(self) -> output.Spool:
        if self._spool is None:
            raise RuntimeError("the writer is not open")
        return self._spool

    def _path(self) -> Path:
        now = self.report.now.astimezone(self._zone)
        return output.relative_path(
            self.report.job_id, self.report.request_id, self.report.batch.batch_id, self.label, now
        )

    def _finish(self, check: Check) -> File:
        path = self._path()
        csv_file = self._folder / path.name
        self._rows.write(csv_file, self._csv_format, check)
        self.close()
        file = protect(csv_file, self.report.protection, check)
        if file != csv_file:
            csv_file.unlink()
        return File(file, path.with_name(file.name), file.stat().st_size)


class ProgressWriter(ReportWriter):
    """Of the progress report."""

    label = progress.FILE_LABEL

    def __init__(self, report: Report, config: ReportsConfig, store: Store, folder: Path) -> None:
        """As the base class says."""
        super().__init__(report, config, store, folder, config.progress_columns)
        self._types = AssessmentTypes(
            config.assessment_content_types, config.assessment_object_types, config.assessment_primary_categories
        )
        self._progress: ProgressRows | None = None

    async def _read_course(self) -> None:
        batch = self.report.batch
        course = read_course(await self._store.hierarchy(batch.course_id), self._types)
        optional = await self._store.optional_contents(batch.course_id)
        self._progress = ProgressRows(self.report.collection, batch, course, optional, self._zone)

    async def _add(self, page: Sequence[Enrolled]) -> None:
        if self._progress is None:
            raise RuntimeError("the writer is not open")
        aggregates = await self._store.aggregates(self.report.batch, [one.enrolment.user_id for one in page])
        for enrolled, merged in zip(page, aggregates, strict=True):
            self._rows.add(*self._progress.row(enrolled.enrolment, enrolled.learner, merged))


class ResponseWriter(ReportWriter):
    """Of the response report."""

    label = response.FILE_LABEL

    def __init__(self, report: Report, config: ReportsConfig, store: Store, folder: Path) -> None:
        """As the base class says."""
        super().__init__(report, config, store, folder, config.response_columns)
        self._responses = ResponseRows(report.collection, report.batch, self._zone)
        self._titles: dict[str, str] = {}
        self._config = config
        self._archived: ArchivedAttempts | None = None

    def close(self) -> None:
        """As the base class says."""
        archived, self._archived = self._archived, None
        if archived is not None:
            archived.close()
        super().close()

    async def _read_course(self) -> None:
        if url := self._config.archived_attempts.url:
            # Where it is needed: a report without archived attempts does without the client's 4 MiB.
            from reports.archived_attempts import open_archived_attempts  # noqa: PLC0415

            file = self._folder / _ARCHIVED
            self._archived = await open_archived_attempts(url, self._config.object_storage, self.report.batch, file)

    async def _add(self, page: Sequence[Enrolled]) -> None:
        for user_ids in chunks([one.enrolment.user_id for one in page], _LEARNERS_WITH_ATTEMPTS):
            attempts_by_user = await self._store.attempts(self.report.batch, user_ids)
            if self._archived is not None:
                archived = self._archived.of(user_ids)
                attempts_by_user = [
                    response.with_archived(attempts, archived.get(user_id, ()))
                    for user_id, attempts in zip(user_ids, attempts_by_user, strict=True)
                ]
            contents = {attempt.content_id for attempts in attempts_by_user for attempt in attempts}
            if new := contents - self._titles.keys():
                self._titles |= dict.fromkeys(new, "") | await self._store.titles(new)
            for user_id, attempts in zip(user_ids, attempts_by_user, strict=True):
                for attempt in attempts:
                    for cells in self._responses.rows(user_id, attempt, self._titles):
                        self._rows.add(cells)


WRITERS: Mapping[str, type[ProgressWriter] | type[ResponseWriter]] = {
    progress.JOB_ID: ProgressWriter,
    response.JOB_ID: ResponseWriter,
}
