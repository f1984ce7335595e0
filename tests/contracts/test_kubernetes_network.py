"""Whom the network policies of deploy/k8s let in and out, read as a cluster reads them: what no policy allows is refused."""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Any, Final

import pytest

from kite_common.targets import REFUSED_V4, REFUSED_V6, is_allowed
from support.manifests import PLACE, Document, documents, pod_template
from support.manifests import WORKLOADS as KINDS

_FILES: Final = [path for folder in ("base", "components/payments") for path in sorted((PLACE / folder).glob("*.yaml"))]
_ALL: Final = [one for path in _FILES for one in documents(path) if "metadata" in one]
POLICIES: Final = [one for one in _ALL if one["kind"] == "NetworkPolicy"]
# kustomize puts `part-of` on every pod.
PODS: Final[dict[str, dict[str, str]]] = {
    one["metadata"]["name"]: pod_template(one)["metadata"]["labels"] | {"app.kubernetes.io/part-of": "kite"}
    for one in _ALL if one["kind"] in KINDS
}  # fmt: skip
STORE: Final = {"kite/store": "true"}
REFUSED: Final[dict[int, tuple[Any, ...]]] = {4: REFUSED_V4, 6: REFUSED_V6}


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """A label selector, as far as the policies use them."""
    wanted = {name: [value] for name, value in selector.get("matchLabels", {}).items()}
    wanted |= {one["key"]: one["values"] for one in selector.get("matchExpressions", ()) if one["operator"] == "In"}
    return all(labels.get(name) in values for name, values in wanted.items())


def rules(pod: str, way: str) -> Iterator[tuple[list[Document], list[int | str]]]:
    """Who is allowed, and at which ports, by every policy that selects the pod. `way` is "ingress" or "egress"."""
    for policy in POLICIES:
        if selects(policy["spec"]["podSelector"], PODS[pod]):
            for rule in policy["spec"].get(way, ()):
                yield rule["from" if way == "ingress" else "to"], [one["port"] for one in rule.get("ports", ())]


def reached(pod: str, way: str) -> set[str]:
    return {name_of_peer(peer) for peers, _ in rules(pod, way) for peer in peers}


def name_of_peer(peer: Document) -> str:
    """In a word: other pods of Kite by name, stores, namespaces by label, or the internet."""
    if "ipBlock" in peer:
        return "internet"
    if "namespaceSelector" in peer:
        [(label, value)] = peer["namespaceSelector"]["matchLabels"].items()
        return f"{label}={value}"
    labels = peer["podSelector"]["matchLabels"]
    return "stores" if labels == STORE else str(labels["app.kubernetes.io/name"])


_DNS: Final = "kubernetes.io/metadata.name=kube-system"
_PROMETHEUS: Final = "kite/monitoring=true"
_INGRESS: Final = "kite/ingress=true"


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_is_behind_a_policy_that_refuses_all(pod: str) -> None:
    without_rules = [one["spec"] for one in POLICIES if set(one["spec"]) == {"podSelector", "policyTypes"}]
    [refuses] = [one for one in without_rules if selects(one["podSelector"], PODS[pod])]
    assert refuses["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize(
    ("pod", "more"),
    [("kite-gateway", {"kite-replay"}), ("kite-billing", {"kite-facilitator", "internet"}), ("kite-delivery", {"internet"}),
     ("kite-replay", set()), ("kite-facilitator", {"internet"}), ("kite-topics", set()), ("kite-archive", set())],
)  # fmt: skip
def test_a_pod_reaches_names_stores_and_what_it_needs_alone(pod: str, more: set[str]) -> None:
    """Without components/payments neither billing nor the facilitator have a way out."""
    assert reached(pod, "egress") == {_DNS, "stores"} | more


@pytest.mark.parametrize(
    ("pod", "who"),
    [("kite-gateway", {_INGRESS, _PROMETHEUS}), ("kite-replay", {_INGRESS, _PROMETHEUS, "kite-gateway"}),
     ("kite-billing", {_PROMETHEUS}), ("kite-delivery", {_PROMETHEUS}), ("kite-facilitator", {_PROMETHEUS, "kite-billing"})],
)  # fmt: skip
def test_a_pod_is_reached_by_those_who_need_it_alone(pod: str, who: set[str]) -> None:
    assert reached(pod, "ingress") == who


def test_the_base_alone_lets_only_delivery_out() -> None:
    out = [one["metadata"]["name"] for path in _FILES if path.parent.name == "base" for one in documents(path) if "ipBlock" in str(one)]
    assert out == ["kite-delivery-out"]


@pytest.mark.parametrize("policy", [one for one in POLICIES if "ipBlock" in str(one)], ids=lambda one: one["metadata"]["name"])
def test_what_delivery_refuses_to_dial_the_network_refuses_too(policy: dict[str, Any]) -> None:
    """At the first and the last address of every block that is let out, and beside every exception. An exception is refused as a whole:
    it may have holes that Kite itself would dial."""
    [rule] = policy["spec"]["egress"]
    blocks = [peer["ipBlock"] for peer in rule["to"]]
    assert {ip_network(one["cidr"]).version for one in blocks} == {4, 6}
    for block in blocks:
        outer = ip_network(block["cidr"])
        exceptions: list[Any] = [ip_network(text) for text in block["except"]]
        assert all(one != outer and one.subnet_of(outer) for one in exceptions), "as the API server wants it"
        for address in _borders(outer, exceptions):
            let_out = not any(ip_address(address) in one for one in exceptions)
            assert is_allowed(ip_address(address)) or not let_out, ip_address(address)


def _borders(outer: Any, exceptions: list[Any]) -> set[int]:
    """Of networks of one version: both ends of every block, what lies beside them, and of every block that delivery refuses."""
    found = {int(end) + step for one in (outer, *exceptions, *REFUSED[outer.version]) for end in (one[0], one[-1]) for step in (-1, 0, 1)}
    return {one for one in found if int(outer[0]) <= one <= int(outer[-1])}
