"""Runs a server as a child process, which is never left behind when this process ends."""

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

from local.config import LOOPBACK, environment_name, is_free
from local.errors import LocalWorldError

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

_LOG_TAIL_LINES = 25
POLL_SECONDS = 0.05


def die_with_parent(signal_number: int = signal.SIGKILL) -> None:
    """Asks the kernel to send this process `signal_number` when the thread that started it ends; 0 cancels that.

    The setting survives exec, so it also covers a shell script that execs java. Linux only. Raises OSError.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server.

    `environment` is added to our own. `ports` are those that the server will listen on at `address`, by key in the
    configuration.
    """

    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    ports: Mapping[str, int] = field(default_factory=dict)
    address: str = LOOPBACK[0]


class Server(ABC):
    """One server process. Its state folder holds its data and `server.log`, which receives its output.

    Start it from the main thread, because the kernel kills the process when the *thread* that forked it ends.
    """

    name: str
    start_timeout_seconds: float
    stop_timeout_seconds: float
    # SIGKILL for servers whose data is safe without a clean shutdown: it is faster.
    stop_signal: signal.Signals = signal.SIGTERM

    def __init__(self, state_folder: Path) -> None:
        """`state_folder` is created when the server starts."""
        self.state_folder = state_folder
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._left_behind: list[psutil.Process] = []
        """What the processes that have ended had started, and what was still running then."""

    @abstractmethod
    def prepare(self) -> Launch:
        """Writes the server's configuration and returns how to start it. May run a one-off command first."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the server can do its work: an open port is not enough. Called repeatedly until it is true."""

    @property
    def log_file(self) -> Path:
        """Standard output and error of all starts. Each start appends to it."""
        return self.state_folder / "server.log"

    def log_lines(self) -> list[str]:
        """The lines of `log_file`, as a person reads them."""
        return self.log_file.read_text(errors="replace").splitlines()

    @property
    def temporary_folder(self) -> Path:
        """For files that the next start does not need. It is emptied at each start."""
        return self.state_folder / "tmp"

    @property
    def pid(self) -> int:
        """The pid of the latest process. Raises RuntimeError if there was none."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was not started by this process")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the latest process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Launches the server and waits until it is ready. Raises LocalWorldError."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Starts the process and returns at once, so that several servers can start at the same time.

        Raises LocalWorldError if a port is in use.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                "servers must be started from the main thread: they are killed when the thread that started them ends"
            )
        if self.is_running:
            raise RuntimeError(f"{self.name} is already running (pid {self.pid})")
        self._note_left_behind()
        shutil.rmtree(self.temporary_folder, ignore_errors=True)
        # A Python worker whose TaskManager was killed may still be writing there, until it notices.
        self.temporary_folder.mkdir(parents=True, exist_ok=True)
        self._started_at = time.monotonic()
        launch = self.prepare()
        for key, port in launch.ports.items():
            if not is_free(port, launch.address):
                raise LocalWorldError(
                    f"port {port} for {self.name} is used by another program: stop that program, "
                    f"or set another port with {key} in local/config.yaml or {environment_name(key)}"
                )
        parent = os.getpid()

        def bind_to_parent() -> None:
            die_with_parent()
            # If the parent died before the line above, the signal never comes.
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
                # Ctrl-C at the terminal reaches only the parent, which then stops its servers in order.
                start_new_session=True,
                preexec_fn=bind_to_parent,  # noqa: PLW1509 - only async-signal-safe calls between fork and exec
            )

    def wait_until_ready(self) -> float:
        """Waits until the server is ready and returns the seconds since its launch.

        Raises LocalWorldError with the end of the log if the process ends or the time runs out.
        """
        deadline = self._started_at + self.start_timeout_seconds
        while not self.is_ready():
            if not self.is_running:
                raise self._failure("ended during its start")
            if time.monotonic() > deadline:
                raise self._failure(f"was not ready after {self.start_timeout_seconds:g} s")
            time.sleep(POLL_SECONDS)
        return time.monotonic() - self._started_at

    def stop(self) -> None:
        """Stops the process, with SIGKILL if `stop_signal` takes too long. Does nothing if it was never started."""
        if self._process is None:
            return
        self._process.send_signal(self.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self.stop_timeout_seconds)
        self.kill()
        self._note_left_behind()
        # An interrupted launch script leaves its helper processes. A TaskManager leaves Python workers that it has only
        # just started, also if it was killed before it was started again.
        for process in self._left_behind:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._left_behind = []

    def kill(self) -> None:
        """Kills this process with SIGKILL, like a crash, and waits until it is gone. Its children are not killed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Kills the process if it is running, and starts it again with the same data and ports."""
        self.kill()
        self.start()

    def _note_left_behind(self) -> None:
        """To be called when the latest process has ended, in whatever way, and before the next one starts."""
        if self._process is not None:
            self._left_behind += _processes_of_session(self._process.pid)

    def _failure(self, what: str) -> LocalWorldError:
        lines = self.log_lines()[-_LOG_TAIL_LINES:]
        return LocalWorldError("\n".join([f"{self.name} {what}. The end of {self.log_file}:", *lines]))


def _processes_of_session(session_id: int) -> list[psutil.Process]:
    """Those that are running. No other process gets this id as its pid before all of them have ended."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == session_id:
                found.append(process)
    return found


def start_ended(servers: Iterable[Server]) -> list[Server]:
    """Restarts the servers that have ended by themselves, as Kubernetes would, and returns them.

    Raises LocalWorldError.
    """
    ended = [server for server in servers if not server.is_running]
    for server in ended:
        server.start()
    return ended


def is_same_process(pid: int, created: float) -> bool:
    """Whether `pid` is still the process created at `created` (s since 1970), not a later one with the same pid."""
    try:
        process = psutil.Process(pid)
        return bool(process.create_time() == created) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
