"""anvil as a child: how it is started, and when it counts as ready, which is with its former state and its token in place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kite_cli.local.chain.keeper import restore
from kite_cli.local.chain.known import CHAIN_ID, TOKENS, Token
from kite_cli.local.chain.rpc import Rpc, RpcFailed, RpcRefused, local_rpc
from kite_cli.local.chain.token import is_set_up, set_up
from kite_cli.local.ports import LOOPBACK
from kite_cli.local.process import ProcessSpec
from kite_cli.local.step import StepFailed

# States of blocks in memory: enough for a reorganisation or a snapshot. Without a bound anvil writes 170 kB a block into the user's home.
_STATES_KEPT: Final = 500
# A large state takes its time to be read.
_READY_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class ChainOptions:
    """`block_time_s` None: a block for each transaction, at once, and none without, as tests want it.

    With it time also goes on when nothing happens, so that authorizations expire; `mines_at_once` still gives each transaction its block
    at once. `keeps`: the chain outlives the stack.
    """

    chain_id: int = CHAIN_ID
    block_time_s: int | None = None
    mines_at_once: bool = True
    keeps: bool = False


# What `kitectl up` runs.
LASTING: Final = ChainOptions(block_time_s=12, keeps=True)


@dataclass(frozen=True, slots=True)
class AnvilNode:
    """One chain: its folder, its binary, where it listens."""

    folder: Path
    binary: Path
    port: int
    options: ChainOptions = ChainOptions()

    @property
    def url(self) -> str:
        """The address clients are given."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def token(self) -> Token:
        """The token of its chain id."""
        return TOKENS[self.options.chain_id]

    @property
    def state(self) -> Path | None:
        """The file its state is kept in, None if it is not."""
        return self.folder / "state.json.gz" if self.options.keeps else None


def anvil_spec(node: AnvilNode, env: dict[str, str]) -> ProcessSpec:
    """Return the chain as a child; its folder is made here."""
    node.folder.mkdir(parents=True, exist_ok=True)
    options = node.options
    command = (
        str(node.binary), "--host", LOOPBACK, "--port", str(node.port), "--chain-id", str(options.chain_id),
        "--prune-history", str(_STATES_KEPT), "--silent",
    )  # fmt: skip
    if options.block_time_s is not None:
        command += ("--block-time", str(options.block_time_s), *(("--mixed-mining",) if options.mines_at_once else ()))
    # What it leaves in its home stays in its folder.
    return ProcessSpec("chain", command, lambda: prepared(node), env | {"HOME": str(node.folder)}, _READY_WITHIN_S)


async def prepared(node: AnvilNode) -> bool:
    """Say whether the chain can be used; a fresh one is given its former state, or its token, first. Repeating it changes nothing.

    Raises StepFailed if the former state cannot be read.
    """
    try:
        async with local_rpc(node.url, _READY_WITHIN_S) as rpc:
            if await rpc.number("eth_chainId") != node.options.chain_id:
                return False
            await _prepare(rpc, node)
    except RpcFailed:
        return False
    return True


async def _prepare(rpc: Rpc, node: AnvilNode) -> None:
    if await is_set_up(rpc, node.token):
        return
    if node.state is not None and node.state.exists():
        await _restore(rpc, node.state)
    await set_up(rpc, node.token)


async def _restore(rpc: Rpc, state: Path) -> None:
    try:
        await restore(rpc, state)
    except (RpcRefused, OSError) as error:
        advice = "Put back a copy of that file, or move the whole data folder away to start with an empty one."
        raise StepFailed("chain", f"its state {state} cannot be read: {error}", advice) from error
