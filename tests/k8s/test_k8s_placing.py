"""Where a scheduler puts the pods of overlays/production, and how many of them a budget lets go at a time.

The nodes are made up, and what a kubelet would say and do about pods the tests say and do: no pod runs.
"""

from typing import Final

import orjson
import pytest

from kite_common.testing.eventually import eventually
from support.control_plane import Answer, ControlPlane
from support.manifests import PLACE, Document, as_list

# The first run builds all of Kubernetes.
pytestmark = pytest.mark.timeout(7_200)

NODES: Final = {"node-a": "zone-a", "node-b": "zone-b", "node-c": "zone-c"}
SERVICES: Final = ("kite-gateway", "kite-billing", "kite-delivery", "kite-replay")
_PATIENCE_S: Final = 120
_READY: Final = [{"type": kind, "status": "True"} for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]


def node(name: str, zone: str) -> Document:
    """Two cores, 4 GiB: three of them have room for production as it begins, and not for much more."""
    room = {"cpu": "2", "memory": "4Gi", "pods": "110"}
    return {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "topology.kubernetes.io/zone": zone}},
        "status": {"capacity": room, "allocatable": room, "conditions": [{"type": "Ready", "status": "True"}]},
    }  # fmt: skip


@pytest.fixture(scope="module")
async def production(plane: ControlPlane) -> ControlPlane:
    """Production on three nodes, and three of each service, which is what KEDA begins with."""
    await plane.done("create", "-f", "-", given=as_list([node(name, zone) for name, zone in NODES.items()]))
    await plane.done("apply", "--warnings-as-errors", "-k", str(PLACE / "overlays/production"))
    workloads = ("deployment/kite-gateway", "statefulset/kite-billing", "statefulset/kite-delivery", "statefulset/kite-replay")
    await plane.done("scale", *workloads, "--replicas=3", "-n", "kite")
    return plane


async def nodes_of(plane: ControlPlane, service: str) -> dict[str, str]:
    """The node of each of the three pods that stay. Raises AssertionError while one has none."""
    pods = await plane.listed("pods", "-n", "kite", "-l", f"app.kubernetes.io/name={service}")
    found = {one["metadata"]["name"]: one["spec"].get("nodeName", "") for one in pods if "deletionTimestamp" not in one["metadata"]}
    assert len(found) == 3, found
    assert all(found.values()), found
    return found


@pytest.mark.parametrize("service", SERVICES)
async def test_three_of_a_service_are_on_three_nodes(production: ControlPlane, service: str) -> None:
    found = await eventually(lambda: nodes_of(production, service), within_s=_PATIENCE_S, every_s=0.5, what="a node for each")
    assert sorted(found.values()) == list(NODES)


async def test_a_consumer_of_a_node_that_is_emptied_goes_to_another(production: ControlPlane) -> None:
    """A node that takes no pods is none that they have to be spread over: else what was on it would wait until it is back."""
    before = await eventually(lambda: nodes_of(production, "kite-billing"), within_s=_PATIENCE_S, every_s=0.5, what="a node for each")
    [moved] = [pod for pod, name in before.items() if name == "node-c"]
    await production.done("cordon", "node-c")
    try:
        await production.done("delete", "pod", moved, "-n", "kite", "--force", "--grace-period=0")
        after = await eventually(lambda: nodes_of(production, "kite-billing"), within_s=_PATIENCE_S, every_s=0.5, what="another node")
    finally:
        await production.done("uncordon", "node-c")
    assert after[moved] in ("node-a", "node-b")
    assert {pod: name for pod, name in after.items() if pod != moved} == {pod: name for pod, name in before.items() if pod != moved}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_budget_lets_one_pod_go_and_no_second(production: ControlPlane, service: str) -> None:
    pods = sorted(await eventually(lambda: nodes_of(production, service), within_s=_PATIENCE_S, every_s=0.5, what="a node for each"))
    status = orjson.dumps({"status": {"phase": "Running", "conditions": _READY}}).decode()
    for one in pods:
        await production.done("patch", "pod", one, "-n", "kite", "--subresource=status", "--type=merge", "-p", status)

    async def lets_one_go() -> bool:
        return await production.done("get", "pdb", service, "-n", "kite", "-o", "jsonpath={.status.disruptionsAllowed}") == "1"

    await eventually(lets_one_go, within_s=_PATIENCE_S, every_s=0.5, what="a budget of one")
    assert not (await evict(production, pods[0])).refused
    answer = await evict(production, pods[1])
    assert answer.refused
    assert "disruption budget" in answer.err


async def evict(plane: ControlPlane, pod: str) -> Answer:
    """What `kubectl drain` asks for; the answer is that of the API server, at once."""
    asked = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": "kite"}}
    return await plane.kubectl("create", "--raw", f"/api/v1/namespaces/kite/pods/{pod}/eviction", "-f", "-", given=asked)
