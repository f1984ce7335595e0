"""deploy/k8s before a real API server: what it admits, what its controllers make of it, and what it refuses.

Needs Go, Java and the network the first time: `make test-k8s`. No pod runs in it (see support/control_plane.py).
"""

from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

import pytest

from kite_common.testing.eventually import eventually
from support.control_plane import ControlPlane
from support.manifests import VARIANTS, Document, as_list, documents, examples, kustomized, name_of, pod_template, written

# The first run builds all of Kubernetes.
pytestmark = pytest.mark.timeout(7_200)

WRITTEN: Final = written()
GATEWAY: Final = WRITTEN["base/gateway.yaml Deployment/kite-gateway"]
DRY: Final = ("apply", "--server-side", "--dry-run=server", "--warnings-as-errors", "-f", "-")
# Whose definition could not be had.
UNKNOWN: Final = ("ClickHouseInstallation",)
# With `hpa` and `payments`: the least of each, one facilitator, and both jobs.
PODS: Final = {
    "kite-gateway": 2, "kite-billing": 2, "kite-delivery": 2, "kite-replay": 2, "kite-facilitator": 1, "kite-topics": 1, "kite-archive": 1,
}  # fmt: skip


def built(plane: ControlPlane, variant: str, folder: Path) -> list[Document]:
    return kustomized(VARIANTS[variant], folder, str(plane.programs / "kubectl"))


@pytest.mark.parametrize("variant", VARIANTS)
async def test_every_object_of_a_variant_is_admitted_without_a_warning(plane: ControlPlane, variant: str, tmp_path: Path) -> None:
    objects = built(plane, variant, tmp_path)
    answered = (await plane.done(*DRY, given=as_list(objects))).splitlines()
    assert len(answered) == len(objects) > 20
    assert all(line.endswith("serverside-applied (server dry run)") for line in answered)


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
async def test_an_example_is_admitted_without_a_warning(plane: ControlPlane, example: Path) -> None:
    objects = [one for one in documents(example) if one["kind"] not in UNKNOWN]
    if not objects:
        pytest.skip("the definition of its operator could not be had")
    await plane.done(*DRY, given=as_list(objects))


async def test_the_pods_of_examples_are_restricted(plane: ControlPlane) -> None:
    """As far as we write them: what an operator adds to its pods is its own."""
    valkey = pod_template(WRITTEN["examples/valkey.yaml StatefulSet/valkey"])["spec"]
    [clickhouse] = WRITTEN["examples/clickhouse-operator.yaml ClickHouseInstallation/kite"]["spec"]["templates"]["podTemplates"]
    for spec in (valkey, clickhouse["spec"]):
        without_disks = deepcopy(spec)
        without_disks["containers"][0].pop("volumeMounts", None)
        await plane.done(*DRY, given=pod(without_disks))


# What it refuses: without these, the tests above could pass at a server that takes anything.
def pod(spec: dict[str, Any]) -> Document:
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": "kite"}, "spec": spec}


def gateway_pod() -> dict[str, Any]:
    """The gateway's pod as the API server takes it, by the account that every namespace has."""
    spec: dict[str, Any] = deepcopy(pod_template(GATEWAY)["spec"]) | {"serviceAccountName": "default"}
    return spec


async def test_the_namespace_refuses_a_pod_that_is_not_restricted(plane: ControlPlane) -> None:
    await plane.done(*DRY, given=pod(gateway_pod()))
    for loosened in _loosened():
        answer = await plane.kubectl(*DRY, given=pod(loosened))
        assert answer.refused
        assert 'violates PodSecurity "restricted' in answer.err


def _loosened() -> Iterator[dict[str, Any]]:
    """The gateway's pod without one of the things that make it restricted, each in its turn."""
    for name in ("runAsNonRoot", "seccompProfile"):
        spec = gateway_pod()
        del spec["securityContext"][name]
        yield spec
    for name in ("allowPrivilegeEscalation", "capabilities"):
        spec = gateway_pod()
        del spec["containers"][0]["securityContext"][name]
        yield spec
    spec = gateway_pod()
    spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    yield spec


@pytest.mark.parametrize(
    ("name", "field"),
    [("base/gateway.yaml Deployment/kite-gateway", "replica"),
     ("components/keda/scaled-objects.yaml ScaledObject/kite-gateway", "minReplicas"),
     ("examples/external-secret.yaml ExternalSecret/kite", "secretStore"), ("examples/kafka-strimzi.yaml Kafka/kite", "brokers")],
)  # fmt: skip
async def test_a_field_that_is_unknown_is_refused(plane: ControlPlane, name: str, field: str) -> None:
    broken = deepcopy(WRITTEN[name])
    broken["metadata"]["namespace"] = "kite"
    await plane.done(*DRY, given=broken)
    broken["spec"][field] = 3
    answer = await plane.kubectl(*DRY, given=broken)
    assert answer.refused
    assert field in answer.err


