"""A server as a child process: started, waited for, stopped, killed, and never left behind."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from local.config import environment_name, is_free
from local.errors import LocalWorldError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

_LOG_TAIL_LINES = 25
POLL_SECONDS = 0.05


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """The kernel sends `signal_number` to this process when the thread that started it ends (0: no longer).

    Survives exec, so a shell script that execs java is covered too. Linux only.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started: command, variables on top of our own, the ports it will listen on by config key."""

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)


class Server(ABC):
    """One server process with a state folder; everything it prints is in `server.log` there.

    Start it from the main thread: the kernel kills the process when the *thread* that forked it ends.
    """

    name: str
    start_timeout_seconds: float
    stop_timeout_seconds: float
    # SIGTERM where a clean end saves anything, SIGKILL where the data is safe anyway and the end faster.
    stop_signal: signal.Signals = signal.SIGTERM

    def __init__(self, state_folder: Path) -> None:
        """`state_folder` is made when the server starts."""
        self.state_folder = state_folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0

    @abstractmethod
    def prepare(self) -> Launch:
        """Writes the server's configuration and says how to start it; may run a one-off command first."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server does its work now, not only whether its port is open. Called again and again."""

    @property
    def log_file(self) -> Path:
        """Standard output and error of all starts, appended."""
        return self.state_folder / "server.log"

    @property
    def temporary_folder(self) -> Path:
        """For files that mean nothing to the next start; emptied before it."""
        return self.state_folder / "tmp"

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started by this process")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process that was started last is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Launches and waits until ready."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Starts the process and returns at once, so that several servers can start at the same time.

        Raises LocalWorldError if a port is taken.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("servers are started from the main thread, or they die with the thread")
        if self.is_running:
            raise RuntimeError(f"{self.name} is running already (pid {self.pid})")
        shutil.rmtree(self.temporary_folder, ignore_errors=True)
        self.temporary_folder.mkdir(parents=True)
        self._started_at = time.monotonic()
        launch = self.prepare()
        for key, port in launch.ports.items():
            if not is_free(port):
                raise LocalWorldError(
                    f"port {port} of {self.name} is taken by another program: stop that, "
                    f"or choose another port with {key} in local/config.yaml or {environment_name(key)}"
                )
        parent = os.getpid()

        def bind_to_parent() -> None:
            die_with_parent()
            # The parent may have died before the line above: then no signal will come any more.
            if os.getppid() != parent:
                os._exit(1)

        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                launch.command,
                env=os.environ | dict(launch.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.state_folder,
                # Ctrl-C at the terminal is for the parent alone, which stops its servers in order.
                start_new_session=True,
                preexec_fn=bind_to_parent,  # noqa: PLW1509 - only async-signal-safe calls between fork and exec
            )

    def wait_until_ready(self) -> float:
        """Returns the seconds since launch; LocalWorldError with the log's end if it dies or takes too long."""
        deadline = self._started_at + self.start_timeout_seconds
        while not self.is_ready():
            if not self.is_running:
                raise self._failure("ended while it started")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready after {self.start_timeout_seconds:g} s")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - self._started_at

    def stop(self) -> None:
        """Ends the process in order, by SIGKILL if that takes too long; nothing if it was not started."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_timeout_seconds)
        self.kill()
        # A launch script that was interrupted leaves its helpers, a Flink TaskManager may leave Python workers.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 of this one process, as a crash would be; returns when it is gone. Its children are on their own."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kills the process if it runs and starts it again on the same data and ports."""
        self.kill()
        self.start()

    def _failure(self, what: str) -> LocalWorldError:
        lines = self.log_file.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
        return LocalWorldError("\n".join([f"{self.name} {what}. The end of {self.log_file}:", *lines]))


def start_ended(servers: Iterable[Server]) -> list[Server]:
    """Starts again those that have ended by themselves, as Kubernetes does; returns them. Raises LocalWorldError."""
    ended = [server for server in servers if not server.is_running]
    for server in ended:
        server.start()
    return ended


def is_same_process(pid: int, created: float) -> bool:
    """Whether `pid` is still the process that was created at `created`, and no later one that was given its number."""
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() == created) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
