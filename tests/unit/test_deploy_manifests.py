"""The Helm chart and the Kustomize base hold what Kubernetes, the Flink operator, and our own configuration accept."""

import copy
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from common.config.loader import ConfigError, load
from deploy import manifests
from deploy.__main__ import WRITTEN
from deploy.manifests import Manifest, documents, problems, render_chart
from deploy.operator.base import BASE
from desk.config import DeskConfig
from jobs import JOBS, config_class
from local.config import REPOSITORY
from reports.config import ReportsConfig
from services.config import ServicesConfig

REQUIRED_VALUES: dict[str, Any] = {
    "config": {"kafka": {"env": "dev"}},
    "flink": {"storage": "s3://bucket/flink"},
    "jobs": {
        "collection-cert-pre-processor": {
            "config": {
                "cert_domain_url": "https://sunbird.test",
                "cloud_storage_base_url": "https://storage.test",
                "content_cloud_storage_container": "content",
            }
        }
    },
    "services": {"config": {"tokens": {"issuer": "https://sunbird.test/auth/realms/sunbird"}}},
}
"""What nobody but an installation can know."""
EVERYTHING: dict[str, Any] = {
    "secretName": "learner-aggregates",
    "images": {"pullSecrets": [{"name": "registry"}]},
    "desk": {
        "enabled": True,
        "config": {"server": {"user_header": "X-Forwarded-User", "trusted_proxies": ["10.0.0.1"]}},
    },
    "reports": {
        "enabled": True,
        "config": {"content_base_url": "http://search-service:9000", "hierarchy_keyspace": "prod_hierarchy_store"},
    },
}


