"""A standalone Flink cluster out of the pip package: one JobManager, TaskManagers, and `flink run`.

Each is a real process of its own with real Python workers below it, as in production; only smaller. The configuration
is `flink-conf/config.yaml` with ports, folders and sizes of `local/config.yaml`.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import yaml

from local.config import REPOSITORY, Config
from local.errors import LocalWorldError
from local.flink_client import FlinkClient
from local.prerequisites import Java
from local.process import Launch, Server

FLINK_CONF = REPOSITORY / "flink-conf"
FREQUENT_CHECKPOINTS = {"execution.checkpointing.interval": "1 s", "execution.checkpointing.min-pause": "0 s"}
"""Options of a job for whose checkpoints somebody waits."""
_SUBMISSION_TIMEOUT_SECONDS = 120.0
# The name of Server.temporary_folder.
_TEMPORARY = "tmp"


class _FlinkProcess(Server):
    """JobManager or TaskManager: the shipped script in the foreground, which execs java."""

    script: str
    # Jobs end with a standalone cluster in any case, and an orderly end would only take 5 s longer.
    stop_signal = signal.SIGKILL

    def __init__(self, config: Config, java: Java, folder: str) -> None:
        self._flink_folder = config.state_folder / "flink"
        super().__init__(self._flink_folder / folder)
        self._config = config
        self._java = java
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def _launch(self, *arguments: str, ports: Mapping[str, int]) -> Launch:
        return Launch(
            command=[
                str(flink_home() / "bin" / self.script),
                "start-foreground",
                *arguments,
                "-D",
                f"io.tmp.dirs={self.temporary_folder}",
            ],
            environment=flink_environment(self._config, self._java, self.state_folder),
            ports=ports,
        )


class JobManager(_FlinkProcess):
    """Coordinates the cluster and serves the REST API and the web UI."""

    name = "Flink JobManager"
    script = "jobmanager.sh"

    def __init__(self, config: Config, java: Java, client: FlinkClient) -> None:
        """`client` asks whether it is ready."""
        super().__init__(config, java, "job-manager")
        self._client = client

    def prepare(self) -> Launch:
        """Writes the configuration of the whole cluster."""
        render_configuration(self._config)
        flink = self._config.flink
        ports = {"flink.rest_port": flink.rest_port, "flink.rpc_port": flink.rpc_port}
        return self._launch(ports=ports)

    def is_ready(self) -> bool:
        """The REST API answers."""
        return self._client.task_managers() is not None


class TaskManager(_FlinkProcess):
    """Runs tasks, with the Python workers as its children."""

    script = "taskmanager.sh"

    def __init__(self, config: Config, java: Java, client: FlinkClient, index: int) -> None:
        """`index` from 0 tells the TaskManagers of a cluster apart."""
        super().__init__(config, java, f"task-manager-{index}")
        self.name = f"Flink TaskManager {index}"
        self._client = client
        self._resource_id = ""

    def prepare(self) -> Launch:
        """Gives the process an id of its own at every start, as a new pod would have."""
        self._resource_id = f"{self.state_folder.name}-{time.time_ns()}"
        return self._launch("-D", f"taskmanager.resource-id={self._resource_id}", ports={})

    def is_ready(self) -> bool:
        """The JobManager knows it, with its slots."""
        return self._resource_id in (self._client.task_managers() or ())

    def python_workers(self) -> list[psutil.Process]:
        """The Python processes that run the tasks' Python functions now."""
        return [child for child in psutil.Process(self.pid).children(recursive=True) if "python" in child.name()]


