"""What the desk reads from Flink's REST API. The answers have the shape of Flink 2.3, served by a real HTTP server."""

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common.domain.faults import WorldFault
from desk.flink import FlinkClient, JobState
from jobs import JOBS

CHECKPOINT_AGE_MS = 42_000


class Flink:
    """A JobManager with one job that runs, one that has failed and been submitted again, and one that is not there."""

    def __init__(self) -> None:
        self.status = 200
        now_ms = time.time_ns() // 1_000_000
        self.checkpoint: dict[str, Any] | None = {"id": 4, "latest_ack_timestamp": now_ms - CHECKPOINT_AGE_MS}
        self.history = [(6, "IN_PROGRESS"), (5, "FAILED"), (4, "COMPLETED"), (3, "FAILED"), (2, "FAILED")]
        self.jobs = [
            self.job("a", "assessment-aggregator", "RUNNING", 20),
            self.job("b", "activity-aggregate-updater", "RUNNING", 10),
            self.job("c", "activity-aggregate-updater", "FAILED", 30),
            self.job("d", "somebody-else", "RUNNING", 30),
        ]
        self.metrics = {
            "v1": {"0.Source__events.numRecordsInPerSecond": 12.5, "0.Source__events.pendingRecords": 7.0},
            "v2": {
                "0.apply.batch_size_count": 4.0,
                "0.apply.batch_size_sum": 10.0,
                "0.apply.batch_latency_ms_count": 4.0,
                "0.apply.batch_latency_ms_sum": 100.0,
                "numRecordsInPerSecond": 99.0,
            },
        }

    @staticmethod
    def job(jid: str, name: str, state: str, start: int) -> dict[str, Any]:
        return {"jid": jid, "name": name, "state": state, "start-time": start, "duration": 60_000}

    async def answer(self, request: web.Request) -> web.Response:
        return web.json_response(self._found(request), status=self.status)

    def _found(self, request: web.Request) -> Any:
        path = request.path
        if path == "/jobs/overview":
            return {"jobs": self.jobs}
        if path.endswith("/checkpoints"):
            return {
                "counts": {"completed": 2, "failed": 4},
                "latest": {"completed": self.checkpoint},
                "history": [{"id": number, "status": status} for number, status in self.history],
            }
        if path.endswith("/subtasks/metrics"):
            of_vertex = self.metrics[path.split("/")[4]]
            if wanted := request.query.get("get"):
                return [{"id": wanted, "sum": of_vertex[wanted]}]
            return [{"id": name} for name in of_vertex]
        if path.endswith("/metrics"):
            return [{"id": "numRestarts", "value": "2"}]
        return {"vertices": [{"id": vertex} for vertex in self.metrics]}


@pytest.fixture
def flink() -> Flink:
    return Flink()


@pytest.fixture
async def client(flink: Flink) -> AsyncIterator[FlinkClient]:
    app = web.Application()
    app.router.add_get("/{path:.*}", flink.answer)
    async with TestServer(app) as server:
        client = FlinkClient(str(server.make_url("")).rstrip("/"))
        yield client
        await client.close()


async def test_a_job_that_runs_is_told_with_its_figures(client: FlinkClient) -> None:
    job = (await client.jobs())[0]
    assert (job.name, job.state, job.uptime_ms, job.restarts) == ("assessment-aggregator", "RUNNING", 60_000, 2)
    assert (job.events_per_second, job.lag) == (12.5, 7)
    assert (job.batch_size, job.batch_latency_ms, job.failed_checkpoints) == (2.5, 25.0, 1)
    assert job.checkpoint_age_ms is not None
    assert CHECKPOINT_AGE_MS <= job.checkpoint_age_ms < CHECKPOINT_AGE_MS + 60_000


async def test_checkpoints_that_failed_before_the_last_one_completed_do_not_count(
    client: FlinkClient, flink: Flink
) -> None:
    flink.history.remove((5, "FAILED"))
    assert (await client.jobs())[0].failed_checkpoints == 0
    without_checkpoint(flink)
    assert (await client.jobs())[0].failed_checkpoints == 2


async def test_of_several_submissions_the_latest_counts_and_a_missing_job_is_told(client: FlinkClient) -> None:
    jobs = await client.jobs()
    assert [job.name for job in jobs] == [name.replace("_", "-") for name in JOBS]
    assert jobs[1] == JobState("activity-aggregate-updater", "FAILED")
    assert jobs[2:] == [JobState(job.name, "not submitted") for job in jobs[2:]]


def without_checkpoint(flink: Flink) -> None:
    flink.checkpoint = None


def without_metrics(flink: Flink) -> None:
    flink.metrics = {"v1": {}}


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (without_checkpoint, ["checkpoint_age_ms"]),
        (without_metrics, ["events_per_second", "lag", "batch_size", "batch_latency_ms"]),
    ],
)
async def test_what_flink_does_not_report_yet_is_missing(
    client: FlinkClient, flink: Flink, change: Callable[[Flink], None], missing: list[str]
) -> None:
    change(flink)
    job = (await client.jobs())[0]
    assert [name for name in JobState.__slots__ if getattr(job, name) is None] == missing


async def test_an_error_of_flink_is_a_fault_of_the_world(client: FlinkClient, flink: Flink) -> None:
    flink.status = 500
    with pytest.raises(WorldFault, match="answered 500 to /jobs/overview"):
        await client.jobs()


async def test_a_flink_that_is_down_is_a_fault_of_the_world() -> None:
    client = FlinkClient("http://127.0.0.1:1")
    with pytest.raises(WorldFault, match="does not answer"):
        await client.jobs()
    await client.close()
