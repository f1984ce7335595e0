"""A chain that outlives its stack: what cannot be written is said and tried again, what cannot be read ends the start with the reason."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kite_cli.local.chain.anvil import ChainOptions
from kite_cli.local.chain.keeper import ChainKeeper
from kite_cli.local.step import StepFailed
from kite_common.testing.eventually import eventually
from support.chain import PAY_TO, USDC, OwnChain, own_chain

KEPT = ChainOptions(keeps=True)


@asynccontextmanager
async def kept_chain(folder: Path) -> AsyncIterator[OwnChain]:
    """A chain that finds its state in its folder."""
    async with own_chain(folder, KEPT) as chain:
        yield chain


def keeper_of(chain: OwnChain, path: Path, said: list[str]) -> ChainKeeper:
    """What saves it to `path`; `said` gets its warnings."""
    return ChainKeeper(chain.url, path, lambda: chain.child.pid, said.append)


async def test_a_state_that_cannot_be_written_is_said_once_and_written_once_it_can_be(tmp_path: Path) -> None:
    said: list[str] = []
    async with kept_chain(tmp_path) as chain:
        path = tmp_path / "kept" / "state.json.gz"  # a folder that is not there stands for a disk without room
        keeper = keeper_of(chain, path, said)
        await keeper.save()
        await keeper.save()
        assert len(said) == 1
        assert str(path.parent) in said[0]
        keeper.begin()
        path.parent.mkdir()
        await eventually(path.exists, what="the state is saved once there is room")
        await keeper.end()
        path.unlink()
        path.parent.rmdir()
        await keeper.save(at_once=True)
        assert len(said) == 2


async def test_a_failed_save_does_not_end_the_saving(tmp_path: Path) -> None:
    said: list[str] = []
    async with kept_chain(tmp_path) as chain:
        path = tmp_path / "kept" / "state.json.gz"
        keeper = keeper_of(chain, path, said)
        keeper.begin()
        await eventually(lambda: said, what="the first save failed")
        path.parent.mkdir()
        await eventually(path.exists, what="the state is saved by the same keeper")
        path.unlink()
        path.parent.rmdir()
        await keeper.end()
        assert len(said) == 2, "the last save is said, too"


async def test_a_saved_chain_starts_where_it_was(tmp_path: Path) -> None:
    async with kept_chain(tmp_path) as chain:
        assert chain.node.state is not None
        await chain.mint(PAY_TO, USDC)
        keeper = keeper_of(chain, chain.node.state, [])
        keeper.begin()
        await keeper.end()
    async with kept_chain(tmp_path) as chain:
        assert await chain.balance(PAY_TO) == USDC


@pytest.mark.parametrize("damaged", [b"", b"no state", b"\x1f\x8b\x08\x00 cut"])
async def test_a_state_that_cannot_be_read_ends_the_start_with_the_reason(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "state.json.gz").write_bytes(damaged)
    with pytest.raises(StepFailed, match=r"state\.json\.gz cannot be read: anvil_loadState") as failure:
        async with asyncio.timeout(30), kept_chain(tmp_path):
            pass
    assert "Put back a copy" in failure.value.advice
