"""What the manifests of deploy/k8s promise: pods without rights, settings that exist, the path split, a drain that fits into its grace."""

import re
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from typer.main import get_command

from kite_cli.cli import app
from kite_cli.services import SERVICES, settings_of
from kite_common import VERSION
from kite_common.config import KiteSettings, env_name
from kite_common.runtime.http import FAREWELL_S
from kite_common.runtime.metrics import METRICS
from kite_common.x402_settings import X402Settings
from kite_gateway.settings import GatewaySettings
from support import manifests
from support.manifests import PLACE, documents, pod_template

ROOT: Final = Path(__file__).resolve().parents[2]
FILES: Final = sorted(PLACE.rglob("*.yaml"))


def written(folder: str) -> list[dict[str, Any]]:
    return [one for path in sorted((PLACE / folder).glob("*.yaml")) for one in documents(path) if "metadata" in one]


def literals(folder: str) -> dict[str, str]:
    [generator] = documents(PLACE / folder / "kustomization.yaml")[0]["configMapGenerator"]
    return dict(literal.split("=", 1) for literal in generator["literals"])


PAYMENTS: Final = "components/payments"
BASE: Final = [*written("base"), *written(PAYMENTS)]
WORKLOADS: Final = [one for one in BASE if one["kind"] in manifests.WORKLOADS]
CONSUMERS: Final = ("kite-billing", "kite-delivery", "kite-replay")
GENERATED: Final = literals("base")

each = pytest.mark.parametrize("workload", WORKLOADS, ids=lambda one: one["metadata"]["name"])


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = pod_template(workload)["spec"]
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


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_has_a_workload_a_service_and_no_token(service: str) -> None:
    name = f"kite-{service}"
    workload = named("StatefulSet" if name in CONSUMERS else "Deployment", name)
    assert workload["spec"]["template"]["metadata"]["labels"] == named("Service", name)["spec"]["selector"]
    assert named("ServiceAccount", name)["automountServiceAccountToken"] is False
    assert container_of(workload)["ports"][0]["containerPort"] == settings_of(service).model_fields["port"].default
    assert set(container_of(workload)) >= {"startupProbe", "livenessProbe", "readinessProbe"}


@pytest.mark.parametrize("name", ["kite-gateway", *CONSUMERS])
def test_what_there_are_several_of_has_a_budget_and_is_spread(name: str) -> None:
    budget = named("PodDisruptionBudget", name)["spec"]
    assert named("Service", name)["spec"]["selector"] == budget["selector"]["matchLabels"]
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    spread = pod_of(named("StatefulSet" if name in CONSUMERS else "Deployment", name))["topologySpreadConstraints"]
    assert {one["topologyKey"] for one in spread} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}
    assert {one["nodeTaintsPolicy"] for one in spread} == {"Honor"}


def test_there_are_never_two_facilitators() -> None:
    spec = named("Deployment", "kite-facilitator")["spec"]
    assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})


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
    assert {name for name in given if name.endswith(("_KEY", "_PEPPER", "_TOKEN", "REDIS_URL", "CLICKHOUSE_URL", "RPC_URL"))} <= secret
    if args == [service]:
        fields = settings_of(service).model_fields
        required = {env_name(settings_of(service), name) for name, field in fields.items() if field.is_required()}
        # Whom to pay is nobody's default: the overlay says it.
        assert required <= set(given) | set(GENERATED) | {"X402_PAY_TO"}


def test_payments_set_what_they_need_where_it_is_needed() -> None:
    """The patches of the component are not in the workloads as they are written: what they add is looked at here."""
    [kustomization] = documents(PLACE / PAYMENTS / "kustomization.yaml")
    for patch in kustomization["patches"]:
        added = set(re.findall("name: (X402_[A-Z0-9_]+)", patch["patch"]))
        for service in (one for one in SERVICES if re.fullmatch(patch["target"]["name"], f"kite-{one}")):
            assert added <= {env_name(settings_of(service), field) for field in settings_of(service).model_fields}, service
    billing = {env_name(settings_of("billing"), field) for field in settings_of("billing").model_fields}
    assert set(literals(PAYMENTS)) <= billing
    port = settings_of("facilitator").model_fields["port"].default
    assert literals(PAYMENTS)["X402_FACILITATOR_URL"] == f"http://kite-facilitator:{port}"


@pytest.mark.parametrize("folder", ["base", PAYMENTS])
def test_the_image_is_that_of_this_version(folder: str) -> None:
    assert documents(PLACE / folder / "kustomization.yaml")[0]["images"] == [{"name": "kite", "newName": "kite", "newTag": VERSION}]


@pytest.mark.parametrize(
    ("example", "secret", "folder"), [("external-secret", "kite", "base"), ("external-secret-payments", "kite-payments", PAYMENTS)]
)
def test_every_secret_a_pod_takes_comes_from_outside(example: str, secret: str, folder: str) -> None:
    [document] = documents(PLACE / f"examples/{example}.yaml")
    patched = re.findall(f"secretKeyRef: {{name: {secret}, key: ([A-Z0-9_]+)}}", (PLACE / folder / "kustomization.yaml").read_text("utf-8"))
    assert {one["secretKey"] for one in document["spec"]["data"]} == {*_secret_keys(secret), *patched}
    assert document["spec"]["target"]["name"] == secret


def _secret_keys(secret: str) -> Iterator[str]:
    for workload in WORKLOADS:
        for one in container_of(workload).get("env", ()):
            reference = one.get("valueFrom", {}).get("secretKeyRef")
            if reference is not None and reference["name"] == secret and not reference.get("optional"):
                yield reference["key"]


