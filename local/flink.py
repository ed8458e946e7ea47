"""A standalone Flink cluster from the pip package: one JobManager, some TaskManagers, and `flink run`.

Each is a separate process, and the Python workers are child processes of the TaskManagers: as in production, only
smaller. The configuration is `flink-conf/config.yaml` with the ports, folders and sizes from `local/config.yaml`.
"""

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
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
"""Flink options for a job whose checkpoints a test or a chaos run waits for."""
ALIGNED_CHECKPOINTS = {"execution.checkpointing.mode": "EXACTLY_ONCE"}
"""Flink options without which a job does not start with ``kafka.delivery: exactly_once``."""
# A client that takes 10 s on an idle machine takes minutes when three of them share two busy cores.
_SUBMISSION_TIMEOUT_SECONDS = 300.0
# The last part of Server.temporary_folder.
_TEMPORARY = "tmp"


class _FlinkProcess(Server):
    """A JobManager or TaskManager: runs Flink's own script in the foreground, which then execs java."""

    script: str
    # The jobs of a standalone cluster end with it in any case. A clean shutdown would only take 5 s longer.
    stop_signal = signal.SIGKILL

    def __init__(self, config: Config, java: Java, folder: str) -> None:
        self._flink_folder = config.state_folder / "flink"
        super().__init__(self._flink_folder / folder)
        self._config = config
        self._java = java
        self.start_timeout_seconds = config.start_timeout_seconds
        self.stop_timeout_seconds = config.stop_timeout_seconds

    def log_lines(self) -> list[str]:
        """The log as text, which is one JSON object a line in `log_file`."""
        return [text for line in super().log_lines() for text in _as_text(line)]

    @property
    def metrics_url(self) -> str | None:
        """Where Prometheus scrapes the latest process; None until its reporter has taken a port."""
        log = self.log_file.read_text(errors="replace") if self.log_file.exists() else ""
        ports = re.findall(r"Started PrometheusReporter HTTP server on port (\d+)", log)
        return f"http://127.0.0.1:{ports[-1]}/metrics" if ports else None

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
        """`client` is used to check whether the JobManager is ready."""
        super().__init__(config, java, "job-manager")
        self._client = client

    def prepare(self) -> Launch:
        """Writes the configuration of the whole cluster."""
        render_configuration(self._config)
        flink = self._config.flink
        ports = {"flink.rest_port": flink.rest_port, "flink.rpc_port": flink.rpc_port}
        return self._launch(ports=ports)

    def is_ready(self) -> bool:
        """Whether the REST API answers."""
        return self._client.task_managers() is not None


class TaskManager(_FlinkProcess):
    """Runs the tasks. The Python workers are its child processes."""

    script = "taskmanager.sh"

    def __init__(self, config: Config, java: Java, client: FlinkClient, index: int) -> None:
        """`index` counts the TaskManagers of a cluster from 0."""
        super().__init__(config, java, f"task-manager-{index}")
        self.name = f"Flink TaskManager {index}"
        self._client = client
        self._resource_id = ""

    def prepare(self) -> Launch:
        """Gives the process a new resource id at every start, as a new pod would have."""
        self._resource_id = f"{self.state_folder.name}-{time.time_ns()}"
        return self._launch("-D", f"taskmanager.resource-id={self._resource_id}", ports={})

    def is_ready(self) -> bool:
        """Whether it has registered with the JobManager."""
        return self._resource_id in (self._client.task_managers() or ())

    def python_workers(self) -> list[psutil.Process]:
        """The Python processes that currently run the Python functions of this TaskManager's tasks."""
        return [child for child in psutil.Process(self.pid).children(recursive=True) if "python" in child.name()]


