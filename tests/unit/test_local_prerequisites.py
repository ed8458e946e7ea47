"""What the user is told when the machine lacks something."""

from pathlib import Path

import pytest

from local.errors import LocalWorldError
from local.prerequisites import check_python, find_java, find_maven


def jdk(home: Path, version: str, *programs: str) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    for program in programs:
        (home / "bin" / program).write_text("#!/bin/sh\n")
        (home / "bin" / program).chmod(0o755)
    return home


def test_java_home_comes_first(tmp_path: Path) -> None:
    first = jdk(tmp_path / "first", "17.0.1", "java", "javac")
    jdk(tmp_path / "jvm" / "second", "17.0.2", "java", "javac")
    assert find_java({"JAVA_HOME": str(first)}, [str(tmp_path / "jvm")]).home == first


def test_a_java_home_of_another_version_is_passed_over(tmp_path: Path) -> None:
    newer = jdk(tmp_path / "newer", "25.0.1", "java", "javac")
    right = jdk(tmp_path / "right", "17.0.2", "java", "javac")
    assert find_java({"JAVA_HOME": str(newer), "PATH": str(right / "bin")}, []).home == right


def test_the_usual_folders_are_searched(tmp_path: Path) -> None:
    jdk(tmp_path / "jvm" / "java-11", "11.0.2", "java", "javac")
    right = jdk(tmp_path / "jvm" / "java-17", "17", "java", "javac")
    assert find_java({}, [str(tmp_path / "nowhere"), str(tmp_path / "jvm")]).executable == right / "bin" / "java"


def test_without_a_jdk_17_it_says_what_was_found_and_what_to_install(tmp_path: Path) -> None:
    old = jdk(tmp_path / "jvm" / "java-11", "11.0.2", "java", "javac")
    runtime = jdk(tmp_path / "runtime", "17.0.2", "java")
    with pytest.raises(LocalWorldError) as caught:
        find_java({"JAVA_HOME": "/no/such/folder", "PATH": str(runtime / "bin")}, [str(tmp_path / "jvm")])
    text = str(caught.value)
    assert text.startswith("JDK 17 is missing.")
    assert "JAVA_HOME: /no/such/folder contains no Java" in text
    assert f"PATH: {runtime} is Java 17 without javac" in text
    assert f"{old} is Java 11" in text
    assert "apt-get install openjdk-17-jdk-headless" in text


def test_without_any_java_it_says_so() -> None:
    with pytest.raises(LocalWorldError, match=r"JDK 17 is missing\. No Java was found at all"):
        find_java({"PATH": ""}, [])


def test_maven_is_found_on_the_path_and_in_maven_home(tmp_path: Path) -> None:
    home = jdk(tmp_path / "maven", "0", "mvn")
    assert find_maven({"PATH": str(home / "bin")}) == home / "bin" / "mvn"
    assert find_maven({"PATH": "", "MAVEN_HOME": str(home)}) == home / "bin" / "mvn"


def test_without_maven_it_says_what_to_install() -> None:
    with pytest.raises(LocalWorldError, match=r"(?s)Maven is missing.*apt-get install maven"):
        find_maven({"PATH": ""})


@pytest.mark.parametrize("version", [(3, 11), (3, 12)])
def test_python_3_11_and_3_12_will_do(version: tuple[int, int]) -> None:
    check_python(version)


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (2, 7), (4, 0)])
def test_any_other_python_is_refused(version: tuple[int, int]) -> None:
    with pytest.raises(
        LocalWorldError, match=rf"Python 3\.11 or 3\.12 is required, but this is {version[0]}\.{version[1]}"
    ):
        check_python(version)
