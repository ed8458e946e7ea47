"""The background process of `python -m local up`. The servers are its children and end with it, however it ends.

`up` starts the supervisor detached and reads its progress from a pipe. `down` and `status` find it through
`supervisor.json` in the state folder. That file also holds the creation time of each process, so that an unrelated
process with a reused pid is never touched.
"""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

import psutil

from local.config import REPOSITORY, Config, load_config
from local.errors import LocalWorldError
from local.process import die_with_parent, is_same_process
from local.world import World

# The first character of the lines from the supervisor to `up` that are not plain progress.
_READY = "\x06"
_PROBLEM = "\x15"

_WATCH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class RunningProcess:
    """A process, identified by its pid and its creation time (s since 1970)."""

    name: str
    pid: int
    created: float

    @classmethod
    def of(cls, name: str, pid: int) -> "RunningProcess":
        """Describes a process that is running now."""
        return cls(name, pid, psutil.Process(pid).create_time())

    @property
    def is_alive(self) -> bool:
        """Whether this very process is still running."""
        return is_same_process(self.pid, self.created)


@dataclass(frozen=True, slots=True)
class State:
    """The content of `supervisor.json`: the supervisor and, once all of them are ready, its servers."""

    supervisor: RunningProcess
    servers: tuple[RunningProcess, ...] = ()

    @classmethod
    def read(cls, config: Config) -> "State | None":
        """The state that a live supervisor has written; None if no supervisor is alive."""
        file = _state_file(config)
        if not file.exists():
            return None
        values = json.loads(file.read_text())
        state = cls(
            RunningProcess(**values["supervisor"]), tuple(RunningProcess(**server) for server in values["servers"])
        )
        return state if state.supervisor.is_alive else None

    def write(self, config: Config) -> None:
        """Replaces the file atomically."""
        file = _state_file(config)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2))
        partial.replace(file)


def _state_file(config: Config) -> Path:
    return config.state_folder / "supervisor.json"


def as_running(config: Config) -> Config:
    """`config` with as many nodes and brokers as are running, whatever it says itself. Unchanged if nothing runs."""
    state = State.read(config)
    if state is None or not state.servers:
        return config
    names = [server.name for server in state.servers]
    nodes, brokers = (sum(name.startswith(kind) for name in names) for kind in ("Cassandra", "Kafka"))
    return config.model_copy(
        update={
            "cassandra": config.cassandra.model_copy(update={"nodes": nodes}),
            "kafka": config.kafka.model_copy(update={"brokers": brokers}),
        }
    )


def ensure_running(config: Config, report: Callable[[str], None] = print) -> bool:
    """Starts the local world in the background unless it is running. Returns whether it had to be started.

    `report` receives the progress. Raises LocalWorldError if the start fails, if another command is starting the
    servers now, or if one of the running servers has ended.
    """
    state = State.read(config)
    if state is None:
        _launch(config, report)
        return True
    if not state.servers:
        raise LocalWorldError("another command is starting the local world: wait for it, or run `make down`")
    if ended := [server.name for server in state.servers if not server.is_alive]:
        raise LocalWorldError(f"{', '.join(ended)} ended since `make up`: run `make down`, then `make up`")
    return False


def stop(config: Config) -> bool:
    """Stops the supervisor and its servers and waits until they are gone. Returns False if nothing was running.

    Raises LocalWorldError if a process survives.
    """
    state = State.read(config)
    if state is None:
        return False
    processes = []
    for running in (state.supervisor, *state.servers):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(running.pid)
            if process.create_time() == running.created:
                processes.append(process)
                if running is state.supervisor:
                    process.terminate()
    _, left = psutil.wait_procs(processes, timeout=config.stop_timeout_seconds)
    for process in left:
        process.kill()
    _, left = psutil.wait_procs(left, timeout=config.stop_timeout_seconds)
    if left:
        raise LocalWorldError(f"killed, but still running: {', '.join(map(str, left))}")
    _state_file(config).unlink(missing_ok=True)
    return True


def _launch(config: Config, report: Callable[[str], None]) -> None:
    config.state_folder.mkdir(parents=True, exist_ok=True)
    log_file = config.state_folder / "supervisor.log"
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.supervisor"],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # Ctrl-C at our terminal does not reach it. Until all servers are ready it still ends with us (preexec_fn).
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - only async-signal-safe calls between fork and exec
        )
    problems: list[str] = []
    try:
        with process.stdout or contextlib.nullcontext(()) as lines:
            for line in lines:
                if line.startswith(_READY):
                    return
                if line.startswith(_PROBLEM):
                    problems.append(line.removeprefix(_PROBLEM).rstrip("\n"))
                else:
                    report(line.rstrip("\n"))
    except BaseException:
        process.terminate()
        process.wait()
        raise
    process.wait()
    raise LocalWorldError("\n".join(problems) or f"the supervisor failed: see the end of {log_file}")


def main() -> int:
    """Runs the supervisor: starts the world, reports to `up`, and waits for SIGTERM."""
    config = load_config()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with (config.state_folder / "supervisor.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another command is starting or stopping the local world", _PROBLEM)
            return 1
        me = RunningProcess.of("supervisor", os.getpid())
        State(me).write(config)
        try:
            with World(config, report=_say) as world:
                State(me, tuple(RunningProcess.of(server.name, server.pid) for server in world.servers)).write(config)
                _detach(config)
                _watch(world)
        except LocalWorldError as error:
            _say(str(error), _PROBLEM)
            return 1
        finally:
            _state_file(config).unlink(missing_ok=True)
    return 0


def _say(text: str, prefix: str = "") -> None:
    for line in text.splitlines():
        print(f"{prefix}{line}", flush=True)


def _detach(config: Config) -> None:
    """From now on the supervisor outlives `up`, and its output goes to the log."""
    die_with_parent(0)
    _say(_READY)
    with (config.state_folder / "supervisor.log").open("ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())


def _watch(world: World) -> NoReturn:
    """Logs when a server ends by itself, until SIGTERM ends the loop."""
    known = set(world.servers)
    while True:
        for server in [server for server in known if not server.is_running]:
            known.remove(server)
            _say(f"{datetime.now():%Y-%m-%d %H:%M:%S} {server.name} (pid {server.pid}) ended: see {server.log_file}")
        time.sleep(_WATCH_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
