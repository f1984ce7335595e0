"""What a benchmark ran on and with: machine, versions, commit. Names no path, host or user."""

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from kite_cli.local.folders import home
from kite_cli.local.kafka_jars import VERSION as KAFKA_VERSION
from kite_cli.local.valkey import find_valkey

_DISTRIBUTIONS = ("aiokafka", "uvloop", "uvicorn", "redis", "chdb-core", "clickhouse-connect", "orjson", "pydantic")


@dataclass(frozen=True, slots=True)
class Machine:
    """`cores` is how many this process may use, `versions` by name of the part."""

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    versions: dict[str, str]
    commit: str


def this_machine() -> Machine:
    """This machine and what is installed. Raises StepFailed if there is no Valkey."""
    valkey = valkey_version(_said_by([str(find_valkey()), "--version"]))
    return Machine(
        cpu=cpu_model(_text("/proc/cpuinfo")) or platform.processor() or platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gib=round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={"kafka": KAFKA_VERSION, "valkey": valkey} | {name: _version(name) for name in _DISTRIBUTIONS},
        commit=_commit(home()),
    )


def cpu_model(cpuinfo: str) -> str:
    """The model's name in the text of /proc/cpuinfo, empty if there is none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def valkey_version(said: str) -> str:
    """The version in what `valkey-server --version` prints."""
    found = re.search(r"v=(\S+)", said)
    return found[1] if found else "unknown"


def _text(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _commit(folder: Path) -> str:
    """The commit of the checkout, with `+` if files differ from it; `unknown` outside of one."""
    git = ["git", "--no-optional-locks", "-C", str(folder)]
    commit = _said_by([*git, "rev-parse", "--short=12", "HEAD"])
    if not commit:
        return "unknown"
    return commit + ("+" if _said_by([*git, "status", "--porcelain", "--untracked-files=no"]) else "")


def _said_by(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603 - our own commands
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
