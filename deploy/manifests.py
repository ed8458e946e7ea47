"""Renders the Helm chart and looks for mistakes in manifests: ``python -m deploy.manifests FILE...``.

What a Kubernetes API server and the Flink operator would refuse is found without either of them: by the schemas of
Kubernetes, by those of the CRDs of the Flink operator and the Prometheus operator, and by rules of the Flink operator's
validator that no schema can express.
"""

import argparse
import gzip
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import jsonschema_rs
import kubernetes_validate
import yaml

Manifest = dict[str, Any]

CHART = Path(__file__).parent / "helm" / "learner-aggregates"
_CRDS = {
    "FlinkDeployment": Path(__file__).parent / "operator" / "crd" / "flinkdeployments.flink.apache.org-v1.yml.gz",
    "PodMonitor": Path(__file__).parent / "prometheus" / "crd" / "monitoring.coreos.com_podmonitors.yaml.gz",
    "PrometheusRule": Path(__file__).parent / "prometheus" / "crd" / "monitoring.coreos.com_prometheusrules.yaml.gz",
}
_KUBERNETES_VERSION = "1.31"
# The enum of the stored CRD ends at v1_20.
_FLINK_VERSIONS = ("v2_0", "v2_1", "v2_2", "v2_3")


def render_chart(values: Mapping[str, Any] | None = None) -> list[Manifest]:
    """What ``helm template`` gives for the chart with ``values`` on top of its own. Raises helm_python.HelmError."""
    with helm_python.Chart.load(CHART) as chart:
        rendered = chart.render(dict(values or {}), name="learner-aggregates", namespace="sunbird")
    return [document for name in sorted(rendered) for document in documents(rendered[name])]


def documents(text: str) -> list[Manifest]:
    """The documents of a YAML file. Empty ones are left out."""
    return [document for document in yaml.safe_load_all(text) if document]


def problems(manifest: Manifest) -> list[str]:
    """What is wrong with a manifest, one sentence each. Empty if nothing is."""
    kind = manifest.get("kind", "no kind")
    name = f"{kind} {manifest.get('metadata', {}).get('name', 'without a name')}"
    if kind == "FlinkDeployment":
        found = _schema_problems(manifest) or [*_flink_problems(manifest["spec"]), *_pod_template_problems(manifest)]
    elif kind in _CRDS:
        found = _schema_problems(manifest)
    else:
        found = _kubernetes_problems(manifest)
    return [f"{name}: {problem}" for problem in found]


def _kubernetes_problems(manifest: Manifest) -> list[str]:
    """The first problem that Kubernetes' own schemas find. Unknown keys are problems, too."""
    try:
        kubernetes_validate.validate(manifest, _KUBERNETES_VERSION, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.path))}: {error.message}"]
    return []


def _schema_problems(manifest: Manifest) -> list[str]:
    errors = _crd(manifest["kind"]).iter_errors(manifest)
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in errors]


@cache
def _crd(kind: str) -> "jsonschema_rs.Draft7Validator":
    definition = yaml.safe_load(gzip.decompress(_CRDS[kind].read_bytes()))
    version = definition["spec"]["versions"][0]
    schema = _closed(version["schema"]["openAPIV3Schema"])
    schema["required"] = ["apiVersion", "kind", "metadata", "spec"]
    schema["properties"] |= {
        "apiVersion": {"const": f"{definition['spec']['group']}/{version['name']}"},
        "kind": {"const": definition["spec"]["names"]["kind"]},
        "metadata": {"type": "object"},
    }
    if kind == "FlinkDeployment":
        spec = schema["properties"]["spec"]["properties"]
        spec["flinkVersion"]["enum"] += _FLINK_VERSIONS
        # Checked with the schema of Kubernetes, which knows formats and required keys.
        spec["podTemplate"] = {"type": "object"}
    return jsonschema_rs.Draft7Validator(schema)


def _closed(schema: Any) -> Any:
    """The schema with unknown keys as errors, as ``kubectl apply --validate=strict`` has it."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    closed = {
        key: {name: _closed(part) for name, part in value.items()} if key == "properties" else _closed(value)
        for key, value in schema.items()
        # Go's flag in the pattern of partial_response_strategy. JSON Schema knows no flags.
        if not (key == "pattern" and "(?i)" in value)
    }
    if "properties" in closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    return closed


def _flink_problems(spec: Mapping[str, Any]) -> Iterable[str]:
    """Rules of the operator's DefaultValidator that no schema can express."""
    configuration = spec.get("flinkConfiguration", {})
    if spec["job"].get("upgradeMode") == "last-state":
        for key in ("high-availability.type", "high-availability.storageDir", "execution.checkpointing.dir"):
            if not configuration.get(key):
                yield f"upgradeMode last-state needs {key}"
    for key in ("kubernetes.cluster-id", "kubernetes.namespace", "kubernetes.container.image.ref"):
        if key in configuration:
            yield f"{key} is set by the operator and must not be in flinkConfiguration"
    for part in ("jobManager", "taskManager"):
        memory = str(spec[part]["resource"].get("memory", ""))
        if not memory.rstrip("kKmMgGib").isdigit():
            yield f"{part}.resource.memory {memory!r} is not an amount of memory"
    if spec["job"].get("parallelism", 0) < 1:
        yield "job.parallelism must be at least 1"


def _pod_template_problems(manifest: Manifest) -> list[str]:
    template = manifest["spec"].get("podTemplate")
    if template is None:
        return []
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, **template}
    return [f"podTemplate: {problem}" for problem in _kubernetes_problems(pod)]


def main(arguments: Sequence[str]) -> int:
    """Prints the problems of all files. Exit code 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m deploy.manifests", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", metavar="FILE", help="YAML")
    files: list[str] = parser.parse_args(arguments).files
    found = [
        f"{file}: {problem}"
        for file in files
        for manifest in documents(Path(file).read_text())
        for problem in problems(manifest)
    ]
    print("\n".join(found) or "no problems found")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
