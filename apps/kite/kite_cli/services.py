"""The services as kitectl sees them: their mains, and through those the settings they take. Imports a service when it is asked for."""

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast, get_type_hints

from kite_common.config import KiteSettings

SERVICES: Final = ("gateway", "billing", "delivery", "replay", "facilitator")
# Those every Kite has; without a facilitator of one's own, payments are off or somebody else's settles them.
ALWAYS: Final = SERVICES[:4]
# On one machine all share its CPUs: who reads the log stands back behind who answers callers (at 1,000 messages/s on two cores the
# median of accepting fell from 72 to 6 ms). What they lose they catch up with.
NICE: Final = {"gateway": 0, "billing": 10, "delivery": 5, "replay": 10, "facilitator": 5}


def main_of(service: str) -> Callable[[], int | None]:
    """The function that runs a service until it is told to stop; its exit code."""
    return cast(Callable[[], int | None], import_module(f"kite_{service}.main").main)


def settings_of(service: str) -> type[KiteSettings]:
    """The type of the settings a service takes, as its `build` declares it: only its main sees the module they are in."""
    build = import_module(f"kite_{service}.main").build
    return cast(type[KiteSettings], get_type_hints(build)["settings"])