def laid_over(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """Key by key, as Helm does it."""
    return values | {
        key: laid_over(values[key], value) if isinstance(values.get(key), dict) and isinstance(value, dict) else value
        for key, value in others.items()
    }


def rendered(values: dict[str, Any]) -> list[Manifest]:
    """The chart with all that is required, and with `values`."""
    return render_chart(laid_over(REQUIRED_VALUES, values))


@cache
def _everything() -> str:
    return yaml.safe_dump_all(rendered(EVERYTHING))


@pytest.fixture
def chart() -> dict[tuple[str, str], Manifest]:
    """The chart with everything switched on, by kind and name. Each test may change it."""
    found = documents(_everything())
    return {(manifest["kind"], manifest["metadata"]["name"]): manifest for manifest in found}


@pytest.fixture
def deployment(chart: dict[tuple[str, str], Manifest]) -> Manifest:
    return chart["FlinkDeployment", "assessment-aggregator"]


def test_the_chart_has_no_problem(chart: dict[tuple[str, str], Manifest]) -> None:
    assert [problem for manifest in chart.values() for problem in problems(manifest)] == []


def test_the_chart_has_a_deployment_for_every_job(chart: dict[tuple[str, str], Manifest]) -> None:
    modules = {
        name: manifest["spec"]["job"]["args"][manifest["spec"]["job"]["args"].index("-pym") + 1]
        for (kind, name), manifest in chart.items()
        if kind == "FlinkDeployment"
    }
    assert modules == {name.replace("_", "-"): module for name, module in JOBS.items()}


def test_the_settings_of_jobs_and_readers_are_accepted(chart: dict[tuple[str, str], Manifest], tmp_path: Path) -> None:
    classes: dict[str, Any] = {name.replace("_", "-"): config_class(name) for name in JOBS}
    classes |= {
        "learner-aggregates-services": ServicesConfig,
        "learner-aggregates-reports": ReportsConfig,
        "learner-aggregates-desk": DeskConfig,
    }
    for name, config in classes.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(chart["ConfigMap", f"{name}-settings"]["data"]["config.yaml"])
        load(config, file, {})


def paths(values: dict[str, Any], above: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in values.items():
        found |= paths(value, f"{above}{key}.") if isinstance(value, dict) else {above + key}
    return found


def refused(values: dict[str, Any]) -> set[str]:
    """The values that the chart is not rendered without."""
    with pytest.raises(helm_python.HelmError, match="these values have no default and must be set:") as caught:
        render_chart(values)
    return {line.strip() for line in str(caught.value).splitlines()[1:]}


def test_the_chart_is_not_rendered_without_what_differs_between_installations() -> None:
    """It once gave the certificate job https://sunbird.example.org, which then stood in certificates."""
    assert refused({}) == paths(REQUIRED_VALUES)


@pytest.mark.parametrize("path", sorted(paths(REQUIRED_VALUES)))
def test_a_required_value_that_is_null_is_named(path: str) -> None:
    *sections, key = path.split(".")
    nothing: dict[str, Any] = {key: None}
    for section in reversed(sections):
        nothing = {section: nothing}
    assert refused(laid_over(REQUIRED_VALUES, nothing)) == {path}


def test_a_program_that_is_switched_off_requires_nothing() -> None:
    off = {"enabled": False}
    jobs = dict.fromkeys((name.replace("_", "-") for name in JOBS), off)
    assert render_chart({"jobs": jobs, "services": off})
    certificates_off = {"jobs": {"collection-cert-pre-processor": off}, "services": off}
    assert refused(certificates_off) == {"config.kafka.env", "flink.storage"}
    assert refused(laid_over(REQUIRED_VALUES, {"reports": {"enabled": True}})) == {
        "reports.config.content_base_url",
        "reports.config.hierarchy_keyspace",
    }


def test_a_job_may_have_a_shared_key_of_its_own() -> None:
    without = {key: value for key, value in REQUIRED_VALUES.items() if key != "config"}
    of_its_own = {name.replace("_", "-"): {"config": {"kafka": {"env": "mine"}}} for name in JOBS}
    assert render_chart(laid_over(without, {"jobs": of_its_own, "services": {"enabled": False}}))


def test_no_setting_of_the_chart_is_a_placeholder() -> None:
    values = yaml.safe_load((manifests.CHART / "values.yaml").read_text())
    programs = [values, *values["jobs"].values(), values["services"], values["reports"], values["desk"]]
    assert not re.search(r"https:|example|\w\.(org|com|net)\b", str([program["config"] for program in programs]))


def test_a_job_of_the_base_for_kustomize_does_not_start_without_what_is_required(tmp_path: Path) -> None:
    settings = {
        manifest["metadata"]["name"].removesuffix("-settings"): manifest["data"]["config.yaml"]
        for manifest in documents(BASE.read_text())
        if manifest["kind"] == "ConfigMap"
    }
    file = tmp_path / "config.yaml"
    missing: dict[str, set[str]] = {}
    for name in JOBS:
        file.write_text(settings[name.replace("_", "-")])
        with pytest.raises(ConfigError) as caught:
            load(config_class(name), file, {})
        missing[name] = {problem.partition(" is missing;")[0] for problem in caught.value.problems}
    assert missing == {
        "assessment_aggregator": {"kafka.env"},
        "activity_aggregate_updater": {"kafka.env"},
        "collection_cert_pre_processor": {
            "kafka.env",
            *REQUIRED_VALUES["jobs"]["collection-cert-pre-processor"]["config"],
        },
    }


def test_flinks_configuration_is_the_one_that_the_tests_run_with(deployment: Manifest) -> None:
    def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
        return found

    tested = flat(yaml.safe_load((REPOSITORY / "flink-conf/config.yaml").read_text()))
    shipped = deployment["spec"]["flinkConfiguration"]
    assert all(isinstance(value, str) for value in shipped.values())
    different = {key for key, value in tested.items() if key not in shipped or yaml.safe_load(shipped[key]) != value}
    assert different == {
        "execution.checkpointing.dir",
        "execution.checkpointing.savepoint-dir",
        "metrics.reporter.prom.port",
        "python.executable",
        "python.client.executable",
        # The operator sets what these say.
        "jobmanager.rpc.address",
        "jobmanager.rpc.port",
        "jobmanager.memory.process.size",
        "jobmanager.execution.failover-strategy",
        "taskmanager.memory.process.size",
        "parallelism.default",
        "rest.address",
        "rest.port",
    }
    log = deployment["spec"]["logConfiguration"]["log4j-console.properties"]
    assert log.strip() == (REPOSITORY / "flink-conf/log4j-console.properties").read_text().strip()


def test_values_override_flinks_configuration() -> None:
    found = rendered({"flink": {"configuration": {"execution.checkpointing.interval": "1min"}}})
    intervals = {
        manifest["spec"]["flinkConfiguration"]["execution.checkpointing.interval"]
        for manifest in found
        if manifest["kind"] == "FlinkDeployment"
    }
    assert intervals == {"1min"}


def test_a_job_can_be_left_out() -> None:
    found = rendered({"jobs": {"collection-cert-pre-processor": {"enabled": False}}})
    names = [manifest["metadata"]["name"] for manifest in found if manifest["kind"] == "FlinkDeployment"]
    assert sorted([*names, "collection-cert-pre-processor"]) == sorted(name.replace("_", "-") for name in JOBS)


def test_a_job_can_be_stopped_with_a_savepoint() -> None:
    found = rendered({"jobs": {"assessment-aggregator": {"state": "suspended"}}})
    jobs = {one["metadata"]["name"]: one["spec"]["job"] for one in found if one["kind"] == "FlinkDeployment"}
    stopped = jobs.pop("assessment-aggregator")
    assert (stopped["state"], stopped["upgradeMode"]) == ("suspended", "savepoint")
    assert {(job["state"], job["upgradeMode"]) for job in jobs.values()} == {("running", "last-state")}
    assert [problem for manifest in found for problem in problems(manifest)] == []


def test_a_misspelt_state_is_a_problem() -> None:
    found = rendered({"jobs": {"assessment-aggregator": {"state": "stopped"}}})
    assert any("stopped" in problem for manifest in found for problem in problems(manifest))


def test_every_container_runs_without_rights(chart: dict[tuple[str, str], Manifest]) -> None:
    pods = [manifest["spec"]["podTemplate"] for (kind, _), manifest in chart.items() if kind == "FlinkDeployment"]
    pods += [chart["Deployment", f"learner-aggregates-{name}"]["spec"]["template"] for name in ("services", "desk")]
    pods += [chart["CronJob", "learner-aggregates-reports"]["spec"]["jobTemplate"]["spec"]["template"]]
    assert len(pods) == len(JOBS) + 3
    for pod in pods:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        for container in pod["spec"]["containers"]:
            security = container["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"] == {"drop": ["ALL"]}
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts == {volume["name"] for volume in pod["spec"]["volumes"]}
            assert "secrets" in mounts
            assert not [variable for variable in container.get("env", ()) if "value" in variable]


def test_the_pods_of_a_job_are_found_by_policies_and_monitors(chart: dict[tuple[str, str], Manifest]) -> None:
    monitors = {
        monitor["metadata"]["name"]: monitor
        for monitor in documents((REPOSITORY / "deploy/prometheus/podmonitor.yaml").read_text())
    }
    job = chart["FlinkDeployment", "assessment-aggregator"]["spec"]["podTemplate"]
    services = chart["Deployment", "learner-aggregates-services"]["spec"]["template"]
    for pod, monitor in ((job, "learner-aggregates-jobs"), (services, "learner-aggregates-services")):
        labels = pod["metadata"]["labels"]
        selected = monitors[monitor]["spec"]["selector"]["matchLabels"]
        assert selected.items() <= labels.items()
        ports = {port["name"] for container in pod["spec"]["containers"] for port in container["ports"]}
        assert {endpoint["port"] for endpoint in monitors[monitor]["spec"]["podMetricsEndpoints"]} <= ports
    policy = chart["NetworkPolicy", "learner-aggregates-jobs"]["spec"]["podSelector"]["matchLabels"]
    assert policy.items() <= job["metadata"]["labels"].items()


BROKEN: dict[str, tuple[Callable[[Any], Any], str]] = {
    "an unknown upgrade mode": (lambda spec: spec["job"].update(upgradeMode="save-point"), "save-point"),
    "a misspelt key": (lambda spec: spec["job"].update(parallellism=2), "parallellism"),
    "an unknown Flink version": (lambda spec: spec.update(flinkVersion="v9_9"), "v9_9"),
    "a number as a value": (lambda spec: spec["flinkConfiguration"].update({"a": 5}), "flinkConfiguration.a"),
    "text as parallelism": (lambda spec: spec["job"].update(parallelism="two"), "parallelism"),
    "no slots": (lambda spec: spec["job"].update(parallelism=0), "at least 1"),
    "no high availability": (lambda spec: spec["flinkConfiguration"].pop("high-availability.type"), "last-state needs"),
    "no checkpoints": (lambda spec: spec["flinkConfiguration"].pop("execution.checkpointing.dir"), "last-state needs"),
    "the operator's own key": (
        lambda spec: spec["flinkConfiguration"].update({"kubernetes.cluster-id": "mine"}),
        "set by the operator",
    ),
    "no amount of memory": (lambda spec: spec["taskManager"]["resource"].update(memory="lots"), "'lots'"),
    "a misspelt key of a pod": (
        lambda spec: spec["podTemplate"]["spec"]["containers"][0].update(volumeMount=[]),
        "volumeMount",
    ),
    "text as a port": (
        lambda spec: spec["podTemplate"]["spec"]["containers"][0]["ports"][0].update(containerPort="http"),
        "podTemplate",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_a_broken_deployment_is_refused(mistake: str, deployment: Manifest) -> None:
    break_it, said = BROKEN[mistake]
    assert problems(deployment) == []
    break_it(deployment["spec"])
    found = problems(deployment)
    assert found
    assert said in " ".join(found)
    assert all(problem.startswith("FlinkDeployment assessment-aggregator: ") for problem in found)


BROKEN_MONITORING: dict[str, tuple[str, Callable[[Any], Any], str]] = {
    "a misspelt key of an alarm": (
        "PrometheusRule",
        lambda spec: spec["groups"][0]["rules"][-1].update(annotation={}),
        "spec.groups.0.rules.",
    ),
    "an alarm without an expression": (
        "PrometheusRule",
        lambda spec: spec["groups"][0]["rules"][-1].pop("expr"),
        '"expr" is a required property',
    ),
    "a group without a name": ("PrometheusRule", lambda spec: spec["groups"][0].pop("name"), '"name" is a required'),
    "words as a duration": (
        "PrometheusRule",
        lambda spec: spec["groups"][0]["rules"][-1].update({"for": "5 minutes"}),
        '"5 minutes" does not match',
    ),
    "a number as a label": (
        "PrometheusRule",
        lambda spec: spec["groups"][0]["rules"][-1]["labels"].update(severity=1),
        "labels.severity: 1 is not of type",
    ),
    "a misspelt key of a monitor": (
        "PodMonitor",
        lambda spec: spec.update(podMetricsEndpoint=spec.pop("podMetricsEndpoints")),
        "podMetricsEndpoint",
    ),
    "no selector": ("PodMonitor", lambda spec: spec.pop("selector"), '"selector" is a required property'),
    "a number as the name of a port": (
        "PodMonitor",
        lambda spec: spec["podMetricsEndpoints"][0].update(port=9249),
        "podMetricsEndpoints.0.port: 9249 is not of type",
    ),
    "words as an interval": (
        "PodMonitor",
        lambda spec: spec["podMetricsEndpoints"][0].update(interval="15 seconds"),
        '"15 seconds" does not match',
    ),
    "a misspelt selector": (
        "PodMonitor",
        lambda spec: spec["selector"].update(matchLabel={"a": "b"}),
        "matchLabel",
    ),
}


@pytest.mark.parametrize("mistake", BROKEN_MONITORING)
def test_broken_rules_and_monitors_are_refused(mistake: str) -> None:
    kind, break_it, said = BROKEN_MONITORING[mistake]
    folder = REPOSITORY / "deploy" / "prometheus"
    shipped = [*documents((folder / "rules.yaml").read_text()), *documents((folder / "podmonitor.yaml").read_text())]
    manifest = next(one for one in shipped if one["kind"] == kind)
    assert problems(manifest) == []
    break_it(manifest["spec"])
    found = problems(manifest)
    assert found
    assert said in " ".join(found)
    assert all(problem.startswith(f"{kind} learner-aggregates") for problem in found)


def test_a_broken_manifest_of_kubernetes_is_refused(chart: dict[tuple[str, str], Manifest]) -> None:
    for key, path, value in (
        (("Deployment", "learner-aggregates-services"), ("spec", "replica"), 2),
        (("NetworkPolicy", "learner-aggregates-jobs"), ("spec", "ingres"), []),
        (("PodDisruptionBudget", "assessment-aggregator"), ("spec", "maxUnavailable"), [1]),
    ):
        broken = copy.deepcopy(chart[key])
        broken[path[0]][path[1]] = value
        (problem,) = problems(broken)
        assert problem.startswith(f"{key[0]} {key[1]}: ")


def test_the_command_prints_problems_and_fails(
    deployment: Manifest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(yaml.safe_dump(deployment))
    assert manifests.main([str(good)]) == 0
    deployment["spec"]["job"]["parallellism"] = 2
    bad.write_text(yaml.safe_dump(deployment))
    capsys.readouterr()
    assert manifests.main([str(good), str(bad)]) == 1
    assert capsys.readouterr().out.startswith(f"{bad}: FlinkDeployment assessment-aggregator: spec.job: ")


def test_helm_finds_no_mistake_in_the_chart() -> None:
    result = helm_python.lint(str(manifests.CHART))
    assert result["errors"] == []
    assert {message["error"] for message in result["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("file", WRITTEN, ids=lambda file: file.name)
def test_a_written_file_is_what_the_code_writes(file: Path) -> None:
    """After a change: python -m deploy."""
    assert file.read_text() == WRITTEN[file]()


@pytest.mark.parametrize("folder", ["operator", "prometheus"])
def test_kustomize_builds_valid_manifests(folder: str) -> None:
    kubectl = Path(sys.executable).with_name("kubectl")
    result = subprocess.run(
        [str(kubectl), "kustomize", str(REPOSITORY / "deploy" / folder)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    built = documents(result.stdout)
    assert [problem for manifest in built for problem in problems(manifest)] == []
    kinds = {manifest["kind"] for manifest in built}
    assert kinds >= ({"FlinkDeployment"} if folder == "operator" else {"PodMonitor", "PrometheusRule", "ConfigMap"})
    for binding in (manifest for manifest in built if manifest["kind"] == "RoleBinding"):
        assert [subject["namespace"] for subject in binding["subjects"]] == ["sunbird"]
