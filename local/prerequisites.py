"""Checks for what must be installed: Python 3.11 or 3.12, JDK 17 and, until the jars have been fetched, Maven."""

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalWorldError

PYTHON_VERSIONS = ((3, 11), (3, 12))
# Kafka 4 needs at least 17. Cassandra 5.0 fails on newer ones: "Setting a system-wide Policy object is not supported".
JAVA_VERSION = 17

# Where package managers, SDKMAN and IDEs install JDKs.
USUAL_JDK_FOLDERS = ("/usr/lib/jvm", "/usr/java", "/opt", "~/.sdkman/candidates/java", "~/.jdks")

_INSTALL_JDK = """\
Debian and Ubuntu: sudo apt-get install openjdk-17-jdk-headless
Fedora and RHEL:   sudo dnf install java-17-openjdk-devel
SDKMAN:            sdk install java 17.0.15-tem
or unpack one anywhere and set JAVA_HOME to its folder."""

_INSTALL_MAVEN = """\
Debian and Ubuntu: sudo apt-get install maven
Fedora and RHEL:   sudo dnf install maven
SDKMAN:            sdk install maven"""


@dataclass(frozen=True, slots=True)
class Java:
    """An installed JDK 17. `home` is the folder that JAVA_HOME would name."""

    home: Path

    @property
    def executable(self) -> Path:
        return self.home / "bin" / "java"


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> None:
    """Raises LocalWorldError unless `version` is 3.11 or 3.12, for which all dependencies have wheels."""
    if version not in PYTHON_VERSIONS:
        raise LocalWorldError(
            f"Python 3.11 or 3.12 is required, but this is {version[0]}.{version[1]} ({sys.executable}): "
            "create the virtual environment with python3.11 or python3.12"
        )


def find_java(environment: Mapping[str, str] = os.environ, folders: Sequence[str] = USUAL_JDK_FOLDERS) -> Java:
    """The first JDK 17 found in JAVA_HOME, then through the `java` on the PATH, then in `folders`.

    Raises LocalWorldError if there is none. The message lists the other versions found and says how to install one.
    """
    seen: list[str] = []
    for source, home in _java_homes(environment, folders):
        version = _java_version(home)
        if version == JAVA_VERSION and (home / "bin" / "javac").exists():
            return Java(home)
        if version is not None:
            seen.append(f"  {source}: {home} is Java {version}{'' if version != JAVA_VERSION else ' without javac'}")
        elif source == "JAVA_HOME":
            seen.append(f"  JAVA_HOME: {home} contains no Java")
    found = "Found instead:\n" + "\n".join(dict.fromkeys(seen)) if seen else "No Java was found at all."
    raise LocalWorldError(f"JDK 17 is missing. {found}\nInstall it:\n{_INSTALL_JDK}")


def find_maven(environment: Mapping[str, str] = os.environ) -> Path:
    """The `mvn` in MAVEN_HOME or on the PATH. Raises LocalWorldError, with how to install it, if there is none."""
    path = environment.get("PATH", "")
    if home := environment.get("MAVEN_HOME"):
        path = os.pathsep.join([str(Path(home, "bin")), path])
    if found := shutil.which("mvn", path=path):
        return Path(found)
    raise LocalWorldError(
        "Maven is missing: `mvn` is neither on the PATH nor in MAVEN_HOME. "
        f"It is needed once, to fetch Kafka, Cassandra and Flink's Kafka connector.\nInstall it:\n{_INSTALL_MAVEN}"
    )


def _java_homes(environment: Mapping[str, str], folders: Sequence[str]) -> Iterator[tuple[str, Path]]:
    if home := environment.get("JAVA_HOME"):
        yield "JAVA_HOME", Path(home)
    if java := shutil.which("java", path=environment.get("PATH", "")):
        yield "PATH", Path(java).resolve().parent.parent
    for folder in folders:
        for jdk in sorted(Path(folder).expanduser().glob("*/")):
            yield folder, jdk.resolve()


def _java_version(home: Path) -> int | None:
    """The major version in the `release` file, which every JDK since 9 has. Java 8 calls itself 1.8, so it gives 1."""
    release = home / "release"
    if not (home / "bin" / "java").exists() or not release.exists():
        return None
    match = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
    return int(match[1]) if match else None
