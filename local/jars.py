"""Jars of Kafka, Cassandra and Flink's connector: fetched with Maven once, found again afterwards.

A folder of jars counts as complete only if its stamp, written after Maven has succeeded, holds the hash of what it was
made from. So an interrupted download does not count, and a changed pom or source fetches again.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from local.config import REPOSITORY
from local.errors import LocalWorldError
from local.prerequisites import Java, find_maven

_STAMP = ".complete"


@dataclass(frozen=True, slots=True)
class MavenModule:
    """A folder with a pom, the goal that makes its jars and the folder inside it where they then are."""

    name: str
    folder: Path
    goal: str
    output: str

    @property
    def output_folder(self) -> Path:
        """Where the jars are."""
        return self.folder / self.output

    @property
    def classpath(self) -> str:
        """All jars, as java takes them."""
        return str(self.output_folder / "*")

    def is_complete(self) -> bool:
        """Whether the jars are there and made from the pom and sources as they are now."""
        stamp = self.output_folder / _STAMP
        return stamp.exists() and stamp.read_text() == self._hash()

    def _hash(self) -> str:
        digest = hashlib.sha256()
        sources = sorted(file for file in (self.folder / "src").rglob("*") if file.is_file())
        for file in (self.folder / "pom.xml", *sources):
            digest.update(str(file.relative_to(self.folder)).encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()

    def ensure(self, java: Java, report: Callable[[str], None]) -> None:
        """Runs Maven unless the jars are complete; several processes may call it at once.

        `report` is told when a download starts. Raises LocalWorldError with the end of Maven's output if it fails.
        """
        with (self.folder / "pom.xml").open() as pom:
            fcntl.flock(pom, fcntl.LOCK_EX)
            if self.is_complete():
                return
            maven = find_maven()
            report(f"fetching {self.name} with Maven (once) ...")
            shutil.rmtree(self.output_folder, ignore_errors=True)
            command = [str(maven), "-q", "-B", "-ntp", "-f", pom.name, self.goal]
            result = subprocess.run(
                command,
                env=os.environ | {"JAVA_HOME": str(java.home)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if result.returncode != 0:
                tail = "\n".join(result.stdout.splitlines()[-20:])
                raise LocalWorldError(f"Maven could not fetch {self.name} ({' '.join(command)}):\n{tail}")
            (self.output_folder / _STAMP).write_text(self._hash())


KAFKA = MavenModule("Kafka", REPOSITORY / "local" / "kafka", "dependency:copy-dependencies", "lib")
CASSANDRA = MavenModule("Cassandra", REPOSITORY / "local" / "cassandra", "dependency:copy-dependencies", "lib")
FLINK_CONNECTOR = MavenModule("Flink's Kafka connector", REPOSITORY / "connector", "package", "target")
FLINK_CONNECTOR_JAR = FLINK_CONNECTOR.output_folder / "sunbird-flink-connector.jar"
