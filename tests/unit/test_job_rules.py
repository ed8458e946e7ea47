"""The numbered rules of docs/jobs.md: what cites them exists there, and each one names functions that exist."""

import importlib
import re
from pathlib import Path

import pytest

from jobs import JOBS

REPOSITORY = Path(__file__).parents[2]
RULES = set(re.findall(r"^\*\*([A-Z]\d+)\.", (REPOSITORY / "docs" / "jobs.md").read_text(), re.MULTILINE))
CITED = re.compile(r"\b[Rr]ules? ((?:[A-Z]\d+(?:, | and | to )?)+)")


def test_rules_are_numbered_without_gaps() -> None:
    for letter in {rule[0] for rule in RULES}:
        numbers = sorted(int(rule[1:]) for rule in RULES if rule[0] == letter)
        assert numbers == list(range(1, len(numbers) + 1)), letter


@pytest.mark.parametrize("folder", ["common", "desk", "jobs", "reports", "services", "tests", "docs"])
def test_rules_that_are_cited_exist(folder: str) -> None:
    files = [file for suffix in ("*.py", "*.md") for file in (REPOSITORY / folder).rglob(suffix)]
    assert files
    unknown = {
        (str(file.relative_to(REPOSITORY)), rule)
        for file in files
        for citation in CITED.findall(file.read_text())
        for rule in re.findall(r"[A-Z]\d+", citation)
        if rule not in RULES
    }
    assert not unknown


@pytest.mark.parametrize("name", JOBS)
def test_a_job_lists_each_of_its_rules_with_functions_that_exist(name: str) -> None:
    listed = re.findall(r"^\* ([A-Z]\d+) [^:]+: (.+)$", importlib.import_module(JOBS[name]).__doc__ or "", re.MULTILINE)
    (letter,) = {rule[0] for rule, _ in listed}
    assert {rule for rule, _ in listed} == {rule for rule in RULES if rule[0] == letter}
    for rule, functions in listed:
        places = re.findall(r":(?:func|class):`([\w.]+)`", functions)
        assert places, rule
        for place in places:
            assert _found(place if place.startswith("common.") else f"{JOBS[name]}.{place}"), place


def _found(path: str) -> object:
    """The object at a dotted path of modules and attributes."""
    module = path
    attributes: list[str] = []
    while True:
        try:
            found: object = importlib.import_module(module)
            break
        except ModuleNotFoundError:
            module, _, attribute = module.rpartition(".")
            attributes.insert(0, attribute)
    for attribute in attributes:
        found = getattr(found, attribute)
    return found
