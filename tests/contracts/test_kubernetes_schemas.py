"""Every object of deploy/k8s against the API schemas of Kubernetes, strictly: a field that is unknown there is an error.

Objects as they are written always; as kustomize builds them where there is a kubectl. Custom resources have the schemas of their operators,
which only `make test-k8s` has.
"""

from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Final

import kubernetes_validate
import orjson
import pytest

from support.manifests import VARIANTS, Document, find_kubectl, kustomized, name_of, written

KUBERNETES: Final = "1.37"
# What has no schema here, by name: a misspelt apiVersion must not pass as somebody's custom resource.
CUSTOM: Final = {
    "clickhouse.altinity.com/v1 ClickHouseInstallation", "external-secrets.io/v1 ExternalSecret",
    "kafka.strimzi.io/v1 Kafka", "kafka.strimzi.io/v1 KafkaNodePool", "keda.sh/v1alpha1 ScaledObject",
}  # fmt: skip
WRITTEN: Final = written()


def type_of(document: Document) -> str:
    return f"{document['apiVersion']} {document['kind']}"


def check(document: Document) -> None:
    """Raises a ValidationError that says where, SchemaNotFoundError if Kubernetes has no such kind."""
    assert kubernetes_validate.validate(document, KUBERNETES, strict=True) == KUBERNETES


@cache
def check_once(document: bytes) -> None:
    """The same object in several variants is checked in one of them: reading the schemas takes a tenth of a second each time."""
    check(orjson.loads(document))


@pytest.mark.parametrize("name", [name for name, one in WRITTEN.items() if type_of(one) not in CUSTOM])
def test_an_object_as_it_is_written_is_one_of_kubernetes(name: str) -> None:
    check(WRITTEN[name])


@pytest.mark.skipif(find_kubectl() is None, reason="kustomize builds with kubectl, which this machine has not")
@pytest.mark.parametrize("variant", VARIANTS)
def test_objects_as_kustomize_builds_them_are_those_of_kubernetes(variant: str, tmp_path: Path) -> None:
    built = kustomized(VARIANTS[variant], tmp_path, find_kubectl() or "")
    assert len(built) > 20
    for document in built:
        if type_of(document) not in CUSTOM:
            check_once(orjson.dumps(document))
        assert document["kind"] == "Namespace" or document["metadata"]["namespace"] == "kite", name_of(document)


def test_custom_resources_are_those_that_are_named() -> None:
    assert {type_of(one) for one in WRITTEN.values() if type_of(one) in CUSTOM} == CUSTOM


def test_an_unknown_field_deep_inside_is_refused() -> None:
    broken = deepcopy(WRITTEN["base/gateway.yaml Deployment/kite-gateway"])
    broken["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["paths"] = "/readyz"
    with pytest.raises(kubernetes_validate.ValidationError, match="paths"):
        check(broken)


def test_a_kind_of_another_version_is_refused() -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        check(WRITTEN["base/gateway.yaml PodDisruptionBudget/kite-gateway"] | {"apiVersion": "policy/v1beta1"})
