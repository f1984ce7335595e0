"""The official Python client pays a real Kite. What it is answered 503 is resent beneath it, as docs/payments-api.md tells programs to."""

import pytest

from support.payer_walk import WALLET_ATOMIC, PaidKite, walk_of
from support.payers import PythonClient

pytestmark = pytest.mark.timeout(180)


async def test_the_python_client_opens_a_team_deposits_and_buys_a_page(scene: PaidKite) -> None:
    payer = await scene.chain.payer(WALLET_ATOMIC)
    await walk_of(scene, PythonClient(payer), payer)
