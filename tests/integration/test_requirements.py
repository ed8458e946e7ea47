"""Each reader runs in an environment made from its own requirements file, without Flink and what Flink needs."""

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


def check(reader: str, folder: Path) -> None:
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    file = f"requirements/{reader}.txt"
    # uv checks the hashes as pip does, and takes 13 instead of 52 s of CPU time for both readers.
    run(
        sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "-r", file
    )

    assert f"{reader}.__main__" in run(str(python), "-c", IMPORT_ALL, reader).split()
    assert run(str(python), "-c", FIND, *OF_FLINK).split() == [], reader


def run(*command: str) -> str:
    """What the command has printed, run in the repository."""
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
