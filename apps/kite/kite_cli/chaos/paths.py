"""Ways through Kite that have an end one can see, and which of them a fault is in. Pure.

`accept` a message is answered 202 · `bill` its entry is in the ledger · `deliver` its webhook has arrived · `read` it is in GET /events ·
`pay` a payment is credited. `accept:gateway-2` is accepting by that process.
"""

from collections.abc import Mapping
from typing import Final

from kite_cli.chaos.schedule import Planned, service_of

PATHS: Final = ("accept", "bill", "deliver", "read", "pay")
_OF_SERVICE: Final[Mapping[str, tuple[str, ...]]] = {"billing": ("bill",), "delivery": ("deliver",), "replay": ("read",)}
_OF_KIND: Final[Mapping[str, tuple[str, ...]]] = {
    "broker-kill": ("accept", "bill", "deliver", "read"),
    "broker-restart": ("accept", "bill", "deliver", "read"),
    "redis-kill": ("accept", "bill"),
    "redis-restart": ("accept", "bill"),
    "redis-flush": ("accept", "bill"),
    "clickhouse": ("read",),
    "disk": ("read",),
    "facilitator": ("pay",),
}


def paths_of(planned: Planned) -> tuple[str, ...]:
    """The ways a fault is in."""
    if planned.kind in _OF_KIND:
        return _OF_KIND[planned.kind]
    service = service_of(planned.target)
    return (f"accept:{planned.target}",) if service == "gateway" else _OF_SERVICE[service]


def reach_of(planned: Planned) -> tuple[str, ...]:
    """The ways a fault can hold up: also those that only lead through what it is in. Where nobody is let in, nothing arrives anywhere."""
    if "accept" in paths_of(planned):
        return PATHS
    return (*paths_of(planned), "pay") if service_of(planned.target) in ("gateway", "billing") else paths_of(planned)


def are_one(path: str, other: str) -> bool:
    """Whether what is in one way is in the other, too."""
    return path == other or path.partition(":")[0] == other or other.partition(":")[0] == path
