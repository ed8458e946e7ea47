"""What the tests of the configuration share: the jobs' classes, a complete file to change, the problems of a start."""

from pathlib import Path
from typing import Any

import pytest
import yaml

import jobs
from common.config import loader
from common.config.loader import ConfigError, load
from common.config.model import JobConfig
from common.config.section import Section
from desk.config import DeskConfig
from jobs import config_class
from jobs.assessment_aggregator.config import AssessmentAggregatorConfig
from reports.config import RequestsReportsConfig
from services.config import ServicesConfig
from tests.support.required_keys import REQUIRED

JOBS = [config_class(name) for name in jobs.JOBS]
PROGRAMS: list[type[Section]] = [*JOBS, ServicesConfig, RequestsReportsConfig, DeskConfig]
REPOSITORY = Path(__file__).parents[2]
SECRET = "hunter2!"


def keys(config: type[Section]) -> dict[tuple[str, ...], Any]:
    """Every key, sections left out, with its field."""
    return {location: field for location, field in loader.fields(config) if not loader.section_of(field)}


SHARED = keys(JobConfig)
KEYS: list[tuple[type[JobConfig], tuple[str, ...]]] = [
    *((JOBS[0], location) for location in SHARED),
    *((job, location) for job in JOBS for location in keys(job) if location not in SHARED),
]
"""The shared keys once, then those of each job."""
SECRETS = [location for location, field in SHARED.items() if loader.is_secret(field)]
name_of = ".".join


def shipped(config: type[Section]) -> dict[str, Any]:
    """The files that are shipped, the outer one first. A section may be in both: the inner one overrides its keys."""
    folder = REPOSITORY / Path(*config.__module__.split(".")[:-1])
    outer = folder.parent / "config.yaml"
    values: dict[str, Any] = yaml.safe_load(outer.read_text()) if outer.exists() else {}
    for key, value in yaml.safe_load((folder / "config.yaml").read_text()).items():
        shared = values.get(key)
        values[key] = {**shared, **value} if isinstance(shared, dict) and isinstance(value, dict) else value
    return values


def at(values: Any, location: tuple[str, ...]) -> Any:
    for part in location:
        values = values[part] if isinstance(values, dict) else getattr(values, part)
    return values


def put(values: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for part in sections:
        values = values.setdefault(part, {})
    values[last] = value


def required_values() -> dict[str, Any]:
    """The required keys of the assessment aggregator as they stand in YAML."""
    values: dict[str, Any] = {}
    for name, text in REQUIRED[AssessmentAggregatorConfig].items():
        key = name.removeprefix("AGGREGATES__").lower().replace("__", ".")
        put(values, key, yaml.safe_load(text) if text.startswith("[") else text)
    return values


def write(folder: Path, change: dict[str, Any] | str) -> Path:
    """A file that is enough for the assessment aggregator, with some keys changed, or with another text."""
    if isinstance(change, dict):
        values = required_values()
        for key, value in change.items():
            put(values, key, value)
        change = yaml.safe_dump(values)
    file = folder / "job.yaml"
    file.write_text(change)
    return file


def load_with(environ: dict[str, str]) -> AssessmentAggregatorConfig:
    """The assessment aggregator with all that it requires, and with `environ`."""
    return load(AssessmentAggregatorConfig, environ=REQUIRED[AssessmentAggregatorConfig] | environ)


def problems(path: Path | None = None, environ: dict[str, str] | None = None) -> list[str]:
    """Without the name of the file. What is required is in the file, or without one in the environment."""
    required = {} if path else REQUIRED[AssessmentAggregatorConfig]
    with pytest.raises(ConfigError) as caught:
        load(AssessmentAggregatorConfig, path, required | (environ or {}))
    prefix = f"{path}: " if path else ""
    return [problem.removeprefix(prefix) for problem in caught.value.problems]
