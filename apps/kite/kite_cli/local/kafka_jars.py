"""The jars of Apache Kafka: resolved from Maven Central by jgo, checked against the pinned list, put in place whole.

Runs as a process of its own (`python -m kite_cli.local.kafka_jars FOLDER`), so that an interrupted start can end it
anywhere: files go to a side folder that the next try continues from, and the finished folder appears by one rename.
A lock lets one process install while others wait for its result. Starts no broker.
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

VERSION = "4.2.1"
PINS = Path(__file__).with_name(f"kafka-{VERSION}.sha256")

# The release ships the log4j2 binding beside the jars that Maven knows as dependencies; without it Kafka logs nothing.
_ROOTS = (f"org.apache.kafka:kafka_2.13:{VERSION}", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4")
_DOWNLOADS_AT_ONCE = 8
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Pin:
    """One jar: its Maven coordinate and the sha256 of the file."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        """The name of the file, as in a Maven repository."""
        return f"{self.artifact}-{self.version}.jar"


def parse_pins(text: str) -> list[Pin]:
    """Read the pinned list: `group:artifact:version  sha256` a line, `#` for comments; order is kept."""
    return [_parse_pin(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _parse_pin(line: str) -> Pin:
    coordinate, sha256 = line.split()
    group, artifact, version = coordinate.split(":")
    return Pin(group, artifact, version, sha256)


def pins() -> list[Pin]:
    """Return the pinned list of this version."""
    return parse_pins(PINS.read_text("ascii"))


def class_path(folder: Path) -> str:
    """Return the Java class path of an installation, always in the same order (a cached archive depends on it)."""
    return os.pathsep.join(str(folder / pin.filename) for pin in pins())


def missing(folder: Path) -> list[Pin]:
    """Return the jars that are absent from `folder` or are not the pinned bytes. Reads about 45 MB."""
    return [pin for pin in pins() if not _is_intact(folder / pin.filename, pin)]


def install(folder: Path) -> Iterator[str]:
    """Bring all jars into `folder`, telling each file; does nothing if they are there. Blocks while another installs.

    Raises OSError, RuntimeError or a `requests` error if a file cannot be had, ValueError if it is not the pinned one.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(folder.with_name(f".{folder.name}.lock")):
        if not missing(folder):
            return
        side = folder.with_name(f".{folder.name}.incoming")
        _take_aside(folder, side)
        yield from _download(side)
        side.rename(folder)


def _take_aside(damaged: Path, side: Path) -> None:
    """Make an installation that is not whole the start of the next one; what fits the pins is kept."""
    if damaged.exists():
        shutil.rmtree(side, ignore_errors=True)
        damaged.rename(side)
    for archive in side.glob("*.aot"):  # made from the former files
        archive.unlink()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file for a while; blocks until it is free."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _download(side: Path) -> Iterator[str]:
    wanted, cache = missing(side), side / "repository"
    with ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as pool:
        jobs = [pool.submit(_fetch, pin, side, cache) for pin in wanted]
        for number, job in enumerate(as_completed(jobs), start=1):
            yield f"{number}/{len(wanted)} {job.result()}"
    shutil.rmtree(cache, ignore_errors=True)


def _fetch(pin: Pin, side: Path, cache: Path) -> str:
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache, timeout=_TIMEOUT_S)
    artifact = context.project(pin.group, pin.artifact).at_version(pin.version).artifact()
    if artifact.cached_path is not None:
        artifact.cached_path.unlink(missing_ok=True)  # a part of a file from an interrupted try
    found = artifact.resolve()
    if not _is_intact(found, pin):
        raise ValueError(f"{pin.filename} from Maven Central is not the pinned file (sha256 {_sha256(found)})")
    found.replace(side / pin.filename)
    return pin.filename


def _is_intact(path: Path, pin: Pin) -> bool:
    return path.is_file() and _sha256(path) == pin.sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def resolve_pins(cache: Path) -> list[Pin]:
    """Resolve the coordinates anew and return what a pinned list would hold; for raising the version."""
    from jgo.maven import MavenContext

    context = MavenContext(repo_cache=cache, timeout=_TIMEOUT_S)
    roots = [context.create_dependency(root) for root in _ROOTS]
    inputs, transitive = context.resolver.resolve(roots)
    artifacts = {dependency.artifact for dependency in [*inputs, *transitive]}
    found = (Pin(a.groupId, a.artifactId, a.version, _sha256(a.resolve())) for a in artifacts)
    return sorted(found, key=lambda pin: (pin.group, pin.artifact))


def _print_pins(cache: Path) -> None:
    for pin in resolve_pins(cache):
        print(f"{pin.group}:{pin.artifact}:{pin.version}  {pin.sha256}")  # noqa: T201  this is its output


def main(arguments: Sequence[str]) -> int:
    """`FOLDER` installs into it, a line per file; `--pin CACHE` prints the list for kafka-<version>.sha256."""
    if arguments[0] == "--pin":
        _print_pins(Path(arguments[1]))
        return 0
    try:
        for line in install(Path(arguments[0])):
            print(line, flush=True)  # noqa: T201  read by the supervisor
    except Exception as error:  # noqa: BLE001  edge of a process: whatever it was becomes its last line
        print(f"{type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
