"""PyFlink's async operator loses records whose coroutine fails; with the guard it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pyflink.fn_execution.datastream.process.async_function import operation

from common.flink.patches import async_guard
from local import jars
from local.prerequisites import find_java

ROWS = 8
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def connector() -> None:
    jars.FLINK_CONNECTOR.ensure(find_java(), print)


def applied_records(folder: Path, *arguments: str) -> set[int]:
    """Runs the job to its end, which it reaches with exit code 0 whether or not it has lost records."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    job = [sys.executable, str(Path(__file__).with_name("fail_once_job.py")), str(folder), str(ROWS), *arguments]
    subprocess.run(job, env=environment, check=True, timeout=240, capture_output=True)
    return {int(path.name.removeprefix("applied-")) for path in folder.glob("applied-*")}


def test_records_that_fail_are_lost_without_the_guard(tmp_path: Path) -> None:
    applied = applied_records(tmp_path)
    # Those that wait behind a failed one may be lost before they are seen.
    assert any(tmp_path.glob("seen-*"))
    assert len(applied) < ROWS


def test_no_record_that_fails_is_lost_with_the_guard(tmp_path: Path) -> None:
    # With only one of the two, runs lose records too, though not every time.
    assert applied_records(tmp_path, "worker", "operator") == set(range(1, ROWS + 1))


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