# What controllers make of it.
@pytest.fixture(scope="module")
async def applied(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> ControlPlane:
    """The same cluster with a variant in it for true, applied as deploy/README.md says."""
    folder = tmp_path_factory.mktemp("variant")
    built(plane, "hpa-payments", folder)
    await plane.done("apply", "--warnings-as-errors", "-k", str(folder))
    return plane


async def pods_by_name(plane: ControlPlane) -> Counter[str]:
    pods = await plane.listed("pods", "-n", "kite", "-l", "app.kubernetes.io/part-of=kite")
    return Counter(one["metadata"]["labels"]["app.kubernetes.io/name"] for one in pods)


async def has_its_pods(plane: ControlPlane) -> bool:
    found = await pods_by_name(plane)
    assert found == PODS, found
    return True


async def test_every_workload_gets_its_pods_and_none_has_a_token(applied: ControlPlane) -> None:
    """PodSecurity refuses pods, not the workloads that make them: that pods are there is what shows that they are admitted. The number is
    that of the autoscaler, as a manifest of what is scaled has none."""
    await eventually(lambda: has_its_pods(applied), within_s=120, every_s=0.5, what="every pod")
    for one in await applied.listed("pods", "-n", "kite"):
        projected = [volume.get("projected", {}) for volume in one["spec"].get("volumes", ())]
        sources = [source for volume in projected for source in volume.get("sources", ())]
        assert not [source for source in sources if "serviceAccountToken" in source], name_of(one)
        assert one["spec"]["serviceAccountName"] != "default", name_of(one)
    events = await applied.listed("events", "-n", "kite")
    assert not [one["message"] for one in events if one["reason"] == "FailedCreate"]


async def test_every_budget_has_the_pods_it_is_for(applied: ControlPlane) -> None:
    async def expected() -> bool:
        budgets = {one["metadata"]["name"]: one["status"].get("expectedPods") for one in await applied.listed("pdb", "-n", "kite")}
        assert budgets == dict.fromkeys(("kite-gateway", "kite-billing", "kite-delivery", "kite-replay"), 2), budgets
        return True

    await eventually(expected, within_s=120, every_s=0.5, what="budgets that have found their pods")


async def test_applying_it_again_changes_nothing_and_scales_nobody(applied: ControlPlane, tmp_path: Path) -> None:
    await eventually(lambda: has_its_pods(applied), within_s=120, every_s=0.5, what="every pod")
    await applied.done("scale", "deployment/kite-gateway", "statefulset/kite-billing", "--replicas=5", "-n", "kite")
    built(applied, "hpa-payments", tmp_path)
    assert await applied.done("diff", "-k", str(tmp_path)) == ""
    await applied.done("apply", "-k", str(tmp_path))
    for kind, name in (("deployment", "kite-gateway"), ("statefulset", "kite-billing")):
        assert await applied.done("get", kind, name, "-n", "kite", "-o", "jsonpath={.spec.replicas}") == "5"


async def test_another_version_needs_the_jobs_deleted_first(applied: ControlPlane, tmp_path: Path) -> None:
    """As deploy/README.md says; everything else can be changed in place."""
    another = deepcopy(built(applied, "hpa-payments", tmp_path))
    for one in another:
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            pod_template(one)["spec"]["containers"][0]["image"] = "kite:0.2.0"
    answer = await applied.kubectl("apply", "--dry-run=server", "-f", "-", given=as_list(another))
    assert answer.refused
    refused = [line for line in answer.err.splitlines() if "is invalid" in line]
    assert len(refused) == 2
    assert all("Job.batch" in line and "field is immutable" in answer.err for line in refused)
    await applied.done("delete", "job", "kite-topics", "kite-archive", "-n", "kite")
    await applied.done("apply", "--dry-run=server", "-f", "-", given=as_list(another))
    # In the order of docs/operations.md: nothing is left over at its end.
    name = "app.kubernetes.io/name"
    order = ("topics", "archive", "replay", "delivery", "facilitator", "billing", "gateway")
    for chosen in (f"!{name}", *(f"{name}=kite-{one}" for one in order)):
        assert await applied.done("apply", "-f", "-", "-l", chosen, given=as_list(another)) != ""
    assert await applied.done("diff", "-f", "-", given=as_list(another)) == ""
