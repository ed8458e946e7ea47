"""Jars are fetched once; what was not finished or was made from something else does not count."""

from pathlib import Path

import pytest

from local.errors import LocalWorldError
from local.jars import MavenModule
from local.prerequisites import Java

JAVA = Java(Path("/a/jdk"))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MavenModule:
    """A module whose `mvn` notes that it ran, writes one jar and fails if the pom says so."""
    folder = tmp_path / "module"
    (folder / "src").mkdir(parents=True)
    (folder / "pom.xml").write_text("one")
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(
        f"#!/bin/sh\nset -e\necho $JAVA_HOME $* >> {tmp_path}/runs\nmkdir -p {folder}/lib\n"
        f"echo jar > {folder}/lib/$(cat {folder}/pom.xml).jar\n"
        f"if grep -q broken {folder}/pom.xml; then echo no such artifact; exit 1; fi\n"
    )
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(maven.parent), prepend=":")
    return MavenModule("Something", folder, "some:goal", "lib")


def runs(module: MavenModule) -> list[str]:
    file = module.folder.parent / "runs"
    return file.read_text().splitlines() if file.exists() else []


def ensure(module: MavenModule) -> list[str]:
    """Returns what the user was told."""
    said: list[str] = []
    module.ensure(JAVA, said.append)
    return said


def test_the_first_time_fetches_and_the_second_finds(module: MavenModule) -> None:
    assert not module.is_complete()
    assert ensure(module) == ["fetching Something with Maven (only the first time) ..."]
    assert ensure(module) == []
    assert runs(module) == [f"/a/jdk -q -B -ntp -f {module.folder}/pom.xml some:goal"]
    assert module.is_complete()


def test_a_changed_pom_fetches_again_and_leaves_nothing_old(module: MavenModule) -> None:
    ensure(module)
    (module.folder / "pom.xml").write_text("two")
    ensure(module)
    assert len(runs(module)) == 2
    assert [file.name for file in module.output_folder.glob("*.jar")] == ["two.jar"]


def test_a_changed_source_builds_again(module: MavenModule) -> None:
    ensure(module)
    (module.folder / "src" / "Some.java").write_text("class Some {}")
    ensure(module)
    assert len(runs(module)) == 2


def test_what_failed_half_way_does_not_count(module: MavenModule) -> None:
    (module.folder / "pom.xml").write_text("broken")
    with pytest.raises(LocalWorldError, match=r"(?s)could not fetch Something .*no such artifact"):
        ensure(module)
    assert list(module.output_folder.glob("*.jar"))
    assert not module.is_complete()
