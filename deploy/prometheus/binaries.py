"""Finds `prometheus` and `promtool`, which no Python package holds."""

import fcntl
import shutil
import subprocess
from pathlib import Path

from local.config import REPOSITORY
from local.errors import LocalWorldError

_FOLDER = REPOSITORY / ".local" / "prometheus"
_INSTALL = "install Prometheus, so that `prometheus` and `promtool` are on the PATH (https://prometheus.io/download/)"


def find(name: str) -> Path:
    """`prometheus` or `promtool` on the PATH; otherwise those of Debian's package.

    The package is downloaded once and unpacked to `.local`. Nothing is installed or started. Raises LocalWorldError if
    that is not possible.
    """
    if found := shutil.which(name):
        return Path(found)
    _FOLDER.mkdir(parents=True, exist_ok=True)
    with (_FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        program = _FOLDER / "usr" / "bin" / name
        if not program.exists():
            _download()
    return program


def _download() -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LocalWorldError(f"Prometheus is missing: {_INSTALL}")
    unpacked = _FOLDER / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    _run("apt-get", "download", "prometheus")
    (package,) = _FOLDER.glob("prometheus_*.deb")
    _run("dpkg-deb", "--extract", str(package), str(unpacked))
    package.unlink()
    # At the end, so that an interrupted download is repeated.
    (unpacked / "usr").replace(_FOLDER / "usr")


def _run(*command: str) -> None:
    result = subprocess.run(
        command, cwd=_FOLDER, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if result.returncode != 0:
        raise LocalWorldError(f"{' '.join(command)} failed: {_INSTALL}\n{result.stdout}")
