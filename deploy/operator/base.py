"""base.yaml: the jobs of the Helm chart with its default values, for Kustomize."""

from pathlib import Path

import yaml

from deploy.manifests import render_chart

BASE = Path(__file__).parent / "base.yaml"
_HEADER = "# Written by `python -m deploy` from the Helm chart: change that, or patch kustomization.yaml.\n"


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def build() -> str:
    """The manifests of the jobs, and of what they need."""
    manifests = [
        manifest
        for manifest in render_chart({"services": {"enabled": False}})
        # Its only pods would be those of the readers.
        if manifest["metadata"]["name"] != "learner-aggregates-readers"
    ]
    for manifest in manifests:
        # Kustomize sets the namespace.
        for subject in manifest.get("subjects", ()):
            subject.pop("namespace", None)
    return _HEADER + yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=10_000)
