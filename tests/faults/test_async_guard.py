"""PyFlink's async operator loses records whose coroutine fails; with the guard it does not."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyflink.fn_execution.datastream.process.async_function import operation

from common.flink.patches import async_guard
from local import jars
from local.prerequisites import find_java

ROWS = 4
REPOSITORY = Path(__file__).parents[2]


def run_job(folder: Path, *arguments: str) -> None:
    """To its end, which it reaches with exit code 0 whether or not it has lost records."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    job = [sys.executable, str(Path(__file__).with_name("fail_once_job.py")), str(folder), str(ROWS), *arguments]
    subprocess.run(job, env=environment, check=True, timeout=540, capture_output=True)


@pytest.fixture(scope="module")
def unguarded_and_guarded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of both jobs, which have run side by side: each mostly waits for a worker to start."""
    jars.FLINK_CONNECTOR.ensure(find_java(), print)
    unguarded, guarded = tmp_path_factory.mktemp("unguarded"), tmp_path_factory.mktemp("guarded")
    with ThreadPoolExecutor() as executor:
        # With only one of the two guards, runs lose records too, though not every time.
        runs = [executor.submit(run_job, unguarded), executor.submit(run_job, guarded, "worker", "operator")]
    for run in runs:
        run.result()
    return unguarded, guarded


def applied_records(folder: Path) -> set[int]:
    return {int(path.name.removeprefix("applied-")) for path in folder.glob("applied-*")}


def test_records_that_fail_are_lost_without_the_guard(unguarded_and_guarded: tuple[Path, Path]) -> None:
    folder, _ = unguarded_and_guarded
    # Those that wait behind a failed one may be lost before they are seen.
    assert any(folder.glob("seen-*"))
    assert len(applied_records(folder)) < ROWS


def test_no_record_that_fails_is_lost_with_the_guard(unguarded_and_guarded: tuple[Path, Path]) -> None:
    _, folder = unguarded_and_guarded
    assert applied_records(folder) == set(range(1, ROWS + 1))


def test_another_version_of_pyflink_stops_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyflink.version.__version__", "2.4.0")
    with pytest.raises(RuntimeError, match=r"written for apache-flink 2\.3\.0, and this is 2\.4\.0"):
        async_guard.install()


def test_installing_twice_guards_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        operation.AsyncOperation,
        "_wait_for_in_flight_inputs_finished",
        operation.AsyncOperation._wait_for_in_flight_inputs_finished,
    )
    async_guard.install()
    guarded = operation.AsyncOperation._wait_for_in_flight_inputs_finished
    async_guard.install()
    assert operation.AsyncOperation._wait_for_in_flight_inputs_finished is guarded
