"""What a log collector gets from a real cluster: one JSON object a line, with an event's ids but never its body."""

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

from local import jars
from local.config import REPOSITORY
from local.flink import FlinkCluster
from local.package import build_archive
from local.process import Server
from local.world import World
from tests.support.defective_job import FAILED, INPUT
from tests.support.job_topics import JobTopics
from tests.support.waiting import wait_until

SECRET = "the learner's answer"


def build_defective_archive(folder: Path) -> Path:
    """The packages `common` and `jobs` as they are, with one more job."""
    repository = folder / "repository"
    for package in ("common", "jobs"):
        shutil.copytree(REPOSITORY / package, repository / package)
    shutil.copy(REPOSITORY / "tests" / "support" / "defective_job.py", repository / "jobs" / "defective.py")
    return build_archive(folder, repository)


def entries(server: Server) -> list[dict[str, Any]]:
    """Everything that the latest JVM has logged.

    There is also text: of Flink's script, which starts it, and of libraries that write to stderr. When a task ends,
    Beam's gRPC may do so (seen: "SEVERE: Exception while executing runnable" with a stack trace).
    """
    *_, latest = server.log_file.read_text().rpartition(" as a console application on host ")
    return [json.loads(line) for line in latest.splitlines() if line.startswith("{")]


def test_a_defect_is_logged_as_one_object_with_the_ids_of_its_event(
    world: World, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    (task_manager,) = flink_cluster.task_managers
    with closing(JobTopics(world, (INPUT, FAILED))) as topics:
        job = flink_cluster.submit(
            "jobs.defective",
            archive=build_defective_archive(tmp_path),
            jar=jars.FLINK_CONNECTOR_JAR,
            parallelism=1,
            environment={
                **world.job_environment("jobs.assessment_aggregator"),
                "AGGREGATES__KAFKA__ENV": topics.env,
            },
        )
        flink_cluster.client.wait_until_running(job, 120)
        event = {"userId": "u-1", "courseId": "do_1", "batchId": "batch-1", "answer": SECRET}
        topics.produce(INPUT, [json.dumps(event).encode()])
        (failed,) = topics.inbox(FAILED).wait_for(1)
        assert SECRET in failed.value().decode()

        def defects() -> list[dict[str, Any]]:
            return [entry for entry in entries(task_manager) if "could not be applied" in entry["message"]]

        wait_until(lambda: defects() != [], "the worker's line is in the log")
        flink_cluster.client.cancel(job)

    (defect,) = defects()
    assert defect["log.logger"] == "PythonWorker"
    assert defect["log.level"] == "ERROR"
    assert (defect["user.id"], defect["course.id"], defect["batch.id"]) == ("u-1", "do_1", "batch-1")
    assert "ValueError" in defect["message"]
    assert "defective.py" in defect["message"]
    for server in flink_cluster.servers:
        assert SECRET not in server.log_file.read_text()

    submitted = [entry for entry in entries(flink_cluster.job_manager) if entry.get("flink-job-id") == job]
    assert submitted, "no line of the JobManager names the job"
    # Also where a line has a stack trace.
    of_flink = [entry for server in flink_cluster.servers for entry in entries(server)]
    of_flink = [entry for entry in of_flink if entry["log.logger"] != "PythonWorker"]
    assert any(entry["log.logger"] != "PythonWorker" for entry in entries(task_manager))
    assert {entry[key] for entry in of_flink for key in ("user.id", "course.id", "batch.id")} == {""}
    assert any(
        line.endswith("ERROR PythonWorker - " + defect["message"].splitlines()[0]) for line in task_manager.log_lines()
    )