class FlinkCluster:
    """One JobManager and the configured number of TaskManagers."""

    def __init__(self, config: Config, java: Java) -> None:
        """Keeps all data in `flink/` in the state folder."""
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
        """All processes, in the order in which they are launched."""
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
        """Submits a job with `flink run` and returns its id.

        `module` is a Python module in `archive`, a zip of packages. `jar` holds the connectors. `options` are Flink
        configuration for this job only. `environment` is set for the client that submits the job. Raises
        LocalWorldError with the client's output if the submission fails.
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
                # `python -m` searches the working folder first, and the module must come from the archive.
                cwd=client_folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_SUBMISSION_TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as expired:
            raise LocalWorldError(
                f"submitting {module} took longer than {expired.timeout:g} s:\n{expired.output}"
            ) from None
        output = re.sub(r"^\t(at |\.\.\. ).*\n", "", result.stdout, flags=re.MULTILINE)
        match = re.search(r"Job has been submitted with JobID ([0-9a-f]{32})", result.stdout)
        if result.returncode != 0 or not match:
            raise LocalWorldError(f"{module} could not be submitted ({' '.join(command)}):\n{output}")
        return match[1]


def submit_all(
    submissions: Mapping[str, Callable[[], str]], cancel_all: Callable[[Iterable[str]], None]
) -> dict[str, str]:
    """Runs the submissions at the same time. Returns the ids of the jobs by the names of the submissions.

    If one of them fails, the jobs of the others are cancelled with `cancel_all`, so that none of them keeps its slots.
    The first failure is raised then.
    """
    with ThreadPoolExecutor(len(submissions)) as executor:
        futures = {name: executor.submit(submit) for name, submit in submissions.items()}
    failures = [error for future in futures.values() if (error := future.exception())]
    if failures:
        cancel_all([future.result() for future in futures.values() if not future.exception()])
        raise failures[0]
    return {name: future.result() for name, future in futures.items()}


def flink_home() -> Path:
    """The folder of Flink in the pip package apache-flink. Raises LocalWorldError if it is not installed."""
    specification = importlib.util.find_spec("pyflink")
    if specification is None or specification.origin is None:
        raise LocalWorldError("the package apache-flink is not installed: pip install -r requirements/dev.txt")
    return Path(specification.origin).parent


def shipped_sizes() -> dict[str, int]:
    """Slots and memory of a TaskManager of `flink-conf/config.yaml`, by the keys that change them here."""
    options = _shipped_options()
    return {
        "flink.slots_per_task_manager": options["taskmanager.numberOfTaskSlots"],
        "flink.task_manager_memory_mib": int(options["taskmanager.memory.process.size"].removesuffix("m")),
        "flink.task_manager_managed_memory_mib": int(options["taskmanager.memory.managed.size"].removesuffix("m")),
    }


def flink_environment(config: Config, java: Java, folder: Path) -> dict[str, str]:
    """The variables that Flink's scripts need. Run them in `folder`: it also receives their logs and pid files."""
    return {
        "JAVA_HOME": str(java.home),
        "FLINK_HOME": str(flink_home()),
        "FLINK_CONF_DIR": str(config.state_folder / "flink" / "conf"),
        "FLINK_LOG_DIR": str(folder),
        "FLINK_PID_DIR": str(folder),
        "FLINK_IDENT_STRING": "local",
        # A relative path, because the scripts do not quote it and an absolute one may contain spaces.
        "JVM_ARGS": f"-Djava.io.tmpdir={_TEMPORARY}",
        # The workers may import only what was shipped to them, as on a machine without this repository.
        "PYTHONPATH": "",
    }


def render_configuration(config: Config) -> None:
    """Copies `flink-conf/` to `flink/conf/` in the state folder, with the ports, folders and sizes from `config`."""
    folder = config.state_folder / "flink"
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    for log_config in FLINK_CONF.glob("log4j-*.properties"):
        shutil.copy(log_config, conf)
    flink = config.flink
    options = _shipped_options()
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
        # With short intervals a killed TaskManager is noticed soon: after two failed heartbeats.
        "heartbeat.interval": "2 s",
        "heartbeat.timeout": "30 s",
        # Tests poll these. By default metrics are up to 10 s old, and the states of subtasks up to 3 s.
        "metrics.fetcher.update-interval": "1 s",
        "web.refresh-interval": "200 ms",
        "env.java.opts.all": f"{options['env.java.opts.all']} -XX:+UseSerialGC",
        # With C1 only, a start takes half the CPU time. C2 compiles for minutes and slows everything down.
        "env.java.opts.jobmanager": "-XX:TieredStopAtLevel=1",
        "env.java.opts.taskmanager": f"{options['env.java.opts.taskmanager']} -XX:TieredStopAtLevel=1",
        "env.java.opts.client": "-XX:TieredStopAtLevel=1",
    }
    (conf / "config.yaml").write_text(yaml.safe_dump(options, width=10_000))


def _as_text(line: str) -> list[str]:
    if not line.startswith("{"):
        # Flink's scripts and the JVM itself write text.
        return [line]
    entry = json.loads(line)
    text = f"{entry['@timestamp']} {entry['log.level']} {entry['log.logger']} - {entry['message']}"
    return [*text.splitlines(), *entry.get("error.stack_trace", "").splitlines()]


def _shipped_options() -> dict[str, Any]:
    return dict(_flatten(yaml.safe_load((FLINK_CONF / "config.yaml").read_text())))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