class FlinkCluster:
    """One JobManager and the configured number of TaskManagers."""

    def __init__(self, config: Config, java: Java) -> None:
        """Data in `flink/` of the state folder."""
        self._config = config
        self._java = java
        self.web_url = f"http://127.0.0.1:{config.flink.rest_port}"
        self.client = FlinkClient(self.web_url)
        self.job_manager = JobManager(config, java, self.client)
        self.task_managers = [TaskManager(config, java, self.client, i) for i in range(config.flink.task_managers)]
        self.checkpoint_folder = config.state_folder / "flink" / "checkpoints"
        self.savepoint_folder = config.state_folder / "flink" / "savepoints"

    @property
    def servers(self) -> list[Server]:
        """All processes in the order in which they are launched."""
        return [self.job_manager, *self.task_managers]

    def submit(
        self,
        module: str,
        arguments: Sequence[str] = (),
        *,
        archive: Path,
        jar: Path,
        parallelism: int | None = None,
        savepoint: str | None = None,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> str:
        """`flink run`: starts the Python module of `archive` (a zip of packages) as a job and returns its id.

        `jar` holds the connectors, `options` are Flink configuration for this job alone, `environment` are variables of
        the program that submits it. Raises LocalWorldError with what the client printed if the submission fails.
        """
        client_folder = self._config.state_folder / "flink" / "client"
        (client_folder / _TEMPORARY).mkdir(parents=True, exist_ok=True)
        command = [str(flink_home() / "bin" / "flink"), "run", "--detached"]
        command += ["--parallelism", str(parallelism or self._config.flink.parallelism)]
        if savepoint:
            command += ["--fromSavepoint", savepoint]
        for key, value in (options or {}).items():
            command += ["-D", f"{key}={value}"]
        command += ["--jarfile", str(jar), "--pyFiles", str(archive), "--pyModule", module, *arguments]
        try:
            result = subprocess.run(
                command,
                env=os.environ | dict(environment or {}) | flink_environment(self._config, self._java, client_folder),
                # `python -m` looks in its working folder first: the module has to come from the archive.
                cwd=client_folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_SUBMISSION_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            raise LocalWorldError(f"{module} was not submitted in {expired.timeout:g} s:\n{expired.output}") from None
        output = re.sub(r"^\t(at |\.\.\. ).*\n", "", result.stdout, flags=re.MULTILINE)
        match = re.search(r"Job has been submitted with JobID ([0-9a-f]{32})", result.stdout)
        if result.returncode != 0 or not match:
            raise LocalWorldError(f"{module} could not be submitted ({' '.join(command)}):\n{output}")
        return match[1]


def flink_home() -> Path:
    """Flink as it lies in the pip package apache-flink."""
    specification = importlib.util.find_spec("pyflink")
    if specification is None or specification.origin is None:
        raise LocalWorldError("the package apache-flink is not installed: pip install -r requirements/dev.txt")
    return Path(specification.origin).parent


def flink_environment(config: Config, java: Java, folder: Path) -> dict[str, str]:
    """Variables of Flink's scripts, which are to be run in `folder`; logs and pids go there too."""
    return {
        "JAVA_HOME": str(java.home),
        "FLINK_HOME": str(flink_home()),
        "FLINK_CONF_DIR": str(config.state_folder / "flink" / "conf"),
        "FLINK_LOG_DIR": str(folder),
        "FLINK_PID_DIR": str(folder),
        "FLINK_IDENT_STRING": "local",
        # Relative, because the scripts do not quote it.
        "JVM_ARGS": f"-Djava.io.tmpdir={_TEMPORARY}",
        # The workers must live on what was shipped to them, as on a machine without this repository.
        "PYTHONPATH": "",
    }


def render_configuration(config: Config) -> None:
    """Writes `conf/` of the state folder: `flink-conf/` with the ports, folders and sizes of `config`."""
    folder = config.state_folder / "flink"
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    for log_config in FLINK_CONF.glob("log4j-*.properties"):
        shutil.copy(log_config, conf)
    options: dict[str, Any] = dict(_flatten(yaml.safe_load((FLINK_CONF / "config.yaml").read_text())))
    flink = config.flink
    options |= {
        "jobmanager.rpc.address": "127.0.0.1",
        "jobmanager.bind-host": "127.0.0.1",
        "jobmanager.rpc.port": flink.rpc_port,
        "jobmanager.memory.process.size": f"{flink.job_manager_memory_mib}m",
        "taskmanager.host": "127.0.0.1",
        "taskmanager.bind-host": "127.0.0.1",
        "taskmanager.numberOfTaskSlots": flink.slots_per_task_manager,
        "taskmanager.memory.process.size": f"{flink.task_manager_memory_mib}m",
        "taskmanager.memory.managed.size": f"{flink.task_manager_managed_memory_mib}m",
        "rest.address": "127.0.0.1",
        "rest.bind-address": "127.0.0.1",
        "rest.port": flink.rest_port,
        "parallelism.default": flink.parallelism,
        "execution.checkpointing.dir": (folder / "checkpoints").as_uri(),
        "execution.checkpointing.savepoint-dir": (folder / "savepoints").as_uri(),
        "python.executable": sys.executable,
        "python.client.executable": sys.executable,
        # A killed TaskManager is noticed after two lost heartbeats.
        "heartbeat.interval": "2 s",
        "heartbeat.timeout": "30 s",
        # Somebody watches: by default metrics are up to 10 s old and the states of subtasks 3 s.
        "metrics.fetcher.update-interval": "1 s",
        "web.refresh-interval": "200 ms",
        # The console keeps what the end of server.log is read for: warnings and what java itself says.
        "env.java.opts.all": f"{options['env.java.opts.all']} -XX:+UseSerialGC -Dconsole.log.level=WARN",
        # C1 alone halves the CPU time of a start, and C2 compiles for minutes, at the cost of all that share the cores.
        "env.java.opts.jobmanager": "-XX:TieredStopAtLevel=1",
        "env.java.opts.taskmanager": "-XX:TieredStopAtLevel=1",
        "env.java.opts.client": "-XX:TieredStopAtLevel=1",
    }
    (conf / "config.yaml").write_text(yaml.safe_dump(options, width=10_000))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
