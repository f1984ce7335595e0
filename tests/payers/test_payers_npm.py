"""npm's official clients pay a real Kite: @x402/fetch in version 2 of the protocol, x402-fetch in version 1."""

from typing import Literal

import pytest

from support.payer_walk import WALLET_ATOMIC, PaidKite, walk_of
from support.payers import npm_client

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize("version", ["v2", "v1"])
async def test_an_npm_client_opens_a_team_deposits_and_buys_a_page(scene: PaidKite, version: Literal["v1", "v2"]) -> None:
    payer = await scene.chain.payer(WALLET_ATOMIC)
    async with npm_client(version, payer) as client:
        await walk_of(scene, client, payer)
