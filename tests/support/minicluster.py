"""A job of this repository on Flink's MiniCluster: its real entry point, in a process of its own, on servers that run.

`flink run --target local` reads a FLINK_CONF_DIR as a cluster does (`python -m jobs.<job>` alone would not), and runs
the job in its client, with its Python workers below it. So a start takes half the time of a standalone cluster's, and
there is no TaskManager that could be killed.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from local import jars
from local.config import REPOSITORY, load_config
from local.flink import FREQUENT_CHECKPOINTS, flink_environment, flink_home, render_configuration
from local.flink_client import FlinkClient
from local.process import Launch, Server
from local.world import World
from tests.support.job_topics import JobTopics

_OPTIONS = {
    "parallelism.default": 2,
    **FREQUENT_CHECKPOINTS,
    "python.fn-execution.bundle.time": 20,
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": 1_000_000,
    "restart-strategy.fixed-delay.delay": "100 ms",
}


class MiniCluster(Server):
    """One job on one MiniCluster; ends with this process, as every Server does."""

    # The job ends with it in any case.
    stop_signal = signal.SIGKILL
    stop_timeout_seconds = 30.0

    def __init__(
        self, world: World, topics: JobTopics, folder: Path, module: str, *arguments: str, **variables: str
    ) -> None:
        """`module` is what `python -m` would start, on `world`'s servers and with `topics`.

        `variables` of the job's environment come on top of those.
        """
        super().__init__(folder)
        self.name = f"MiniCluster of {module}"
        self._java = world.java
        self._config = load_config({}).isolated(folder)
        self.start_timeout_seconds = self._config.start_timeout_seconds
        self._module = module
        self._arguments = arguments
        self._variables = {**world.job_environment(module), "AGGREGATES__KAFKA__ENV": topics.env, **variables}
        self.client = FlinkClient(f"http://127.0.0.1:{self._config.flink.rest_port}")

    @property
    def job(self) -> str:
        """The id that Flink has given it; it has one as soon as the cluster is ready."""
        (job,) = self.client.jobs()
        return job

    def prepare(self) -> Launch:
        """The checked-in configuration with the options above."""
        jars.FLINK_CONNECTOR.ensure(self._java, print)
        render_configuration(self._config)
        file = self.state_folder / "flink" / "conf" / "config.yaml"
        port = self._config.flink.rest_port
        options = {**yaml.safe_load(file.read_text()), **_OPTIONS, "rest.bind-port": str(port)}
        file.write_text(yaml.safe_dump(options, width=10_000))
        flink = flink_environment(self._config, self._java, self.state_folder)
        return Launch(
            [
                str(flink_home() / "bin" / "flink"),
                *("run", "--target", "local"),
                *("--jarfile", str(jars.FLINK_CONNECTOR_JAR)),
                *("--pyModule", self._module, *self._arguments),
            ],
            {
                **flink,
                **self._variables,
                "PYTHONPATH": str(REPOSITORY),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "JVM_ARGS": f"{flink['JVM_ARGS']} -Xmx512m",
            },
            ports={"flink.rest_port": port},
        )

    def is_ready(self) -> bool:
        """All subtasks run, so the job has connected to its servers."""
        return (
            self.client.task_managers() is not None
            and len(self.client.jobs()) == 1
            and {vertex.status for vertex in self.client.vertices(self.job)} == {"RUNNING"}
        )

    @contextmanager
    def log_on_failure(self) -> Iterator[None]:
        """Prints at the end what has been logged meanwhile, which pytest shows where a test has failed."""
        start = self.log_file.stat().st_size
        yield
        with self.log_file.open("rb") as log:
            log.seek(start)
            lines = [
                line
                for line in log.read().decode(errors="replace").splitlines()
                # With every checkpoint, by Flink's own committer.
                if "Name collision: Group already contains a Metric with the name 'pendingCommittables'" not in line
            ]
        print(f"{self.log_file}, the end of its {len(lines)} lines since the test began:", *lines[-50:], sep="\n")

    def stop(self) -> None:
        super().stop()
        self.client.close()

    def __enter__(self) -> "MiniCluster":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
