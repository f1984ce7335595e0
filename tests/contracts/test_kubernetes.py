"""What the manifests of deploy/k8s promise: pods without rights, settings that exist, the path split, a drain that fits into its grace."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for two calls
from typer.main import get_command

from kite_cli.cli import app
from kite_cli.services import SERVICES, settings_of
from kite_common.config import env_name

ROOT: Final = Path(__file__).resolve().parents[2]
PLACE: Final = ROOT / "deploy/k8s"
FILES: Final = sorted(PLACE.rglob("*.yaml"))
_WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]


BASE: Final = [one for path in sorted((PLACE / "base").glob("*.yaml")) for one in documents(path) if "metadata" in one]
WORKLOADS: Final = [one for one in BASE if one["kind"] in _WORKLOADS]
GENERATED: Final = dict(
    literal.split("=", 1) for literal in documents(PLACE / "base/kustomization.yaml")[0]["configMapGenerator"][0]["literals"]
)  # fmt: skip

each = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["metadata"]["name"])


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = workload["spec"]["template"]["spec"]
    return pod


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(workload)["containers"]
    return dict(container)


def named(kind: str, name: str) -> dict[str, Any]:
    [found] = [one for one in BASE if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.name == "kustomization.yaml"], ids=lambda path: path.parent.name)
def test_everything_a_kustomization_takes_is_there_and_nothing_is_left_out(path: Path) -> None:
    [kustomization] = documents(path)
    taken = {(path.parent / one).resolve() for one in (*kustomization["resources"], *kustomization.get("components", ()))}
    assert [one for one in taken if not one.exists()] == []
    beside = {one.resolve() for one in path.parent.glob("*.yaml")} - {path.resolve()}
    assert beside <= taken


@pytest.mark.parametrize("service", [service for service in SERVICES if service != "facilitator"])
def test_each_service_has_a_workload_a_service_a_budget_and_no_token(service: str) -> None:
    name = f"kite-{service}"
    workload = named("Deployment" if service == "gateway" else "StatefulSet", name)
    assert named("Service", name)["spec"]["selector"] == named("PodDisruptionBudget", name)["spec"]["selector"]["matchLabels"]
    assert workload["spec"]["template"]["metadata"]["labels"] == named("Service", name)["spec"]["selector"]
    assert named("ServiceAccount", name)["automountServiceAccountToken"] is False
    assert container_of(workload)["ports"][0]["containerPort"] == settings_of(service).model_fields["port"].default
    assert set(container_of(workload)) >= {"startupProbe", "livenessProbe", "readinessProbe"}
    assert pod_of(workload)["topologySpreadConstraints"]


@each
def test_a_pod_is_restricted(workload: dict[str, Any]) -> None:
    """The Pod Security Standard `restricted`, and a root file system that is only read."""
    pod, container = pod_of(workload), container_of(workload)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@each
def test_it_runs_a_command_that_there_is(workload: dict[str, Any]) -> None:
    command = get_command(app)
    for word in container_of(workload)["args"]:
        command = command.commands[word]  # type: ignore[attr-defined]
    assert not hasattr(command, "commands")


@each
def test_every_setting_is_one_and_no_secret_is_written_down(workload: dict[str, Any]) -> None:
    container = container_of(workload)
    args = container["args"]
    service = args[0] if args[0] in SERVICES else "replay"
    known = {env_name(settings_of(service), field) for field in settings_of(service).model_fields}
    given = {one["name"]: one for one in container.get("env", ())}
    assert set(given) <= known
    assert set(GENERATED) <= known
    secret = {name for name, one in given.items() if "secretKeyRef" in one.get("valueFrom", {})}
    assert {name for name in given if name.endswith(("_KEY", "_PEPPER", "REDIS_URL", "CLICKHOUSE_URL"))} <= secret
    if args == [service]:
        fields = settings_of(service).model_fields
        required = {env_name(settings_of(service), name) for name, field in fields.items() if field.is_required()}
        assert required <= set(given) | set(GENERATED)


def test_every_secret_a_pod_takes_comes_from_outside() -> None:
    taken = set(_secret_keys(WORKLOADS))
    [example] = documents(PLACE / "examples/external-secret.yaml")
    assert {one["secretKey"] for one in example["spec"]["data"]} == taken


def _secret_keys(workloads: list[dict[str, Any]]) -> Iterator[str]:
    for workload in workloads:
        for one in container_of(workload).get("env", ()):
            if "secretKeyRef" in one.get("valueFrom", {}):
                yield one["valueFrom"]["secretKeyRef"]["key"]


@pytest.mark.parametrize("workload", [one for one in WORKLOADS if one["kind"] != "Job"], ids=lambda one: one["metadata"]["name"])
def test_the_longest_drain_fits_into_the_grace(workload: dict[str, Any]) -> None:
    sleeps = container_of(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    parts_that_hang = 5 * 2
    assert pod_of(workload)["terminationGracePeriodSeconds"] >= sleeps + float(GENERATED["KITE_DRAIN_TIMEOUT_S"]) + parts_that_hang


def test_the_ingress_splits_paths_as_the_contract_has_them() -> None:
    [rule] = named("Ingress", "kite")["spec"]["rules"]
    paths = {one["path"]: one["backend"]["service"]["name"] for one in rule["http"]["paths"]}
    routes = orjson.loads((ROOT / "contracts/openapi.json").read_bytes())["paths"]
    replayed = orjson.loads((ROOT / "services/gateway/kite_gateway/adapters/http/replay_openapi.json").read_bytes())["paths"]
    for route in routes:
        longest = max((path for path in paths if route.startswith(path)), key=len, default=None)
        if route in ("/metrics", "/readyz", "/livez", "/ready"):
            assert longest is None, route
        else:
            assert longest is not None, route
            assert paths[longest] == ("kite-replay" if route in replayed else "kite-gateway"), route
