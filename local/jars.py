"""The jars of Kafka, Cassandra and Flink's Kafka connector, which Maven downloads or builds once.

A folder of jars is complete if its stamp file holds the hash of the pom and the sources. The stamp is written after
Maven has succeeded, so an interrupted download is repeated, and so is one whose pom or sources have changed.
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
    """A folder with a pom, the Maven goal that makes the jars, and the subfolder that they are written to."""

    name: str
    folder: Path
    goal: str
    output: str

    @property
    def output_folder(self) -> Path:
        return self.folder / self.output

    @property
    def classpath(self) -> str:
        """All jars, as a value of java's option -cp."""
        return str(self.output_folder / "*")

    def is_complete(self) -> bool:
        """Whether the jars exist and match the current pom and sources."""
        stamp = self.output_folder / _STAMP
        return stamp.exists() and stamp.read_text() == self._hash()

    def _hash(self) -> str:
        digest = hashlib.sha256()
        sources = sorted(file for file in (self.folder / "src").rglob("*") if file.is_file())
        for file in (self.folder / "pom.xml", *sources):
            digest.update(str(file.relative_to(self.folder)).encode() + b"\0" + file.read_bytes() + b"\0")
        return digest.hexdigest()

    def ensure(self, java: Java, report: Callable[[str], None]) -> None:
        """Runs Maven unless the jars are complete. Several processes may call this at once: they take turns.

        `report` receives a line when Maven starts. Raises LocalWorldError with the end of Maven's output if it fails.
        """
        with (self.folder / "pom.xml").open() as pom:
            fcntl.flock(pom, fcntl.LOCK_EX)
            if self.is_complete():
                return
            maven = find_maven()
            report(f"fetching {self.name} with Maven (only the first time) ...")
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
