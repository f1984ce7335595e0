"""The local stack somebody else has started, as its data folder tells: where it is and which processes it has. Starts nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kite_cli.local.chain.known import CHAIN_ID
from kite_cli.local.environment import ChainAddress
from kite_cli.local.folders import lock_of, state_of
from kite_cli.local.identity import resident_bytes
from kite_cli.local.leftovers import read_state
from kite_cli.local.lock import holder_of
from kite_cli.local.ports import LOOPBACK

SUPERVISOR = "kitectl up"
THIRD_PARTY = ("kafka", "valkey")


@dataclass(frozen=True, slots=True)
class FoundStack:
    """A running one. `gateway` is its base URL, empty while it still starts; `pids` are those of its children by name."""

    data: Path
    supervisor: int
    gateway: str
    ports: Mapping[str, int]
    pids: Mapping[str, int]

    @property
    def kafka_bootstrap(self) -> str:
        """Where Kafka is."""
        return f"{LOOPBACK}:{self.ports['kafka']}"

    @property
    def redis_url(self) -> str:
        """Where Valkey is."""
        return f"redis://{LOOPBACK}:{self.ports['valkey']}/0"

    @property
    def chain(self) -> ChainAddress | None:
        """Its chain, None if it was started without."""
        return ChainAddress(f"http://{LOOPBACK}:{self.ports['chain']}", CHAIN_ID) if "chain" in self.pids else None

    def listens_on(self, name: str) -> str:
        """The address of one child as its clients write it; empty if it is not known."""
        if name == "gateway" and self.gateway:  # the one that may listen elsewhere than on the loopback
            return self.gateway
        if name not in self.ports:
            return ""
        address = f"{LOOPBACK}:{self.ports[name]}"
        return address if name in THIRD_PARTY else f"http://{address}"

    def resident_bytes(self) -> dict[str, int]:
        """The memory of each process, the supervisor's too."""
        return {name: resident_bytes(pid) for name, pid in {SUPERVISOR: self.supervisor, **self.pids}.items()}

    def to_json(self) -> dict[str, object]:
        """The whole, as `kitectl status --json` prints it."""
        memory = self.resident_bytes()
        parts = {
            name: {"pid": pid, "listens_on": self.listens_on(name) or None, "resident_bytes": memory[name]}
            for name, pid in self.pids.items()
        }
        return {
            "running": True, "ready": bool(self.gateway), "data": str(self.data), "pid": self.supervisor,
            "gateway": self.gateway or None, "parts": parts,
        }  # fmt: skip


def find_stack(data: Path) -> FoundStack | None:
    """What runs in a data folder, or None."""
    holder = holder_of(lock_of(data))
    if holder is None:
        return None
    state = read_state(state_of(data))
    return FoundStack(data, holder.pid, holder.gateway, state.ports, {name: child.pid for name, child in state.children.items()})
