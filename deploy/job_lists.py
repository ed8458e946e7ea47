"""The two lists of jobs that neither Helm nor Prometheus can read from :data:`jobs.JOBS`."""

import re
from collections.abc import Iterable
from pathlib import Path
from textwrap import indent

from deploy.manifests import CHART
from deploy.prometheus.expressions import RULES
from jobs import JOBS, flink_name

VALUES = CHART / "values.yaml"

_JOBS_FOLDER = Path(__file__).parent.parent / "jobs"
_JOBS_OF_VALUES = re.compile(r"(?<=^jobs:\n)(?:  .*\n)+", re.MULTILINE)
_JOBS_OF_RULES = re.compile(r"(?<=- record: learner_aggregates:job\n          expr: \|\n)(?:            .*\n)+")


def build_values() -> str:
    """``values.yaml`` with the ``deployment.yaml`` of each job. What stands around the jobs is left as it is."""
    return _replaced(VALUES, _JOBS_OF_VALUES, "".join(map(_values_of, JOBS)))


def build_rules() -> str:
    """``rules.yaml`` with the names of all jobs."""
    return _replaced(RULES, _JOBS_OF_RULES, indent(f"{job_series(map(flink_name, JOBS))}\n", " " * 12))


def job_series(names: Iterable[str]) -> str:
    """PromQL for one series of value 1 per job."""
    return "\nor ".join(f'label_replace(vector(1), "job_name", "{name}", "", "")' for name in names)


def _values_of(name: str) -> str:
    deployment = (_JOBS_FOLDER / name / "deployment.yaml").read_text()
    lines = [line for line in deployment.splitlines(keepends=True) if not line.startswith("#")]
    return f"  {flink_name(name)}:\n" + indent(f"enabled: true\nmodule: {JOBS[name]}\n{''.join(lines)}", " " * 4)


def _replaced(file: Path, place: re.Pattern[str], new: str) -> str:
    text, count = place.subn(lambda _: new, file.read_text())
    if count != 1:
        raise ValueError(f"{file}: the list of jobs was found {count} times")
    return text
