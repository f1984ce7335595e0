"""The custom resource definitions of the operators that deploy/k8s speaks to, from the packages those publish. Installs no operator.

KEDA and the External Secrets Operator carry them in their Go modules, which Go checks against its public checksum database and we
against the hash here. Strimzi's are made from its Java classes by its own generator. Altinity's ClickHouse operator gives neither.
"""

import hashlib
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from kite_cli.local.java import find_java
from kite_cli.local.kafka_jars import Pin

Definition = dict[str, Any]


@dataclass(frozen=True, slots=True)
class GoModule:
    """A module by version and hash (as in go.sum), and the files of definitions in it."""

    name: str
    version: str
    sum: str
    files: tuple[str, ...]


KEDA: Final = GoModule(
    "github.com/kedacore/keda/v2", "v2.21.0", "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
    ("config/crd/bases/keda.sh_scaledobjects.yaml",),
)  # fmt: skip
EXTERNAL_SECRETS: Final = GoModule(
    "github.com/external-secrets/external-secrets", "v1.3.2", "h1:u2J8RjlHIeF0oZCqtl92adI/uZWUwOesJIDkfql6LqQ=",
    ("config/crds/bases/external-secrets.io_externalsecrets.yaml",),
)  # fmt: skip
STRIMZI: Final = (
    Pin("io.strimzi", "api", "1.2.0", "566961ae5e5646a001ae91312beda5cba3a5d467e740e205e1b761754335fe4e"),
    Pin("io.strimzi", "crd-generator", "1.2.0", "76bb2430e702a1e6a24c071d26c865d5e9572cbc630d176d3b912033ae23ed00"),
)
_STRIMZI_CLASSES: Final = ("kafka.Kafka", "nodepool.KafkaNodePool")


def definitions(cache: Path) -> list[Definition]:
    """All definitions that can be had; what is brought for them is kept in `cache`. Needs Go and Java; the first time it loads 50 MB."""
    return [*_of_module(KEDA), *_of_module(EXTERNAL_SECRETS), *_of_strimzi(cache)]


def _of_module(module: GoModule) -> list[Definition]:
    asked = ["go", "mod", "download", "-json", f"{module.name}@{module.version}"]
    answer = orjson.loads(subprocess.run(asked, check=True, capture_output=True, cwd="/", env=os.environ | {"GOFLAGS": ""}).stdout)
    assert answer["Sum"] == module.sum, f"{module.name} is not the one that was looked at"
    return [yaml.safe_load((Path(answer["Dir"]) / file).read_text("utf-8")) for file in module.files]


def _of_strimzi(cache: Path) -> list[Definition]:
    """Its generator writes a definition of a Java class; the options are those of Strimzi's own build."""
    jars = os.pathsep.join(str(_jar(pin, cache)) for pin in STRIMZI)
    written = {f"io.strimzi.api.kafka.model.{name}": cache / f"{name}.yaml" for name in _STRIMZI_CLASSES}
    options = ["--yaml", "--target-kube", "1.30+", "--crd-api-version", "v1", "--api-versions", "v1", "--storage-version", "v1"]
    classes = [f"{name}={file}" for name, file in written.items()]
    generator = [str(find_java()), "-cp", jars, "io.strimzi.crdgenerator.CrdGenerator"]
    subprocess.run([*generator, *options, *classes], check=True, capture_output=True)
    return [yaml.safe_load(file.read_text("utf-8")) for file in written.values()]


def _jar(pin: Pin, cache: Path) -> Path:
    """One jar from Maven Central, checked by its sha256."""
    from jgo.maven import MavenContext

    found = MavenContext(repo_cache=cache / "maven").project(pin.group, pin.artifact).at_version(pin.version).artifact().resolve()
    assert hashlib.sha256(Path(found).read_bytes()).hexdigest() == pin.sha256, f"{pin.filename} is not the one that was looked at"
    return Path(found)
