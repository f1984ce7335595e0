"""The manifests of deploy/k8s: as they are written, and as kustomize builds them. Applies nothing."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own, for three calls

Document = dict[str, Any]

PLACE: Final = Path(__file__).resolve().parents[2] / "deploy/k8s"
WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
# What an operator may end up with: both overlays as they are, and the base with each way of scaling and with payments.
VARIANTS: Final = {
    "production": ("overlays/production",),
    "local": ("overlays/local",),
    "hpa-payments": ("base", "components/hpa", "components/payments"),
    "keda-payments": ("base", "components/keda", "components/payments"),
}


def documents(path: Path) -> list[Document]:
    """The documents of one file."""
    return [one for one in yaml.safe_load_all(path.read_text("utf-8")) if one]


def written() -> dict[str, Document]:
    """Every object as its file has it, under `folder/file.yaml Kind/name`; what kustomize itself reads is left out."""
    return {
        f"{path.relative_to(PLACE)} {name_of(one)}": one
        for path in sorted(PLACE.rglob("*.yaml"))
        for one in documents(path)
        if not one["apiVersion"].startswith("kustomize.config.k8s.io/")
    }


def examples() -> list[Path]:
    """The files of examples, which no overlay takes."""
    return sorted((PLACE / "examples").glob("*.yaml"))


def name_of(document: Document) -> str:
    return f"{document['kind']}/{document['metadata']['name']}"


def find_kubectl() -> str | None:
    """The machine's kubectl, whose `kustomize` builds; None where there is none."""
    return shutil.which("kubectl")


def kustomized(parts: Sequence[str], folder: Path, kubectl: str) -> list[Document]:
    """What kustomize makes of parts of deploy/k8s: a folder to build on, then components. Writes a kustomization into `folder`.

    Raises CalledProcessError if kustomize refuses it.
    """
    base, *components = (os.path.relpath(PLACE / part, folder.resolve()) for part in parts)
    text = yaml.safe_dump({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "namespace": "kite",
        "resources": [base], "components": components,
    })  # fmt: skip
    (folder / "kustomization.yaml").write_text(text, "utf-8")
    built = subprocess.run([kubectl, "kustomize", str(folder)], check=True, capture_output=True, text=True)
    return list(yaml.safe_load_all(built.stdout))


def pod_template(workload: Document) -> Document:
    """The template of a workload's pods: metadata and spec."""
    template: Document = workload["spec"]["template"]
    return template


def as_list(documents: Sequence[Document]) -> Document:
    """Several objects as the one that `kubectl -f -` reads."""
    return {"apiVersion": "v1", "kind": "List", "items": list(documents)}
