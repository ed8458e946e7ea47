"""Makes reports: one scan of the enrolments feeds the files of many batches."""

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from common.domain.faults import TaskFault, WorldFault
from common.servers.concurrency import gather_all
from reports.config import ReportsConfig
from reports.model import EnrolmentRow, ReportError
from reports.scratch import scratch_folder
from reports.store import Store, chunks
from reports.writers import WRITERS, Enrolled, File, Report, ReportWriter

_logger = logging.getLogger(__name__)

Result = TypeVar("Result")

Observe = Callable[[int], None]
"""Told how many more enrolments have been read."""

_BatchKey = tuple[str, str]
"""Ids of course and batch."""


def _always(_: Report) -> bool:
    return True


class Exhaust:
    """Makes the files of reports."""

    def __init__(self, config: ReportsConfig, store: Store, folder: Path) -> None:
        """``folder`` is where unfinished files are."""
        self._config = config
        self._store = store
        self._folder = folder

    async def make(
        self, reports: Sequence[Report], observe: Observe, is_wanted: Callable[[Report], bool] = _always
    ) -> AsyncIterator[tuple[Report, File | Exception]]:
        """Each report with its file, or with what went wrong; the file is to be moved before the next one is asked for.

        An error concerns this report alone: ReportError, WorldFault, TaskFault, OSError, or one that nobody expects,
        which is logged. ``is_wanted`` is asked before a file is written; a report that is not wanted any more is left
        out. Raises the WorldFault or TaskFault of the scan itself, and OSError.
        """
        for some in chunks(reports, self._config.reports_per_scan):
            with scratch_folder(self._folder) as folder, ExitStack() as stack:
                writers = [
                    WRITERS[report.job_id](report, self._config, self._store, folder / str(number))
                    for number, report in enumerate(some)
                ]
                for writer in writers:
                    stack.callback(writer.close)
                errors = await self._scan(writers, observe)
                for writer in writers:
                    if error := errors.get(writer):
                        yield writer.report, error
                    elif is_wanted(writer.report):
                        yield writer.report, await _result(writer.finish())
                    writer.close()

    async def _scan(self, writers: Sequence[ReportWriter], observe: Observe) -> dict[ReportWriter, Exception]:
        """Feeds the writers; the errors of those that have failed."""
        errors: dict[ReportWriter, Exception] = {}
        writers_by_batch: defaultdict[_BatchKey, list[ReportWriter]] = defaultdict(list)
        for writer in writers:
            opened = await _result(writer.open())
            if isinstance(opened, Exception):
                errors[writer] = opened
            else:
                batch = writer.report.batch
                writers_by_batch[batch.course_id, batch.batch_id].append(writer)
        if batches := [same_batch[0].report.batch for same_batch in writers_by_batch.values()]:
            async for page in self._store.enrolments(batches):
                await self._add(page, writers_by_batch, errors)
                observe(len(page))
        return errors

    async def _add(
        self,
        page: Sequence[EnrolmentRow],
        writers_by_batch: Mapping[_BatchKey, Sequence[ReportWriter]],
        errors: dict[ReportWriter, Exception],
    ) -> None:
        enrolments = [enrolment for enrolment in page if enrolment.is_reported]
        learners = await self._store.learners(list(dict.fromkeys(enrolment.user_id for enrolment in enrolments)))
        enrolled_by_batch: defaultdict[_BatchKey, list[Enrolled]] = defaultdict(list)
        for enrolment in enrolments:
            if learner := learners.get(enrolment.user_id):
                enrolled_by_batch[enrolment.course_id, enrolment.batch_id].append(Enrolled(enrolment, learner))

        async def add(writer: ReportWriter, enrolled: Sequence[Enrolled]) -> None:
            added = await _result(writer.add(enrolled))
            if isinstance(added, Exception):
                errors[writer] = added

        await gather_all(
            add(writer, enrolled)
            for key, enrolled in enrolled_by_batch.items()
            for writer in writers_by_batch[key]
            if writer not in errors
        )


async def _result(work: Awaitable[Result]) -> Result | Exception:
    """What ``work`` returns or raises."""
    try:
        return await work
    except (ReportError, WorldFault, TaskFault, OSError) as error:
        return error
    except Exception as error:
        _logger.error("a report has failed", exc_info=error)
        return error
