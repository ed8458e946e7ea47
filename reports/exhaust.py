"""One batch, one file: reads a batch page by page and writes its report."""

import logging
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from reports import output, progress, response
from reports.config import ReportsConfig
from reports.hierarchy import AssessmentTypes, read_course
from reports.model import Batch, Collection, Enrolment, Learner, ReportError, is_visible
from reports.progress import ProgressRows
from reports.response import ResponseRows
from reports.store import Store, chunks

_logger = logging.getLogger(__name__)

JOB_IDS = (progress.JOB_ID, response.JOB_ID)

_LEARNERS_WITH_ATTEMPTS = 32
"""Whose attempts are in memory at a time: some kilobytes a question, and no bound on a learner's attempts."""

Observe = Callable[[int], None]
"""Told how many more learners have been read."""


class Enrolled(NamedTuple):
    """An enrolled learner of whom the requester may know."""

    enrolment: Enrolment
    learner: Learner


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a report goes and for whom it is."""

    folder: Path
    """The path of the file is taken from here."""
    now: datetime
    request_id: str | None = None
    channel: str | None = None
    """The requester's organisation; None for an operator, who sees all learners."""
    password: str | None = field(default=None, repr=False)
    is_zipped: bool = True


class File(NamedTuple):
    """A file that was written."""

    path: Path
    """Relative to the folder of its delivery."""
    size_in_bytes: int


class Exhaust:
    """The reports of one kind."""

    def __init__(self, job_id: str, config: ReportsConfig, store: Store) -> None:
        """``job_id`` is one of :data:`JOB_IDS`."""
        self._job_id = job_id
        self._config = config
        self._store = store
        self._zone = ZoneInfo(config.time_zone)
        self._types = AssessmentTypes(
            config.assessment_content_types, config.assessment_object_types, config.assessment_primary_categories
        )

    async def write(self, batch: Batch, collection: Collection, delivery: Delivery, observe: Observe) -> File:
        """Writes the report of a batch. Raises ReportError, and the store's and the file system's errors."""
        label, columns, add_rows = {
            progress.JOB_ID: (progress.FILE_LABEL, self._config.progress_columns, self._add_progress),
            response.JOB_ID: (response.FILE_LABEL, self._config.response_columns, self._add_responses),
        }[self._job_id]
        now = delivery.now.astimezone(self._zone)
        path = output.relative_path(self._job_id, delivery.request_id, batch.batch_id, label, now)
        learners = self._learners(batch, collection, delivery.channel, observe)
        delivery.folder.mkdir(parents=True, exist_ok=True)
        # Nobody else can read what lies here, and nothing of it stays.
        with tempfile.TemporaryDirectory(prefix=".exhaust-", dir=delivery.folder) as scratch:
            file = Path(scratch, path.name)
            with tempfile.TemporaryFile(dir=scratch) as rows:
                spool = output.Spool(rows, columns)
                await add_rows(spool, batch, collection, learners)
                spool.write(file)
            if delivery.is_zipped:
                file = _zip(file, delivery.password)
            size = file.stat().st_size
            target = delivery.folder / path.with_name(file.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
        return File(path.with_name(file.name), size)

    async def _learners(
        self, batch: Batch, collection: Collection, channel: str | None, observe: Observe
    ) -> AsyncIterator[list[Enrolled]]:
        async for page in self._store.enrolments(batch):
            enrolments = [enrolment for enrolment in page if enrolment.is_reported]
            learners = await self._store.learners([enrolment.user_id for enrolment in enrolments])
            yield [
                Enrolled(enrolment, learner)
                for enrolment in enrolments
                if (learner := learners.get(enrolment.user_id)) and is_visible(learner, collection, channel)
            ]
            observe(len(enrolments))

    async def _add_progress(
        self, spool: output.Spool, batch: Batch, collection: Collection, pages: AsyncIterator[list[Enrolled]]
    ) -> None:
        course = read_course(await self._store.hierarchy(batch.course_id), self._types)
        optional = await self._store.optional_contents(batch.course_id)
        rows = ProgressRows(collection, batch, course, optional, self._zone)
        async for page in pages:
            aggregates = await self._store.aggregates(batch, [enrolled.enrolment.user_id for enrolled in page])
            for enrolled, merged in zip(page, aggregates, strict=True):
                spool.add(*rows.row(enrolled.enrolment, enrolled.learner, merged))

    async def _add_responses(
        self, spool: output.Spool, batch: Batch, collection: Collection, pages: AsyncIterator[list[Enrolled]]
    ) -> None:
        rows = ResponseRows(collection, batch, self._zone)
        titles: dict[str, str] = {}
        async for page in pages:
            for some in chunks([enrolled.enrolment.user_id for enrolled in page], _LEARNERS_WITH_ATTEMPTS):
                found = await self._store.attempts(batch, some)
                contents = {attempt.content_id for attempts in found for attempt in attempts}
                if new := contents - titles.keys():
                    titles |= dict.fromkeys(new, "") | await self._store.titles(new)
                for user_id, attempts in zip(some, found, strict=True):
                    for attempt in attempts:
                        for cells in rows.rows(user_id, attempt, titles):
                            spool.add(cells)


def _zip(csv_file: Path, password: str | None) -> Path:
    """The zip beside ``csv_file``; ``csv_file`` itself if it could not be made and nobody has asked for a password."""
    target = csv_file.with_suffix(".zip")
    try:
        output.write_zip(csv_file, target, password)
    except OSError as error:
        # What is to be encrypted must not go out in plain text.
        if password:
            raise ReportError("Zip, encrypt and upload failed") from error
        _logger.warning("the report stays a CSV, because it cannot be zipped: %s", error)
        return csv_file
    return target
