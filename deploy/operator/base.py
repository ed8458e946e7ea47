"""base.yaml: the jobs of the Helm chart with its default values, for Kustomize."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy.job_lists import VALUES
from deploy.manifests import render_chart
from deploy.required_keys import required_keys
from jobs import JOBS, flink_name

BASE = Path(__file__).parent / "base.yaml"
_HEADER = "# Written by `python -m deploy` from the Helm chart: change that, or patch kustomization.yaml.\n"
# Stands for a value that no installation shares with another. The manifests have its key as a comment, so that a job
# does not start without it.
_REQUIRED = "REQUIRED"
_REQUIRED_KEY = re.compile(rf"^( *)(\w+): {_REQUIRED}$", re.MULTILINE)
# The operator's validator asks for it, so it cannot be a comment.
_STORAGE = f"s3://{_REQUIRED}/learner-aggregates"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def build() -> str:
    """The manifests of the jobs, and of what they need."""
    manifests = [
        manifest
        for manifest in render_chart(_values())
        # Its only pods would be those of the readers.
        if manifest["metadata"]["name"] != "learner-aggregates-readers"
    ]
    for manifest in manifests:
        # Kustomize sets the namespace.
        for subject in manifest.get("subjects", ()):
            subject.pop("namespace", None)
        if manifest["kind"] == "ConfigMap":
            settings = manifest["data"]["config.yaml"]
            manifest["data"]["config.yaml"] = _REQUIRED_KEY.sub(r"\1# Required: \2", settings)
    return _HEADER + yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=10_000)


def _values() -> dict[str, Any]:
    chart = yaml.safe_load(VALUES.read_text())
    jobs: dict[str, Any] = {}
    for name in map(flink_name, JOBS):
        config: dict[str, Any] = {}
        for location in required_keys()[name]:
            if not _has(chart["config"], location) and not _has(chart["jobs"][name]["config"], location):
                section = config
                for part in location[:-1]:
                    section = section.setdefault(part, {})
                section[location[-1]] = _REQUIRED
        jobs[name] = {"config": config}
    return {"services": {"enabled": False}, "flink": {"storage": _STORAGE}, "jobs": jobs}


def _has(values: Any, location: tuple[str, ...]) -> bool:
    for part in location:
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
