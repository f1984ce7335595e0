"""Keeps the state of a chain in a file, which at every moment holds one whole state, also if everything is killed.

anvil's own `--state-interval` empties its file and then fills it, once a second: a kill between the two leaves a file it refuses to start
from. And it writes all blocks ever mined each time. Here a state is written beside the former one and renamed, and only if there is
something new: within a second after a transaction, within a minute for empty blocks.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kite_cli.local.chain.pairing import note_saved
from kite_cli.local.chain.rpc import Rpc, RpcFailed, local_rpc

_EVERY_S: Final = 1.0
# Empty blocks: all they hold is the time.
_EMPTY_EVERY_S: Final = 60.0
# A chain of many accounts writes for longer than it answers anything else.
_DUMPED_WITHIN_S: Final = 60.0


async def restore(rpc: Rpc, path: Path) -> None:
    """Give a fresh chain the state of a file. Raises RpcFailed, also if the node cannot read it."""
    await rpc.call("anvil_loadState", "0x" + (await asyncio.to_thread(path.read_bytes)).hex())


class ChainKeeper:
    """Saves the chain at `url` to `path` from `begin` to `end`. `life` names the process that serves now, None while it is not ready.

    `warn` is told in words when the chain could not be saved, once until it is saved again; what is new is tried again all the same.
    """

    def __init__(self, url: str, path: Path, life: Callable[[], int | None], warn: Callable[[str], None]) -> None:
        self._url, self._path, self._life, self._warn = url, path, life, warn
        self._has_warned = False
        self._saved_block = -1
        self._saved_at = 0.0
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Save what is new from now on."""
        if self._task is None:
            self._task = asyncio.create_task(self._save_again_and_again(), name="keep-chain")

    async def end(self) -> None:
        """Save once more, and no more after that."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
            await self.save(at_once=True)

    async def _save_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(_EVERY_S)
            await self.save()

    async def save(self, *, at_once: bool = False) -> None:
        """Save if there is something new, in any case with `at_once`. A chain that is away is left for later."""
        try:
            if await self._is_saved(at_once):
                self._has_warned = False
        except (OSError, RpcFailed, ValueError) as error:
            if at_once or not self._has_warned:
                self._has_warned = True
                self._warn(f"what is new on it could not be saved: {error}")

    async def _is_saved(self, at_once: bool) -> bool:
        life = self._life()
        if life is None:
            return False
        async with local_rpc(self._url, _DUMPED_WITHIN_S) as rpc:
            block = await rpc.number("eth_blockNumber")
            if not at_once and not await self._is_worth_it(rpc, block):
                return False
            state = bytes.fromhex(str(await rpc.call("anvil_dumpState")).removeprefix("0x"))
        # A chain that was started again meanwhile may not have had its state yet.
        if self._life() != life:
            return False
        await asyncio.to_thread(_replace, self._path, state)
        self._saved_block, self._saved_at = block, asyncio.get_running_loop().time()
        return True

    async def _is_worth_it(self, rpc: Rpc, block: int) -> bool:
        if block == self._saved_block:
            return False
        if block < self._saved_block or asyncio.get_running_loop().time() - self._saved_at >= _EMPTY_EVERY_S:
            return True
        for number in range(self._saved_block + 1, block + 1):
            if await rpc.number("eth_getBlockTransactionCountByNumber", hex(number)):
                return True
        return False


def _replace(path: Path, state: bytes) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(state)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # half a state must not fill what is left of the disk
        raise
    note_saved(path.parent)
