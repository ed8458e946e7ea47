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
from tests.support.waiting import has_ended, wait_until


@pytest.fixture
def cluster(mortal_world: World) -> Iterator[FlinkCluster]:
    yield mortal_world.flink
    start_ended(mortal_world.flink.servers)


def worker_of(folder: Path, subtask: int, *former: psutil.Process) -> psutil.Process:
    """Its worker that is none of the `former` ones."""
    pids = {int(file.name.rpartition("-")[2]) for file in folder.glob(f"worker-{subtask}-*")}
    (pid,) = pids - {process.pid for process in former}
    return psutil.Process(pid)


def test_a_watched_worker_ends_with_its_task_manager_and_with_its_task(cluster: FlinkCluster, tmp_path: Path) -> None:
    task_manager, client = cluster.task_managers[0], cluster.client
    archive = build_numbers_archive(tmp_path)
    job = cluster.submit(MODULE, [str(tmp_path), "stuck"], archive=archive, jar=jars.FLINK_CONNECTOR_JAR)
    wait_until(lambda: len(list(tmp_path.glob("worker-*"))) == 2, "both workers are inside their first records")
    watched, unwatched = (worker_of(tmp_path, subtask) for subtask in (0, 1))
    assert {watched.pid, unwatched.pid} == {worker.pid for worker in task_manager.python_workers()}
    task_manager.kill()
    try:
        wait_until(lambda: has_ended(watched), "the watched worker ends with its TaskManager")
        task_manager.start()
        wait_until(lambda: len(list(tmp_path.glob("worker-*"))) == 4, "the job goes on: new workers work")
        # Beside its successor.
        assert not has_ended(unwatched)
    finally:
        unwatched.kill()

    # Why the watch looks at all processes between TaskManager and worker.
    watched, unwatched = worker_of(tmp_path, 0, watched), worker_of(tmp_path, 1, unwatched)
    client.start_to_cancel(job)
    try:
        wait_until(lambda: has_ended(watched), "the watched worker ends with its task")
        # Beam ends the script that it has started for the worker, and nothing below it.
        wait_until(lambda: unwatched.ppid() == 1 or not unwatched.parent(), "the unwatched worker is an orphan")
        assert not has_ended(unwatched)
    finally:
        unwatched.kill()
    client.wait_until(job, "CANCELED")
    assert task_manager.is_running
