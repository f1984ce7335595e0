"""`kitectl pay` as a user runs it, on a real Kite: what it moves, what it keeps, what it never tells, and that a repeat pays once."""

import json
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from kite_common.testing.eventually import eventually
from support.chain import USDC
from support.kitectl import Kitectl
from support.payer_walk import PaidKite

pytestmark = pytest.mark.timeout(180)


def kept(path: Path) -> dict[str, Any]:
    """A private file, which must be one."""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return document


async def funded(scene: PaidKite) -> dict[str, str]:
    """The environment of commands that pay from a wallet of their own, with ten USDC."""
    payer = await scene.chain.payer(10 * USDC)
    return {"KITE_WALLET_KEY": payer.private_key}


def moved(receipt: Mapping[str, Any]) -> tuple[int, int | None]:
    """By how much the paying wallet and the team's wallet have changed; None for a wallet that was not there before."""
    at_kite = receipt["wallet_balance_before_atomic"]
    on_chain = receipt["chain_balance_after_atomic"] - receipt["chain_balance_before_atomic"]
    return on_chain, None if at_kite is None else receipt["wallet_balance_after_atomic"] - at_kite


async def test_a_team_is_opened_used_filled_and_replayed(scene: PaidKite) -> None:
    assert (await scene.kitectl("wallet", "faucet", "--usdc", "5", "--json")).document["chain_balance_atomic"] == 5 * USDC
    opened = await scene.kitectl("pay", "bootstrap", "--source", "my-bot", "--deposit", "1.5", "--json")
    assert opened.code == 0, opened.err
    team = opened.document
    assert (team["amount_atomic"], moved(team), team["wallet_balance_after_atomic"]) == (1_500_000, (-1_500_000, None), 1_500_000)
    assert await scene.chain.receipt(team["transaction"]) is not None
    own, current = kept(scene.data / "teams" / f"{team['team_id']}.json"), kept(scene.data / "demo.json")
    assert (own["api_key"], own["hook_token"]) == (team["api_key"], team["hook_token"])
    assert (current["team_id"], current["api_key"]) == (team["team_id"], team["api_key"])
    for _ in range(2):
        assert (await scene.kitectl("send", "paid for")).code == 0
    filled = (await scene.kitectl("pay", "deposit", "0.25", "--json")).document
    assert moved(filled) == (-250_000, 250_000)

    async def replayable() -> bool:
        return (await scene.kitectl("events")).out.count("paid for") == 2

    await eventually(replayable, within_s=30, what="both messages can be read")
    page = (await scene.kitectl("pay", "events", "--limit", "1", "--json")).document
    assert (page["amount_atomic"], page["transaction"], page["amount_charged_atomic"], len(page["events"])) == (None, None, 10, 1)
    assert moved(page) == (0, -10), "the wallet is shown with the charge"
    assert page["chain_balance_after_atomic"] == page["chain_balance_before_atomic"] == 5 * USDC - 1_750_000
    at_kite = (await scene.kitectl("wallet", "show", "--json")).document
    assert at_kite["team_id"] == team["team_id"]
    await scene.audit()


async def test_an_empty_wallet_at_kite_is_no_obstacle_to_a_page(scene: PaidKite) -> None:
    wallet = await funded(scene)
    team = (await scene.kitectl("pay", "bootstrap", "--plan", "dear", "--no-keep", "--json", **wallet)).document
    environment = wallet | {"KITE_TEAM_ID": team["team_id"], "KITE_API_KEY": team["api_key"]}
    for _ in range(10):
        assert (await scene.kitectl("send", "x", **environment)).code == 0
    poor = await scene.kitectl("send", "x", **environment)
    assert (poor.code, "kitectl pay deposit" in poor.err) == (1, True)

    async def archived() -> bool:
        page = await scene.kitectl("events", "--limit", "1", "--json", **environment)
        return "payment_required" in page.err

    await eventually(archived, within_s=30, every_s=0.5, what="a page has its price")
    dear = await scene.kitectl("pay", "events", "--limit", "1", "--most", "0.09", **environment)
    assert (dear.code, "at most 0.09 USDC" in dear.err) == (1, True)
    page = (await scene.kitectl("pay", "events", "--limit", "1", "--json", **environment)).document
    assert (page["amount_atomic"], page["amount_charged_atomic"], moved(page)) == (100_000, 100_000, (-100_000, 0))
    assert page["events"][0]["event"]["data"]["body"] == "x"


