"""What Python workers do when their TaskManager is killed or their task ends: those that are watched, and those not.

The worker of subtask 0 is watched, and the one of subtask 1 is not. Should an unwatched one end after an upgrade of
Flink or Beam, the watch may be needless.
"""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from local import jars
from local.flink import FlinkCluster
from local.process import start_ended
from local.world import World
from tests.support.numbers import MODULE, build_numbers_archive
from tests.support.waiting import wait_until


@pytest.fixture
def cluster(mortal_world: World) -> Iterator[FlinkCluster]:
    yield mortal_world.flink
    start_ended(mortal_world.flink.servers)


def submit(cluster: FlinkCluster, folder: Path) -> tuple[str, psutil.Process, psutil.Process]:
    """The job, its watched and its unwatched worker, each inside its first record."""
    archive = build_numbers_archive(folder)
    job = cluster.submit(MODULE, [str(folder), "stuck"], archive=archive, jar=jars.FLINK_CONNECTOR_JAR)
    wait_until(lambda: len(list(folder.glob("worker-*"))) == 2, "both workers work")
    watched, unwatched = (worker_of(folder, subtask) for subtask in (0, 1))
    assert {watched.pid, unwatched.pid} == {worker.pid for worker in cluster.task_managers[0].python_workers()}
    return job, watched, unwatched


def worker_of(folder: Path, subtask: int) -> psutil.Process:
    (file,) = folder.glob(f"worker-{subtask}-*")
    return psutil.Process(int(file.name.rpartition("-")[2]))


def test_a_watched_worker_ends_with_its_task_manager_and_the_job_goes_on(cluster: FlinkCluster, tmp_path: Path) -> None:
    task_manager = cluster.task_managers[0]
    job, watched, unwatched = submit(cluster, tmp_path)
    task_manager.kill()
    try:
        wait_until(lambda: not watched.is_running(), "the watched worker ends with its TaskManager")
        task_manager.start()
        wait_until(lambda: len(list(tmp_path.glob("worker-*"))) == 4, "new workers work")
        # Beside its successor.
        assert unwatched.is_running()
    finally:
        unwatched.kill()
    cluster.client.cancel(job)


def test_a_watched_worker_ends_with_its_task(cluster: FlinkCluster, tmp_path: Path) -> None:
    """Why the watch looks at all processes between TaskManager and worker."""
    job, watched, unwatched = submit(cluster, tmp_path)
    cluster.client.start_to_cancel(job)
    try:
        wait_until(lambda: not watched.is_running(), "the watched worker ends with its task")
        # Beam ends the script that it has started for the worker, and nothing below it.
        wait_until(lambda: unwatched.ppid() == 1 or not unwatched.parent(), "the unwatched worker is an orphan")
        assert unwatched.is_running()
    finally:
        unwatched.kill()
    cluster.client.wait_until(job, "CANCELED")
    assert cluster.task_managers[0].is_running
