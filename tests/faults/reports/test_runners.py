"""Several runs side by side, killed, stopped and told to end at random: every request ends once, with one file."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path

import pytest

from local.config import REPOSITORY
from reports.job_requests import FAILED, SUCCESS
from tests.support.reports import PROGRESS, RESPONSE, Course, JobRequests, Reports, unzip

RUNNERS = 3
REQUESTS = 16
BATCHES = 4
LEARNERS = 12
LEASE_SECONDS = 3
FAULTS = 10
DEADLINE_SECONDS = 240


class Runners:
    """Processes that run the requests, as a timer would start them."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self._arguments = [sys.executable, "-m", "reports", "requests", "--out", str(folder)]
        self._environment = environ | variables
        self._log = (folder.parent / "runners.log").open("wb")
        self.alive: list[subprocess.Popen[bytes]] = []

    def keep_up(self, number: int) -> None:
        """Starts as many as are missing."""
        self.alive = [process for process in self.alive if process.poll() is None]
        while len(self.alive) < number:
            self.alive.append(
                subprocess.Popen(self._arguments, cwd=REPOSITORY, env=self._environment, stderr=self._log)
            )

    def end(self) -> None:
        for process in self.alive:
            process.kill()
            process.wait()
        self._log.close()


@contextmanager
def runners_of(folder: Path, variables: dict[str, str]) -> Iterator[Runners]:
    runners = Runners(folder, variables)
    try:
        yield runners
    finally:
        runners.end()


@pytest.mark.timeout(DEADLINE_SECONDS + 120)
def test_every_request_ends_once_with_one_file(
    course: Course, reports: Reports, job_requests: JobRequests, variables: dict[str, str], tmp_path: Path
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # shown if the test fails
    dice = random.Random(seed)
    course.create("quiz")
    learners = {course.learner(f"learner-{number}") for number in range(LEARNERS)}
    for _ in range(BATCHES - 1):
        batch_id = course.add_batch()
        for learner in learners:
            course.enrol(learner, batch_id)
    job_requests.record_ends()
    requests = {}
    for number in range(REQUESTS):
        batch_id = course.batches[number % BATCHES]
        job_id = (PROGRESS, RESPONSE)[number // BATCHES % 2]
        # Some ask for the same: they get one file together.
        requested_by = f"u-{number // (2 * BATCHES)}"
        data = {"batchId": batch_id}
        requests[job_requests.submit(data, job_id=job_id, requested_by=requested_by)] = (job_id, batch_id)
    duplicate = job_requests.submit({"batchId": course.batch_id}, requested_by="u-0")
    folder = tmp_path / "exhaust"
    variables |= {
        "AGGREGATES__POSTGRES__LEASE_SECONDS": str(LEASE_SECONDS),
        # Several runs have a share of the requests, and every scan takes a while.
        "AGGREGATES__REQUESTS__REQUESTS_PER_ROUND": "3",
        "AGGREGATES__SCAN_RANGES": "100",
    }
    faults = 0
    deadline = time.monotonic() + DEADLINE_SECONDS
    with runners_of(folder, variables) as runners:
        while job_requests.unfinished():
            assert time.monotonic() < deadline, f"not ended: {job_requests.unfinished()}"
            runners.keep_up(RUNNERS)
            # Time that passes, not a wait for something: a fault may come at any moment.
            time.sleep(dice.uniform(0.3, 2.5))
            if faults < FAULTS:
                faults += 1
                _strike(dice, runners)
    # A last run in peace, which also clears what the killed ones have left.
    assert reports.run("requests", "--out", str(folder)) == 0

    ends = job_requests.ends()
    assert ends == {request_id: [SUCCESS] for request_id in [*requests, duplicate]}
    assert {job_requests.outcome(each) for each in ends} == {(SUCCESS, 0, None)}
    for request_id, (job_id, batch_id) in requests.items():
        # The path of a duplicate is that of the request whose file it shares.
        (path,) = job_requests[request_id]["download_urls"]
        assert path.startswith(f"{job_id}/") and f"/{batch_id}_" in path
        if job_id == PROGRESS:
            assert {row["User UUID"] for row in unzip(folder / path)} == learners
    paths = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    assert paths == sorted({path for each in ends for path in job_requests[each]["download_urls"]})
    assert not list(folder.glob(".*"))
    assert FAILED not in {status for statuses in ends.values() for status in statuses}


def _strike(dice: random.Random, runners: Runners) -> None:
    """Kills a run, tells it to end, or stops it until another one has its requests."""
    victim = dice.choice(runners.alive)
    match dice.choice(["kill", "end", "stop", "nothing"]):
        case "kill":
            victim.kill()
        case "end":
            victim.send_signal(signal.SIGTERM)
        case "stop":
            victim.send_signal(signal.SIGSTOP)
            time.sleep(LEASE_SECONDS + 1)
            victim.send_signal(signal.SIGCONT)