def test_services_and_the_jobs_before_them_have_the_same_settings() -> None:
    """Topics are made with the number of partitions that services place keys by."""
    assert [container_of(one)["envFrom"] for one in WORKLOADS] == [[{"configMapRef": {"name": "kite"}}]] * len(WORKLOADS)
    given = [env["name"] for one in WORKLOADS for env in container_of(one).get("env", ())]
    assert not {"KITE_PARTITIONS", "KITE_REPLICATION", "KITE_KAFKA_BOOTSTRAP"} & set(given)


@pytest.mark.parametrize("workload", [one for one in WORKLOADS if one["kind"] != "Job"], ids=lambda one: one["metadata"]["name"])
def test_the_longest_drain_fits_into_the_grace_and_the_wait_for_a_payment_into_the_drain(workload: dict[str, Any]) -> None:
    sleeps = container_of(workload).get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    parts_that_hang = 5 * 2
    drain_s = float(GENERATED["KITE_DRAIN_TIMEOUT_S"])
    assert pod_of(workload)["terminationGracePeriodSeconds"] >= sleeps + drain_s + parts_that_hang
    assert drain_s > X402Settings.model_fields["x402_wait_s"].default + FAREWELL_S


def test_production_says_who_ends_tls_in_networks_that_are_nobody_s() -> None:
    """The value is one to change: as it stands it believes nobody (RFC 5737), where a private range would believe a whole cluster."""
    trusted = KiteSettings.model_validate({"trusted_proxies": literals("overlays/production")["KITE_TRUSTED_PROXIES"]}).trusted_proxies
    assert [ip_network(one) for one in trusted] == [ip_network("192.0.2.0/24")]


def test_the_password_of_the_example_of_clickhouse_comes_from_a_secret_that_an_example_makes() -> None:
    [operator] = documents(PLACE / "examples/clickhouse-operator.yaml")
    [secret] = documents(PLACE / "examples/external-secret-clickhouse.yaml")
    namespace, name, key = operator["spec"]["configuration"]["users"]["kite/k8s_secret_password"].split("/")
    assert (namespace, name) == (secret["metadata"]["namespace"], secret["spec"]["target"]["name"])
    assert [key] == [one["secretKey"] for one in secret["spec"]["data"]]


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


# Scaling. `components/keda` is the better one, `components/hpa` what there is without KEDA.
SCALED: Final = ("kite-gateway", *CONSUMERS)
_GROUPS: Final = {"kite-billing": "kite-billing", "kite-delivery": "kite-delivery", "kite-replay": "kite-archiver"}


@pytest.mark.parametrize("component", ["keda", "hpa"])
def test_each_way_of_scaling_has_everybody_and_never_more_than_partitions(component: str) -> None:
    scalers = written(f"components/{component}")
    bounds = ("minReplicaCount", "maxReplicaCount") if component == "keda" else ("minReplicas", "maxReplicas")
    assert [one["metadata"]["name"] for one in scalers] == list(SCALED)
    for one in scalers:
        spec = one["spec"]
        target, name = spec["scaleTargetRef"], one["metadata"]["name"]
        assert named(target["kind"], target["name"])["metadata"]["name"] == name
        least, most = (spec[bound] for bound in bounds)
        assert 2 <= least < most
        assert name not in CONSUMERS or most <= int(GENERATED["KITE_PARTITIONS"])


def test_the_gateway_scales_on_requests_in_flight_and_on_cpu() -> None:
    gateway = triggers("kite-gateway")
    assert [one["type"] for one in gateway] == ["cpu", "prometheus"]
    assert gateway[1]["metadata"]["query"] == "sum(kite_gateway_in_flight)"
    assert int(gateway[1]["metadata"]["threshold"]) < GatewaySettings.model_fields["max_in_flight"].default, "before requests are refused"


@pytest.mark.parametrize(("name", "group"), _GROUPS.items())
def test_consumers_scale_on_the_lag_of_their_group(name: str, group: str) -> None:
    [trigger] = triggers(name)
    assert trigger["metadata"]["query"] == f'sum(kite_consumer_lag{{group="{group}"}})'
    assert f'"{group}"' in "".join(path.read_text("utf-8") for path in (ROOT / "services" / name.removeprefix("kite-")).rglob("*.py"))


def test_metrics_that_scale_are_there_and_their_absence_scales_nothing_down() -> None:
    known = {one.name for one in METRICS}
    for name in SCALED:
        for one in (one["metadata"] for one in triggers(name) if one["type"] == "prometheus"):
            assert set(re.findall("kite_[a-z_]+", one["query"])) <= known
            assert one["ignoreNullValues"] == "false"


@pytest.mark.parametrize("component", ["keda", "hpa"])
def test_who_is_scaled_has_no_number_that_the_next_apply_would_set(component: str) -> None:
    [kustomization] = documents(PLACE / f"components/{component}/kustomization.yaml")
    assert [one["target"] for one in kustomization["patches"]] == [{"kind": "Deployment", "name": "kite-gateway"}, {"kind": "StatefulSet"}]
    assert {one["patch"].strip() for one in kustomization["patches"]} == {"- {op: remove, path: /spec/replicas}"}


def triggers(name: str) -> list[dict[str, Any]]:
    [found] = [one["spec"]["triggers"] for one in written("components/keda") if one["metadata"]["name"] == name]
    return list(found)
