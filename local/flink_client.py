"""A client for Flink's REST API: the state of a cluster and its jobs, and commands to cancel and stop them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from local.errors import LocalWorldError

_POLL_SECONDS = 0.1
_TIMEOUT_SECONDS = 180.0
"""How long the cluster may take for what was asked for. On a busy machine a start takes minutes."""
_CANCEL_SECONDS = 240.0
"""More than Flink's task.cancellation.timeout, 180 s: then it ends a TaskManager whose task does not end."""
TERMINAL = frozenset({"FAILED", "CANCELED", "FINISHED"})
"""The statuses of jobs that have ended and no longer hold slots."""


@dataclass(frozen=True, slots=True)
class Vertex:
    """A chain of operators in a running job. `status` is RUNNING when all its subtasks are."""

    id: str
    name: str
    parallelism: int
    status: str


class FlinkClient:
    """A client for one JobManager.

    Unless a method says otherwise, it raises httpx.HTTPError if the JobManager is unreachable or answers with an error.
    """

    def __init__(self, url: str) -> None:
        """`url` is the address of the REST API, such as http://127.0.0.1:18081."""
        # No idle connections: when several threads use a client, one of them may close an idle connection that has just
        # been given to another one, which then reads from a closed socket.
        self._http = httpx.Client(base_url=url, timeout=60.0, limits=httpx.Limits(max_keepalive_connections=0))

    def close(self) -> None:
        self._http.close()

    def task_managers(self) -> list[str] | None:
        """The ids of the registered TaskManagers; None while the JobManager does not answer."""
        try:
            return [task_manager["id"] for task_manager in self.get("/taskmanagers")["taskmanagers"]]
        except (httpx.TransportError, httpx.HTTPStatusError):
            return None

    def get(self, path: str, **parameters: str) -> Any:
        """The decoded JSON of any resource of the API."""
        response = self._http.get(path, params=parameters)
        response.raise_for_status()
        return response.json()

    def jobs(self) -> dict[str, str]:
        """The status of each job that the cluster knows, by job id."""
        return {job["id"]: job["status"] for job in self.get("/jobs")["jobs"]}

    def status(self, job: str) -> str:
        """The status of the job: RUNNING, RESTARTING, FAILING, FAILED, CANCELED, FINISHED, ..."""
        return str(self.get(f"/jobs/{job}/status")["status"])

    def vertices(self, job: str) -> list[Vertex]:
        """The job's operator chains, from source to sink."""
        return [
            Vertex(vertex["id"], vertex["name"], vertex["parallelism"], vertex["status"])
            for vertex in self.get(f"/jobs/{job}")["vertices"]
        ]

    def checkpoints(self, job: str) -> dict[str, int]:
        """The numbers of checkpoints that are `completed`, `failed`, `in_progress` and `restored`."""
        return dict(self.get(f"/jobs/{job}/checkpoints")["counts"])

    def failed_checkpoints(self, job: str) -> list[str]:
        """The failure messages of the failed checkpoints among the last ten, which are all that Flink keeps.

        A checkpoint that could not be triggered because a task was not running yet is counted as failed, but has no
        message here.
        """
        history = self.get(f"/jobs/{job}/checkpoints")["history"]
        return [checkpoint["failure_message"] for checkpoint in history if checkpoint["status"] == "FAILED"]

    def exceptions(self, job: str) -> list[str]:
        """The stack traces of the exceptions that made the job fail or restart, the latest first."""
        return [entry["stacktrace"] for entry in self.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]]

    def metrics(self, job: str, name: str) -> dict[str, float]:
        """The metrics whose name is `name` or ends with `.name`, each summed over the subtasks of its vertex.

        The keys are `<vertex name>/<metric>`, such as `stage/decide.events_in`. Metrics appear some seconds after a job
        has started. A metric that no subtask has reported yet is missing.
        """
        sums: dict[str, float] = {}
        for vertex in self.vertices(job):
            path = f"/jobs/{job}/vertices/{vertex.id}/subtasks/metrics"
            names = [metric["id"] for metric in self.get(path)]
            wanted = [metric for metric in names if metric == name or metric.endswith(f".{name}")]
            # One request per metric: in a list, a name that contains a comma would be read as two names.
            for metric in wanted:
                for answer in self.get(path, get=metric, agg="sum"):
                    sums[f"{vertex.name}/{answer['id']}"] = float(answer["sum"])
        return sums

    def wait_until_running(self, job: str, timeout_seconds: float = _TIMEOUT_SECONDS, checkpoints: int = 0) -> None:
        """Waits until every subtask runs and `checkpoints` more checkpoints have completed.

        Raises LocalWorldError with the job's latest exception if the job ends or the time runs out. The states of
        subtasks are up to `web.refresh-interval` old: right after a kill they may still read RUNNING.
        """
        target = self.checkpoints(job)["completed"] + checkpoints

        def runs() -> bool:
            # The job is RUNNING as soon as it is scheduled, but a subtask only once its Python worker has started.
            if self.status(job) != "RUNNING" or {vertex.status for vertex in self.vertices(job)} != {"RUNNING"}:
                return False
            return self.checkpoints(job)["completed"] >= target

        self._wait(job, runs, f"running with {target} checkpoints" if checkpoints else "running", timeout_seconds)

    def wait_until(self, job: str, status: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        """Waits until the job has `status`. Raises LocalWorldError if it ends with another one or the time runs out."""
        self._wait(job, lambda: self.status(job) == status, status, timeout_seconds)

    def cancel(self, job: str) -> None:
        """Cancels the job without a savepoint and waits until it is CANCELED."""
        self.start_to_cancel(job)
        self.wait_until(job, "CANCELED", _CANCEL_SECONDS)

    def cancel_all(self, jobs: Iterable[str]) -> None:
        """Cancels those of the jobs that the cluster knows and that have not ended, and waits until they are CANCELED.

        If that fails for one job, the others are cancelled nevertheless. Raises the first error then.
        """
        statuses = self.jobs()
        errors: list[Exception] = []
        for job in jobs:
            if statuses.get(job, "FINISHED") not in TERMINAL:
                try:
                    self.cancel(job)
                except (LocalWorldError, httpx.HTTPError) as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def start_to_cancel(self, job: str) -> None:
        """Tells Flink to end the job without a savepoint and returns at once."""
        self._http.patch(f"/jobs/{job}").raise_for_status()

    def stop_with_savepoint(self, job: str, timeout_seconds: float = _TIMEOUT_SECONDS) -> str:
        """Stops the job with a savepoint in the configured folder. Returns its path for `FlinkCluster.submit`.

        Raises LocalWorldError if the savepoint fails or the time runs out.
        """
        response = self._http.post(f"/jobs/{job}/stop", json={"drain": False})
        response.raise_for_status()
        trigger = response.json()["request-id"]
        deadline = time.monotonic() + timeout_seconds
        while True:
            answer = self.get(f"/jobs/{job}/savepoints/{trigger}")
            if answer["status"]["id"] == "COMPLETED":
                break
            if time.monotonic() > deadline:
                raise LocalWorldError(f"job {job} has no savepoint after {timeout_seconds:g} s")
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
        return next(iter(self.exceptions(job)), "Flink reports no exception")
