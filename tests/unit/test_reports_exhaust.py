"""A whole report of a batch that exists in no table: the memory it takes, and what is left when it fails."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.config.loader import load
from reports import output
from reports.config import ReportsConfig
from reports.exhaust import JOB_IDS, Delivery, Exhaust, File
from reports.model import Batch, Collection, Enrolment, Learner, ReportError
from reports.response import Attempt
from tests.support.required_keys import REQUIRED

NOON = datetime(2024, 5, 14, 12, 0, tzinfo=UTC)
COLLECTION, BATCH = Collection("course", "Roses", "owner"), Batch("course", "b", "May")
PAGE = 100
TREE = '{"leafNodesCount": 5, "children": [{"identifier": "quiz", "contentType": "SelfAssess"}]}'


class Crowd:
    """A store of any number of learners, each made when it is asked for."""

    def __init__(self, learners: int) -> None:
        self._learners = learners

    async def hierarchy(self, _: str) -> str:
        return TREE

    async def optional_contents(self, _: str) -> frozenset[str]:
        return frozenset()

    async def enrolments(self, _: Batch) -> AsyncIterator[list[Enrolment]]:
        for start in range(0, self._learners, PAGE):
            yield [
                Enrolment(f"u-{number}", True, NOON, None, None, {"quiz": 2}, None, None)
                for number in range(start, start + PAGE)
            ]

    async def learners(self, user_ids: Sequence[str]) -> dict[str, Learner]:
        return {user_id: {"schoolname": "x" * 1_000} for user_id in user_ids}

    async def aggregates(self, _: Batch, user_ids: Sequence[str]) -> list[dict[str, float]]:
        return [{"score:quiz": 7.5, "max_score:quiz": 10.0} for _ in user_ids]

    async def attempts(self, _: Batch, user_ids: Sequence[str]) -> list[list[Attempt]]:
        return [[Attempt("quiz", "a", NOON, '[{"title": "' + "x" * 1_000 + '"}]')] for _ in user_ids]

    async def titles(self, content_ids: Sequence[str]) -> dict[str, str]:
        return dict.fromkeys(content_ids, "Quiz")


def write(job_id: str, learners: int, folder: Path, **delivery: Any) -> tuple[File, int]:
    """The file, and how many learners were said to be read."""
    config = load(ReportsConfig, environ=REQUIRED[ReportsConfig])
    observed: list[int] = []
    exhaust = Exhaust(job_id, config, Crowd(learners))  # type: ignore[arg-type]
    file = asyncio.run(exhaust.write(BATCH, COLLECTION, Delivery(folder, NOON, **delivery), observed.append))
    return file, sum(observed)


@pytest.mark.parametrize("job_id", JOB_IDS)
def test_memory_is_flat_in_the_number_of_learners(job_id: str, tmp_path: Path) -> None:
    def peak(learners: int) -> int:
        tracemalloc.start()
        try:
            file, observed = write(job_id, learners, tmp_path, is_zipped=False)
            assert observed == learners
            assert file.size_in_bytes > learners * 1_000
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(PAGE)  # what is imported and cached at the first use
    assert peak(30 * PAGE) < peak(5 * PAGE) + 200_000  # bytes; 2,500 more learners are 2,500,000 of text


@pytest.mark.parametrize(("password", "suffixes"), [(None, [".csv"]), ("secret", [])])
def test_a_zip_that_fails(
    password: str | None, suffixes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(output, "write_zip", fail)
    if password is None:
        file, _ = write(JOB_IDS[0], PAGE, tmp_path)
        assert file.path == Path("progress-exhaust/b_progress_20240514.csv")
    else:
        with pytest.raises(ReportError, match="Zip, encrypt and upload failed"):
            write(JOB_IDS[0], PAGE, tmp_path, password=password)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == suffixes
    assert not list(tmp_path.glob(".*"))


def test_the_date_is_that_of_the_reports_zone(tmp_path: Path) -> None:
    late = NOON.replace(hour=19)
    config = load(ReportsConfig, environ=REQUIRED[ReportsConfig])
    exhaust = Exhaust(JOB_IDS[0], config, Crowd(0))  # type: ignore[arg-type]
    file = asyncio.run(exhaust.write(BATCH, COLLECTION, Delivery(tmp_path, late, "A1"), lambda _: None))
    assert file.path == Path("progress-exhaust/A1/b_progress_20240515.zip")