async def test_a_team_that_is_not_kept_is_told_once_and_another_stays_the_current_one(scene: PaidKite) -> None:
    wallet = await funded(scene)
    kept_one = await scene.kitectl("pay", "bootstrap", "--source", "current", **wallet)
    assert kept_one.code == 0, kept_one.err
    current = (scene.data / "demo.json").read_text("utf-8")
    opened = await scene.kitectl("pay", "bootstrap", "--source", "other", "--no-keep", **wallet)
    assert opened.code == 0, opened.err
    assert "kite_" in opened.out
    assert "khk_" in opened.out
    assert (scene.data / "demo.json").read_text("utf-8") == current


async def test_neither_the_wallets_key_nor_a_kept_api_key_is_printed(scene: PaidKite) -> None:
    wallet = await funded(scene)
    opened = await scene.kitectl("pay", "bootstrap", "--source", "quiet", **wallet)
    shown = opened.out + opened.err + (await scene.kitectl("wallet", "show", **wallet)).out
    assert wallet["KITE_WALLET_KEY"].removeprefix("0x") not in shown
    assert kept(scene.data / "demo.json")["api_key"] not in shown


async def test_a_repeat_with_the_same_idempotency_key_pays_once_and_tells_the_same_team(scene: PaidKite) -> None:
    wallet, once = await funded(scene), ("--idempotency-key", "a-key-of-my-own-0001")
    first, second = [(await scene.kitectl("pay", "bootstrap", "--no-keep", "--json", *once, **wallet)).document for _ in range(2)]
    assert (second["team_id"], second["api_key"], second["transaction"]) == (first["team_id"], first["api_key"], first["transaction"])
    assert (moved(first)[0], moved(second)[0]) == (-USDC, 0)
    environment = wallet | {"KITE_TEAM_ID": first["team_id"], "KITE_API_KEY": first["api_key"]}
    deposits = [(await scene.kitectl("pay", "deposit", "1", "--json", *once[:1], "deposit-0001", **environment)).document for _ in range(2)]
    assert [moved(one) for one in deposits] == [(-USDC, USDC), (0, 0)]
    await scene.audit()


async def test_the_gateway_dies_while_a_payment_is_under_way_and_the_command_ends_well(scene: PaidKite) -> None:
    wallet = await funded(scene)
    team = (await scene.kitectl("pay", "bootstrap", "--no-keep", "--json", **wallet)).document
    environment = wallet | {"KITE_TEAM_ID": team["team_id"], "KITE_API_KEY": team["api_key"]}
    facilitator, gateway = scene.kite.local.child("facilitator"), scene.kite.local.child("gateway")
    await facilitator.freeze()
    try:
        command = await Kitectl(scene.data).start("pay", "deposit", "2", "--json", **environment)

        async def under_way() -> bool:
            return bool((await scene.kitectl("payments", "list", "--state", "claimed", "--json")).document["payments"])

        await eventually(under_way, within_s=40, what="the payment is claimed")
        await gateway.kill9()
    finally:
        facilitator.thaw()
    out, err = await command.communicate()
    assert command.returncode == 0, err.decode()
    assert moved(json.loads(out)) == (-2 * USDC, 2 * USDC)
    await scene.audit()


async def test_a_wallet_without_money_is_told_what_to_do_and_nothing_moves(scene: PaidKite) -> None:
    payer, before = await scene.chain.payer(0), await scene.paid_atomic()
    refused = await scene.kitectl("pay", "bootstrap", KITE_WALLET_KEY=payer.private_key)
    assert refused.code == 1
    assert "insufficient" in refused.err
    assert "kitectl wallet faucet" in refused.err
    assert await scene.paid_atomic() == before


async def test_a_wallet_file_pays_and_one_that_is_none_is_named(scene: PaidKite, tmp_path: Path) -> None:
    payer = await scene.chain.payer()
    mine, none = tmp_path / "mine.json", tmp_path / "none.json"
    mine.write_text(json.dumps({"private_key": payer.private_key}), "utf-8")
    opened = (await scene.kitectl("pay", "bootstrap", "--no-keep", "--wallet-file", str(mine), "--json")).document
    assert opened["payer"] == payer.address
    for text in (None, "{}", '{"private_key": "' + payer.private_key[:-1] + '"}'):
        if text is not None:
            none.write_text(text, "utf-8")
        ended = await scene.kitectl("pay", "bootstrap", "--wallet-file", str(none))
        assert (ended.code, str(none) in ended.err) == (78, True)
        assert payer.private_key[2:20] not in ended.err


async def test_what_is_no_amount_and_what_is_too_little_is_refused_before_anything_is_paid(scene: PaidKite) -> None:
    wallet = await funded(scene)
    for amount, code in (("one", 2), ("0.1234567", 2), ("-1", 2), ("0.5", 1)):
        ended = await scene.kitectl("pay", "bootstrap", f"--deposit={amount}", **wallet)
        assert ended.code == code, ended.err
    assert await scene.chain.balance((await scene.kitectl("wallet", "show", "--json", **wallet)).document["address"]) == 10 * USDC
