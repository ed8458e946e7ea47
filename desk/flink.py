"""What Flink's REST API says about the jobs: state, restarts, checkpoints, rate, lag, batches."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from common.domain.faults import WorldFault
from jobs import JOBS, flink_name

_TIMEOUT = aiohttp.ClientTimeout(total=5)
_RUNNING = "RUNNING"
_METRICS = ("batch_size_count", "batch_size_sum", "batch_latency_ms_count", "batch_latency_ms_sum")


@dataclass(frozen=True, slots=True)
class JobState:
    """One of the jobs, as the cluster runs it. None stands for what Flink does not report (yet)."""

    name: str
    state: str
    uptime_ms: int | None = None
    restarts: int | None = None
    checkpoint_age_ms: int | None = None
    failed_checkpoints: int | None = None
    """How many have failed since the last one completed, of those in Flink's history (10 by default)."""
    events_per_second: float | None = None
    lag: int | None = None
    batch_size: float | None = None
    batch_latency_ms: float | None = None


class FlinkClient:
    """A client of the JobManager. Created, used and closed in one event loop."""

    def __init__(self, url: str) -> None:
        """Connects with the first request. ``url`` has no slash at its end."""
        self._url = url
        self._session = aiohttp.ClientSession(timeout=_TIMEOUT)

    async def close(self) -> None:
        """Closes the connections."""
        await self._session.close()

    async def jobs(self) -> list[JobState]:
        """All jobs of the suite, also those that do not run. Raises WorldFault if Flink does not answer."""
        overview = await self._get("/jobs/overview")
        latest: dict[str, Any] = {}
        for job in sorted(overview["jobs"], key=lambda job: job["start-time"]):
            latest[job["name"]] = job
        names = map(flink_name, JOBS)
        return list(await asyncio.gather(*(self._state(name, latest.get(name)) for name in names)))

    async def _state(self, name: str, job: Mapping[str, Any] | None) -> JobState:
        if job is None:
            return JobState(name, "not submitted")
        if job["state"] != _RUNNING:
            return JobState(name, job["state"])
        path = f"/jobs/{job['jid']}"
        details, checkpoints, restarts = await asyncio.gather(
            self._get(path), self._get(f"{path}/checkpoints"), self._get(f"{path}/metrics?get=numRestarts")
        )
        completed = checkpoints["latest"]["completed"]
        sums = await self._sums(path, [vertex["id"] for vertex in details["vertices"]])
        return JobState(
            name,
            job["state"],
            uptime_ms=job["duration"],
            restarts=int(float(restarts[0]["value"])) if restarts else None,
            checkpoint_age_ms=_age_ms(completed),
            failed_checkpoints=_failed_since(completed, checkpoints["history"]),
            events_per_second=sums.get("numRecordsInPerSecond"),
            lag=None if (lag := sums.get("pendingRecords")) is None else int(lag),
            batch_size=_mean(sums, "batch_size"),
            batch_latency_ms=_mean(sums, "batch_latency_ms"),
        )

    async def _sums(self, path: str, vertices: Sequence[str]) -> dict[str, float]:
        """The metrics of the source and of the stage, summed over subtasks and vertices, by their last name."""
        sums: dict[str, float] = {}
        for vertex in vertices:
            base = f"{path}/vertices/{vertex}/subtasks/metrics"
            names = [metric["id"] for metric in await self._get(base)]
            wanted = [name for name in names if _is_wanted(name)]
            # One request per metric: in a list, a name that contains a comma would be read as two names.
            for answer in await asyncio.gather(*(self._get(f"{base}?agg=sum&get={quote(name)}") for name in wanted)):
                for metric in answer:
                    name = metric["id"].rpartition(".")[2]
                    sums[name] = sums.get(name, 0.0) + float(metric["sum"])
        return sums

    async def _get(self, path: str) -> Any:
        try:
            async with self._session.get(f"{self._url}{path}") as response:
                if response.status != 200:
                    raise WorldFault(f"Flink at {self._url} answered {response.status} to {path}")
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise WorldFault(f"Flink at {self._url} does not answer: {type(error).__name__}: {error}") from error


def _is_wanted(name: str) -> bool:
    last = name.rpartition(".")[2]
    # Of the source alone: every vertex has this metric, and the sum over all would count an event several times.
    is_of_source = "Source" in name and last in ("numRecordsInPerSecond", "pendingRecords")
    return is_of_source or last in _METRICS


def _age_ms(completed: Mapping[str, Any] | None) -> int | None:
    return None if completed is None else time.time_ns() // 1_000_000 - int(completed["latest_ack_timestamp"])


def _failed_since(completed: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]]) -> int:
    """Flink's own count says nothing: at each start it also counts those that begin before all tasks are running."""
    latest = 0 if completed is None else completed["id"]
    return sum(checkpoint["status"] == "FAILED" and checkpoint["id"] > latest for checkpoint in history)


def _mean(sums: Mapping[str, float], name: str) -> float | None:
    count = sums.get(f"{name}_count")
    return sums.get(f"{name}_sum", 0.0) / count if count else None
