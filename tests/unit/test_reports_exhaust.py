"""Reports of batches that exist in no table: memory, one scan for all, and one report's failure, which is its own."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.config.loader import load
from common.domain.faults import WorldFault
from reports import protection
from reports.config import ReportsConfig
from reports.exhaust import Exhaust
from reports.model import Batch, EnrolmentRow, Learner, ReportError
from reports.model import Collection as Course
from reports.protection import Level, Protection
from reports.response import AttemptRow
from reports.threads import Check
from reports.writers import JOB_IDS, File, Report
from tests.support.required_keys import REQUIRED

NOON = datetime(2024, 5, 14, 12, 0, tzinfo=UTC)
COLLECTION, BATCH = Course("course", "Roses", "owner"), Batch("course", "b", "May")
PAGE = 100
TREE = '{"leafNodesCount": 5, "children": [{"identifier": "quiz", "contentType": "SelfAssess"}]}'
PROGRESS, RESPONSE = JOB_IDS


class Crowd:
    """A store of any number of learners, each made when it is asked for."""

    def __init__(self, learners: int) -> None:
        self._learners = learners
        self.scans = 0
        self.broken: dict[str, Exception] = {}
        """By course."""

    async def hierarchy(self, course_id: str) -> str:
        if course_id in self.broken:
            raise self.broken[course_id]
        return TREE

    async def optional_contents(self, _: str) -> frozenset[str]:
        return frozenset()

    async def enrolments(self, batches: Collection[Batch]) -> AsyncIterator[list[EnrolmentRow]]:
        self.scans += 1
        for start in range(0, self._learners, PAGE):
            yield [
                EnrolmentRow(
                    f"u-{number}", batch.course_id, batch.batch_id, True, NOON, None, None, {"quiz": 2}, None, None
                )
                for number in range(start, start + PAGE)
                for batch in batches
            ]

    async def learners(self, user_ids: Sequence[str]) -> dict[str, Learner]:
        return {user_id: {"schoolname": "x" * 1_000} for user_id in user_ids}

    async def aggregates(self, _: Batch, user_ids: Sequence[str]) -> list[dict[str, float]]:
        return [{"score:quiz": 7.5, "max_score:quiz": 10.0} for _ in user_ids]

    async def attempts(self, _: Batch, user_ids: Sequence[str]) -> list[list[AttemptRow]]:
        return [[AttemptRow("quiz", "a", NOON, 7.5, '[{"title": "' + "x" * 1_000 + '"}]')] for _ in user_ids]

    async def titles(self, content_ids: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(content_ids, "Quiz")


Made = list[tuple[Report, File | Exception]]


def make(store: Crowd, folder: Path, *reports: Report, **variables: str) -> tuple[Made, int]:
    """What became of the reports, and how many enrolments were said to be read."""
    config = load(
        ReportsConfig,
        environ=REQUIRED[ReportsConfig] | {f"AGGREGATES__{name}": value for name, value in variables.items()},
    )
    exhaust = Exhaust(config, store, folder)  # type: ignore[arg-type]
    observed: list[int] = []

    async def collect() -> Made:
        return [made async for made in exhaust.make(reports, observed.append)]

    return asyncio.run(collect()), sum(observed)


def report(job_id: str = PROGRESS, course_id: str = "course", batch_id: str = "b", **fields: Any) -> Report:
    collection, batch = COLLECTION._replace(course_id=course_id), BATCH._replace(course_id=course_id, batch_id=batch_id)
    return Report(job_id, batch, collection, **{"now": NOON, **fields})


@pytest.mark.parametrize("job_id", JOB_IDS)
def test_memory_is_flat_in_the_number_of_learners(job_id: str, tmp_path: Path) -> None:
    def peak(learners: int) -> int:
        tracemalloc.start()
        try:
            [(_, file)], observed = make(
                Crowd(learners), tmp_path, report(job_id, protection=Protection(is_zipped=False))
            )
            assert observed == learners
            assert isinstance(file, File) and file.size_in_bytes > learners * 1_000
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(PAGE)  # what is imported and cached at the first use
    assert peak(30 * PAGE) < peak(5 * PAGE) + 200_000  # bytes; 2,500 more learners are 2,500,000 of text


def test_all_batches_and_both_reports_share_one_scan(tmp_path: Path) -> None:
    store = Crowd(PAGE)
    reports = [report(job_id, course, batch) for job_id in JOB_IDS for course in "xy" for batch in "abc"]
    made, observed = make(store, tmp_path, *reports)
    assert [each for each, _ in made] == reports
    assert all(isinstance(file, File) for _, file in made)
    assert (store.scans, observed) == (1, 6 * PAGE)


def test_more_reports_than_open_files_need_more_scans(tmp_path: Path) -> None:
    store = Crowd(PAGE)
    made, _ = make(store, tmp_path, *(report(batch_id=batch) for batch in "abcde"), REPORTS_PER_SCAN="2")
    assert [isinstance(file, File) for _, file in made] == [True] * 5
    assert store.scans == 3


@pytest.mark.parametrize("error", [ReportError("broken"), WorldFault("down"), OSError("full"), ValueError("a bug")])
def test_one_report_that_fails_leaves_the_others_alone(error: Exception, tmp_path: Path) -> None:
    store = Crowd(PAGE)
    store.broken["bad"] = error
    made, _ = make(store, tmp_path, report(), report(course_id="bad"), report(batch_id="c"))
    assert [isinstance(result, File) or result for _, result in made] == [True, error, True]


def test_an_id_that_cannot_name_a_file_fails_before_the_scan(tmp_path: Path) -> None:
    store = Crowd(PAGE)
    [(_, error)], _ = make(store, tmp_path, report(batch_id="../b"))
    assert isinstance(error, ReportError)
    assert store.scans == 0


@pytest.mark.parametrize(
    ("level", "result"),
    [(Protection(), Path("progress-exhaust/b_progress_20240514.csv")), (Protection(Level.PASSWORD, "secret"), None)],
)
def test_a_zip_that_fails(
    level: Protection, result: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody has asked to encrypt stays a CSV; a disk that is full is not the requester's fault."""

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(protection, "write_zip", fail)
    [(_, made)], _ = make(Crowd(PAGE), tmp_path, report(protection=level))
    if result is None:
        assert isinstance(made, WorldFault)
    else:
        assert isinstance(made, File) and made.path == result


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    make(Crowd(PAGE), tmp_path, report(), report(RESPONSE))
    assert list(tmp_path.iterdir()) == []


def test_the_date_is_that_of_the_reports_zone(tmp_path: Path) -> None:
    [(_, made)], _ = make(Crowd(0), tmp_path, report(now=NOON.replace(hour=19), request_id="A1"))
    assert isinstance(made, File)
    assert made.path == Path("progress-exhaust/A1/b_progress_20240515.zip")


def test_a_run_that_is_told_to_end_does_not_wait_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are written in a thread that looks again and again whether anybody waits for them."""
    started = asyncio.Event()

    async def run() -> None:
        loop = asyncio.get_running_loop()

        def write_for_ever(_source: Path, _target: Path, _password: str | None, check: Check) -> None:
            loop.call_soon_threadsafe(started.set)
            while True:
                check()

        monkeypatch.setattr(protection, "write_zip", write_for_ever)
        exhaust = Exhaust(load(ReportsConfig, environ=REQUIRED[ReportsConfig]), Crowd(PAGE), tmp_path)  # type: ignore[arg-type]

        async def make_one() -> None:
            async for _ in exhaust.make([report()], lambda _: None):
                pass

        task = asyncio.ensure_future(make_one())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 30)

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []
