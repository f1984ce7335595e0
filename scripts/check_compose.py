"""Lets Docker Compose read docker-compose.yml, with every choice of profiles; exit 1 if it refuses.

Where Docker Compose is not there, a line says that it was left out: tests/contracts/test_compose.py reads the file in any case.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from write_env import ROOT, settings

# `payments` is for whoever has a node and a key of their own.
CHOICES: Final = ((), ("demo",), ("observe",), ("demo", "observe"), ("payments",))


def is_there() -> bool:
    """Whether `docker compose` can be called."""
    docker = shutil.which("docker")
    if docker is None:
        return False
    return subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0  # noqa: S603 - what PATH has


def refused(profiles: tuple[str, ...], folder: Path) -> str:
    """What Docker Compose has against the file with these profiles; empty if nothing."""
    env = folder / "env"
    env.write_text(settings(profiles, lambda: "ab" * 32), "utf-8")
    command = ["docker", "compose", "--file", str(ROOT / "docker-compose.yml"), "--env-file", str(env), "config", "--quiet"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    return answer.stderr.strip() or ("" if answer.returncode == 0 else f"exit code {answer.returncode}")


def main() -> int:
    """Check it; the exit code."""
    if not is_there():
        print("docker-compose.yml was not read by Docker Compose, which is not on this machine")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        problems = [(profiles, text) for profiles in CHOICES if (text := refused(profiles, Path(folder)))]
    for profiles, text in problems:
        print(f"docker-compose.yml with profiles {','.join(profiles) or 'none'}: {text}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
