"""Each part runs in an environment made from its own requirements file: readers without Flink and what Flink needs."""

import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from local.config import REPOSITORY

IMPORT_ALL = """
import importlib, pkgutil, sys
package = importlib.import_module(sys.argv[1])
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
    print(module.name)
"""
FIND = """
import importlib.util, sys
print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])
"""
OF_FLINK = ("pyflink", "apache_beam", "pandas", "numpy", "pyarrow", "py4j")


def test_no_reader_needs_anything_of_flink(tmp_path: Path) -> None:
    readers = ("services", "reports", "desk")
    # At the same time, on all cores.
    with ThreadPoolExecutor() as threads:
        list(threads.map(check, readers, (tmp_path / reader for reader in readers)))


def test_jobs_and_their_workers_need_no_pandas(tmp_path: Path) -> None:
    python = install("jobs", tmp_path, "--no-deps")
    # What a worker starts with, and what a submission does. Beam imports pandas if it is there.
    for program in (
        "import pyflink.fn_execution.beam.beam_sdk_worker_main",
        "from common.flink.patches import async_guard, bundle_waits; async_guard.install(); bundle_waits.shorten()",
    ):
        run(str(python), "-c", program)
    assert "jobs.assessment_aggregator.job" in run(str(python), "-c", IMPORT_ALL, "jobs").split()
    assert run(str(python), "-c", FIND, "pandas").split() == []


def check(reader: str, folder: Path) -> None:
    python = install(reader, folder)
    assert f"{reader}.__main__" in run(str(python), "-c", IMPORT_ALL, reader).split()
    assert run(str(python), "-c", FIND, *OF_FLINK).split() == [], reader


def install(part: str, folder: Path, *options: str) -> Path:
    """The interpreter of a new environment in the folder, with the packages of a part's requirements file."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    # uv checks the hashes as pip does, and takes 13 instead of 52 s of CPU time for both readers.
    command = (sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "--require-hashes")
    run(*command, *options, "-r", f"requirements/{part}.txt")
    return python


def run(*command: str) -> str:
    """What the command has printed, run in the repository."""
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
