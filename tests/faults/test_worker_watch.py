"""A killed TaskManager, and a task that ends: what their Python workers do, and that the job goes on without them."""

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


def run(cluster: FlinkCluster, folder: Path, *options: str) -> tuple[str, list[psutil.Process]]:
    """Submits the job and returns it with its two workers, each inside its first record."""
    archive = build_numbers_archive(folder)
    arguments = [str(folder), *options]
    job = cluster.submit(MODULE, arguments, archive=archive, jar=jars.FLINK_CONNECTOR_JAR)
    wait_until(lambda: len(list(folder.glob("worker-*"))) == 2, "both workers work", 120)
    return job, [psutil.Process(int(file.name.removeprefix("worker-"))) for file in folder.glob("worker-*")]


def are_gone(workers: list[psutil.Process]) -> bool:
    return not any(worker.is_running() for worker in workers)


def test_watched_workers_end_at_once_and_the_job_goes_on(cluster: FlinkCluster, tmp_path: Path) -> None:
    task_manager = cluster.task_managers[0]
    job, workers = run(cluster, tmp_path, "watched", "stuck")
    assert {worker.pid for worker in workers} == {worker.pid for worker in task_manager.python_workers()}
    task_manager.kill()
    wait_until(lambda: are_gone(workers), "the workers end with their TaskManager", 5)

    task_manager.start()
    wait_until(lambda: len(list(tmp_path.glob("worker-*"))) == 4, "new workers work", 120)
    cluster.client.cancel(job)


def test_unwatched_workers_stay(cluster: FlinkCluster, tmp_path: Path) -> None:
    """Why there is a watch. Should this fail after an upgrade, the watch may be needless."""
    task_manager = cluster.task_managers[0]
    job, workers = run(cluster, tmp_path, "stuck")
    task_manager.kill()
    try:
        with pytest.raises(AssertionError, match="the workers end"):
            wait_until(lambda: are_gone(workers), "the workers end", 5)
        assert all(worker.is_running() for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
    task_manager.start()
    cluster.client.cancel(job)


def test_watched_workers_end_with_their_task(cluster: FlinkCluster, tmp_path: Path) -> None:
    job, workers = run(cluster, tmp_path, "watched", "stuck")
    cluster.client.start_to_cancel(job)
    wait_until(lambda: are_gone(workers), "the workers end with their task", 120)
    cluster.client.wait_until(job, "CANCELED")
    assert cluster.task_managers[0].is_running


def test_unwatched_workers_outlive_their_task(cluster: FlinkCluster, tmp_path: Path) -> None:
    """Why the watch looks at all processes between TaskManager and worker."""
    job, workers = run(cluster, tmp_path, "stuck")
    cluster.client.start_to_cancel(job)
    try:
        # Beam ends the script that it has started for the worker, and nothing below it.
        wait_until(lambda: all(worker.ppid() == 1 or not worker.parent() for worker in workers), "orphans", 120)
        assert all(worker.is_running() for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
    cluster.client.wait_until(job, "CANCELED")
