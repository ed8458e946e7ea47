"""A real standalone cluster runs a Python job out of the archive, and does with it what it is told."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from local import jars
from local.errors import LocalWorldError
from local.flink import FLINK_CONF, FREQUENT_CHECKPOINTS, FlinkCluster, flink_home
from tests.support.numbers import MODULE, build_numbers_archive
from tests.support.waiting import wait_until, wait_until_steady


def submit(cluster: FlinkCluster, folder: Path, archive: Path, savepoint: str | None = None) -> str:
    options = {
        **FREQUENT_CHECKPOINTS,
        # Each number takes a millisecond, and a checkpoint waits for the end of its bundle.
        "python.fn-execution.bundle.size": "100",
    }
    return cluster.submit(
        MODULE, [str(folder)], archive=archive, jar=jars.FLINK_CONNECTOR_JAR, savepoint=savepoint, options=options
    )


def test_a_job_runs_checkpoints_counts_stops_and_goes_on(flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    archive = build_numbers_archive(tmp_path)
    client = flink_cluster.client

    job = submit(flink_cluster, tmp_path, archive)
    client.wait_until_running(job, checkpoints=1)
    (vertex,) = client.vertices(job)
    assert (vertex.name, vertex.parallelism, vertex.status) == ("Source: numbers -> count -> Sink: out", 2, "RUNNING")
    assert client.jobs()[job] == "RUNNING"
    assert client.exceptions(job) == []
    assert client.metrics(job, "no_such_metric") == {}
    counter = f"{vertex.name}/count.events_in"
    wait_until(lambda: client.metrics(job, "events_in").get(counter, 0) > 0, "the job counts its events")
    workers = {str(worker.pid) for worker in flink_cluster.task_managers[0].python_workers()}
    for what in ("worker", "fixed-window"):
        assert {file.name.rpartition("-")[2] for file in tmp_path.glob(f"{what}-*")} == workers

    savepoint = client.stop_with_savepoint(job)
    assert client.status(job) == "FINISHED"

    continued = submit(flink_cluster, tmp_path, archive, savepoint)
    client.wait_until_running(continued)
    assert client.checkpoints(continued)["restored"] == 1
    # The first one has ended, and of the last one the cluster knows nothing.
    client.cancel_all([job, continued, "0" * 32])
    assert client.status(continued) == "CANCELED"
    with pytest.raises(LocalWorldError, match=f"job {continued} is CANCELED, not running"):
        client.wait_until_running(continued)


def submit_with_endless_bundles(cluster: FlinkCluster, folder: Path, mode: str) -> str:
    """So that nothing but the worker limits what is handed over to it."""
    options = {"python.fn-execution.bundle.size": "100000000", "python.fn-execution.bundle.time": "600000"}
    archive = build_numbers_archive(folder)
    return cluster.submit(MODULE, [str(folder), mode], archive=archive, jar=jars.FLINK_CONNECTOR_JAR, options=options)


@contextmanager
def stuck_job(cluster: FlinkCluster, folder: Path) -> Iterator[str]:
    """A job whose two workers take no more than their first records. Its task waits for them."""
    client = cluster.client
    job = submit_with_endless_bundles(cluster, folder, "stuck")
    try:
        wait_until(lambda: len(workers_in(folder)) == 2, "both workers are inside their first records")
        yield job
    finally:
        workers = cluster.task_managers[0].python_workers()
        client.start_to_cancel(job)
        for worker in workers:
            # The watched one ends with its task.
            with suppress(psutil.NoSuchProcess):
                worker.kill()
        client.wait_until(job, "CANCELED")


def workers_in(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("worker-*")}


def records_taken(cluster: FlinkCluster, job: str) -> float:
    """How many the tasks have taken when they take no more."""
    metrics = cluster.client.metrics
    return wait_until_steady(lambda: sum(metrics(job, "count.numRecordsIn").values()), "the task waits")


def test_few_records_are_on_their_way_to_a_worker_that_takes_none(flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    with stuck_job(flink_cluster, tmp_path) as job:
        # 45,000. With gRPC's own window 393,000, and with the hundred hand-overs of Beam 507,000.
        assert records_taken(flink_cluster, job) < 150_000


def test_a_task_that_waits_for_a_worker_fails_when_the_worker_dies(flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    with stuck_job(flink_cluster, tmp_path) as job:
        records_taken(flink_cluster, job)
        for worker in flink_cluster.task_managers[0].python_workers():
            worker.kill()
        wait_until(lambda: len(workers_in(tmp_path)) == 4, "the job has restarted with new workers")


def test_a_worker_that_fails_before_it_takes_a_record_fails_its_task(
    flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """With a backlog, which has filled the way to the worker by then."""
    client = flink_cluster.client
    job = submit_with_endless_bundles(flink_cluster, tmp_path, "broken")
    try:
        wait_until(lambda: len(workers_in(tmp_path)) >= 4, "the job has restarted with new workers")
        assert any("this worker cannot be opened" in trace for trace in client.exceptions(job))
    finally:
        client.start_to_cancel(job)
        client.wait_until(job, "CANCELED")


def test_a_submission_that_fails_shows_what_flink_said(flink_cluster: FlinkCluster, tmp_path: Path) -> None:
    archive = build_numbers_archive(tmp_path)
    with pytest.raises(LocalWorldError) as caught:
        flink_cluster.submit("jobs.missing", archive=archive, jar=jars.FLINK_CONNECTOR_JAR)
    text = str(caught.value)
    assert text.startswith("jobs.missing could not be submitted")
    # The second where Python has ended before Flink looks at it.
    assert "No module named jobs.missing" in text or "Failed to start Python process" in text
    assert "\tat " not in text


def test_the_cluster_runs_on_the_checked_in_configuration(flink_cluster: FlinkCluster) -> None:
    options = {entry["key"]: entry["value"] for entry in flink_cluster.client.get("/jobmanager/config")}
    assert options["execution.checkpointing.interval"] == "2s"
    assert options["execution.checkpointing.mode"] == "AT_LEAST_ONCE"
    assert options["restart-strategy.type"] == "exponential-delay"
    assert options["state.backend.type"] == "hashmap"
    assert options["python.fn-execution.bundle.time"] == "1000"
    assert options["execution.checkpointing.dir"] == flink_cluster.checkpoint_folder.as_uri()


def test_the_java_options_that_flink_needs_are_those_of_its_package() -> None:
    """A newer Flink may need more: copy them from its conf/config.yaml then."""
    shipped = (flink_home() / "conf" / "config.yaml").read_text()
    ours = (FLINK_CONF / "config.yaml").read_text()
    pattern = r"--add-(?:opens|exports)=\S+"
    assert re.findall(pattern, ours) == re.findall(pattern, shipped)
