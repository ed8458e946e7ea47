"""The keys that the chart must not be installed without, because no value fits every installation."""

from pathlib import Path

import yaml

from common.config.loader import fields, section_of
from common.config.section import Section
from deploy.manifests import CHART
from desk.config import DeskConfig
from jobs import JOBS, config_class, flink_name
from reports.config import ReportsConfig
from services.config import ServicesConfig

FILE: Path = CHART / "files" / "required-keys.yaml"

_HEADER = "# Written by `python -m deploy` from the configurations of the programs.\n"
_PROGRAMS: dict[str, type[Section]] = {
    **{flink_name(name): config_class(name) for name in JOBS},
    "services": ServicesConfig,
    "reports": ReportsConfig,
    "desk": DeskConfig,
}
_SET_BY_THE_CHART = ("tokens", "public_keys_folder")


def required_keys() -> dict[str, list[tuple[str, ...]]]:
    """The paths of the required keys of each job, by its name in Flink, and of ``services``, ``reports``, ``desk``.

    Without what the chart sets itself.
    """
    return {
        name: [
            location
            for location, field in fields(program)
            if field.is_required() and not section_of(field) and location != _SET_BY_THE_CHART
        ]
        for name, program in _PROGRAMS.items()
    }


def build() -> str:
    """The file that the chart's templates read: the keys of each program, with dots in their paths."""
    return _HEADER + yaml.safe_dump(
        {name: [".".join(location) for location in locations] for name, locations in required_keys().items()},
        sort_keys=False,
    )
