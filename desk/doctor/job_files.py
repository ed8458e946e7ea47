"""The configuration files of the jobs as one of the desk, so that a preflight looks where the jobs will run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.config.loader import Location, fields, section_of
from common.config.yaml_file import read_yaml
from desk.config import DeskConfig
from jobs import JOBS

Map = dict[str, Any]

_OWN = {("http",)}
"""Sections that jobs and desk have, but with limits of their own."""
_FIELDS = dict(fields(DeskConfig))


def job_of(file: Path) -> str:
    """The job in :data:`jobs.JOBS` that a file is named after, as in ``jobs.import_config``. Raises ValueError."""
    job = file.stem.replace("-", "_")
    if job not in JOBS:
        raise ValueError(f"{file.name} is not named after a job: {', '.join(JOBS)}")
    return job


def desk_values(files: Sequence[Path]) -> tuple[list[tuple[Map, str]], list[str]]:
    """What each file has for keys of the desk, with its name, and a sentence for each key in which two files differ.

    The first file that has a key counts; the list has it last, because later maps override earlier ones. Raises
    ConfigError for a file that is no map.
    """
    maps: list[tuple[Map, str]] = []
    first: dict[Location, tuple[object, Path]] = {}
    differences = []
    for file in files:
        values = read_yaml(file)
        kafka = values.get("kafka")
        if isinstance(kafka, dict) and "group_id" in kafka:
            values = {**values, "kafka": {**kafka, "group_ids": {job_of(file): kafka["group_id"]}}}
        known = _known(values)
        maps.insert(0, (known, str(file)))
        for location, value in _flat(known):
            other, source = first.setdefault(location, (value, file))
            if value != other:
                differences.append(
                    f"{'.'.join(location)} is {other} in {source.name} and {value} in {file.name}: "
                    "only the first one was looked at"
                )
    return maps, differences


def _known(values: Mapping[Any, Any], above: Location = ()) -> Map:
    found: Map = {}
    for key, value in values.items():
        location = (*above, str(key))
        field = _FIELDS.get(location)
        if field is None or location in _OWN:
            continue
        found[str(key)] = _known(value, location) if section_of(field) and isinstance(value, dict) else value
    return found


def _flat(values: Mapping[str, Any], above: Location = ()) -> Iterator[tuple[Location, object]]:
    for key, value in values.items():
        location = (*above, key)
        if section_of(_FIELDS[location]) and isinstance(value, dict):
            yield from _flat(value, location)
        else:
            yield location, value
