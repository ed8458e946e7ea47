"""What Flink's REST API says about a cluster and its jobs, and what it can be told to do with them."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from local.errors import LocalWorldError

_POLL_SECONDS = 0.1
TERMINAL = frozenset({"FAILED", "CANCELED", "FINISHED"})
"""Statuses of jobs that have ended and hold no slots any more."""


@dataclass(frozen=True, slots=True)
class Vertex:
    """A chain of operators as Flink runs it; `status` is RUNNING when all its subtasks are."""

    id: str
    name: str
    parallelism: int
    status: str


class FlinkClient:
    """Client for one JobManager. Answers of the server are passed on as they are, apart from what is named here."""

    def __init__(self, url: str) -> None:
        """`url` such as http://127.0.0.1:18081."""
        self._http = httpx.Client(base_url=url, timeout=10.0)

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def task_managers(self) -> list[str] | None:
        """Ids of the registered TaskManagers; None while the JobManager does not answer."""
        try:
            return [task_manager["id"] for task_manager in self.get("/taskmanagers")["taskmanagers"]]
        except (httpx.TransportError, httpx.HTTPStatusError):
            return None

    def get(self, path: str, **parameters: str) -> Any:
        """Any resource of the API, as JSON; httpx.HTTPError if the server refuses or is gone."""
        response = self._http.get(path, params=parameters)
        response.raise_for_status()
        return response.json()

    def jobs(self) -> dict[str, str]:
        """Status by job id, of all jobs that the cluster remembers."""
        return {job["id"]: job["status"] for job in self.get("/jobs")["jobs"]}

    def status(self, job: str) -> str:
        """RUNNING, RESTARTING, FAILING, FAILED, CANCELED, FINISHED, ..."""
        return str(self.get(f"/jobs/{job}/status")["status"])

    def vertices(self, job: str) -> list[Vertex]:
        """The job's chains of operators, from source to sink."""
        return [
            Vertex(vertex["id"], vertex["name"], vertex["parallelism"], vertex["status"])
            for vertex in self.get(f"/jobs/{job}")["vertices"]
        ]

    def checkpoints(self, job: str) -> dict[str, int]:
        """How many checkpoints the job has `completed` and `failed`, are `in_progress`, were `restored` from."""
        return dict(self.get(f"/jobs/{job}/checkpoints")["counts"])

    def failed_checkpoints(self, job: str) -> list[str]:
        """Why checkpoints have failed, of those that Flink remembers (the last ten of all).

        One that could not begin, because not all tasks ran yet, counts as failed, but nothing is remembered of it.
        """
        history = self.get(f"/jobs/{job}/checkpoints")["history"]
        return [checkpoint["failure_message"] for checkpoint in history if checkpoint["status"] == "FAILED"]

    def exceptions(self, job: str) -> list[str]:
        """Stack traces of what made the job fail or restart, the latest first."""
        return [entry["stacktrace"] for entry in self.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]]

    def metrics(self, job: str, name: str) -> dict[str, float]:
        """Sums over all subtasks of the metrics whose name is `name` or ends with `.name`, by vertex and full name.

        Keys are `<vertex name>/<metric>`, such as `stage/decide.events_in`. Metrics appear some seconds after the job
        has started; a metric that no subtask has (yet) is missing.
        """
        sums: dict[str, float] = {}
        for vertex in self.vertices(job):
            path = f"/jobs/{job}/vertices/{vertex.id}/subtasks/metrics"
            names = [metric["id"] for metric in self.get(path)]
            wanted = [metric for metric in names if metric == name or metric.endswith(f".{name}")]
            # One request each: a name with a comma in it could not be told from two names.
            for metric in wanted:
                for answer in self.get(path, get=metric, agg="sum"):
                    sums[f"{vertex.name}/{answer['id']}"] = float(answer["sum"])
        return sums

    def wait_until_running(self, job: str, timeout_seconds: float = 60.0, checkpoints: int = 0) -> None:
        """Until every subtask runs and `checkpoints` more checkpoints than now are completed.

        Raises LocalWorldError with the job's latest exception if it ends instead or takes too long. What the server
        says of subtasks is up to `web.refresh-interval` old: right after a kill it may still call them running.
        """
        target = self.checkpoints(job)["completed"] + checkpoints

        def runs() -> bool:
            # The job is RUNNING as soon as it is scheduled; its subtasks only when their Python workers are there.
            if self.status(job) != "RUNNING" or {vertex.status for vertex in self.vertices(job)} != {"RUNNING"}:
                return False
            return self.checkpoints(job)["completed"] >= target

        self._wait(job, runs, f"running with {target} checkpoints" if checkpoints else "running", timeout_seconds)

    def wait_until(self, job: str, status: str, timeout_seconds: float = 60.0) -> None:
        """Until the job has `status`; LocalWorldError if it ends with another one or takes too long."""
        self._wait(job, lambda: self.status(job) == status, status, timeout_seconds)

    def cancel(self, job: str) -> None:
        """Ends the job without a savepoint and returns when it is gone."""
        self.start_to_cancel(job)
        self.wait_until(job, "CANCELED")

    def start_to_cancel(self, job: str) -> None:
        """Tells Flink to end the job without a savepoint and returns at once."""
        self._http.patch(f"/jobs/{job}").raise_for_status()

    def stop_with_savepoint(self, job: str, timeout_seconds: float = 60.0) -> str:
        """Ends the job after a savepoint in the configured folder; returns where it is, to be given to `submit`."""
        response = self._http.post(f"/jobs/{job}/stop", json={"drain": False})
        response.raise_for_status()
        trigger = response.json()["request-id"]
        deadline = time.monotonic() + timeout_seconds
        while True:
            answer = self.get(f"/jobs/{job}/savepoints/{trigger}")
            if answer["status"]["id"] == "COMPLETED":
                break
            if time.monotonic() > deadline:
                raise LocalWorldError(f"no savepoint of job {job} after {timeout_seconds:g} s")
            time.sleep(_POLL_SECONDS)
        if "failure-cause" in answer["operation"]:
            raise LocalWorldError(
                f"savepoint of job {job} failed: {answer['operation']['failure-cause']['stack-trace']}"
            )
        self.wait_until(job, "FINISHED")
        return str(answer["operation"]["location"])

    def _wait(self, job: str, condition: Callable[[], bool], goal: str, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            status = self.status(job)
            if status in TERMINAL and not condition():
                raise LocalWorldError(f"job {job} is {status}, not {goal}:\n{self._latest_exception(job)}")
            if time.monotonic() > deadline:
                raise LocalWorldError(
                    f"job {job} is {status} after {timeout_seconds:g} s, not {goal}:\n{self._latest_exception(job)}"
                )
            time.sleep(_POLL_SECONDS)

    def _latest_exception(self, job: str) -> str:
        return next(iter(self.exceptions(job)), "no exception was reported")
