"""kitectl as a new user runs it: `up` in an empty folder, then everything else against what runs there, then Ctrl-C."""

import gzip
import hmac
import signal
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from kite_cli.local.chain.known import FACILITATOR_KEY
from kite_cli.local.identity import is_alive
from kite_common.testing.eventually import eventually
from support.kitectl import Kitectl, Up, up

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Up]:
    """One stack for the tests that do not end it."""
    async with up(Kitectl(tmp_path_factory.mktemp("cli") / "data")) as stack:
        yield stack


@pytest.fixture
def kitectl(running: Up) -> Kitectl:
    """Commands that find that stack."""
    return running.kitectl


async def new_team(kitectl: Kitectl, *arguments: str) -> dict[str, str]:
    """A team, as the environment of commands that shall be it."""
    made = (await kitectl("team", "create", "--json", *arguments)).document
    environment = {"KITE_TEAM_ID": made["team_id"], "KITE_API_KEY": made["api_key"]}
    await eventually(lambda: accepts(kitectl, environment), within_s=30, what="the new key is known")
    return environment


async def accepts(kitectl: Kitectl, environment: dict[str, str]) -> bool:
    return (await kitectl("send", "ready?", **environment)).code == 0


def is_kept(data: Path, transaction: str) -> bool:
    """Whether the chain's file, which is written within a second after a transaction, has this one."""
    return transaction.encode() in gzip.decompress((data / "chain" / "state.json.gz").read_bytes())


async def bodies(kitectl: Kitectl, environment: dict[str, str]) -> list[str]:
    rows = (await kitectl("events", "--json", **environment)).documents
    return [row["event"]["data"]["body"] for row in rows]


async def test_up_says_where_everything_is_and_keeps_a_demo_team(running: Up) -> None:
    assert running.said["ready"] is True
    assert set(running.said["parts"]) == {"kafka", "valkey", "chain", "facilitator", "gateway", "billing", "delivery", "replay"}
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(running.said["gateway"] + "/readyz")).status_code == 200
    assert stat.S_IMODE((running.kitectl.data / "demo.json").stat().st_mode) == 0o600


async def test_status_agrees_with_what_up_said(running: Up) -> None:
    found = await running.kitectl("status", "--json")
    assert found.code == 0
    assert {name: part["pid"] for name, part in found.document["parts"].items()} == {
        name: part["pid"] for name, part in running.said["parts"].items()
    }
    assert all(part["resident_bytes"] > 0 for part in found.document["parts"].values())


async def test_a_second_up_says_who_runs_and_disturbs_nothing(running: Up) -> None:
    second = await running.kitectl("up")
    assert second.code == 1
    assert f"pid {running.process.pid}" in second.out
    assert all(is_alive(child) for child in running.children)


async def test_the_three_commands_of_the_readme_work_without_arguments(kitectl: Kitectl) -> None:
    sent = await kitectl("send", "hello from the test", "--json")
    assert sent.code == 0, sent.err
    event_id = sent.document["id"]

    async def replayable() -> bool:
        return event_id in (await kitectl("events")).out

    await eventually(replayable, within_s=30, what="the message can be read back")
    walked = await kitectl("smoke", "--stats", "--json")
    assert walked.code == 0, walked.err
    assert [stage["stage"] for stage in walked.document["stages"]] == ["accepted", "billed", "delivered", "replayable"]
    assert all(stage["took_ms"] > 0 for stage in walked.document["stages"])
    figures = walked.document["stats"]
    assert figures["first_accepted_s"] > 0
    assert figures["resident_bytes_total"] == sum(figures["resident_bytes"].values())


async def test_smoke_leaves_no_webhook_and_can_be_repeated(kitectl: Kitectl) -> None:
    first, second = [await kitectl("smoke", "--json") for _ in range(2)]
    assert first.document["ok"]
    assert second.document["ok"]
    assert first.document["team_id"] == second.document["team_id"]
    assert first.document["event_id"] != second.document["event_id"]


async def test_smoke_never_replaces_the_webhook_of_a_team_that_was_given(running: Up, kitectl: Kitectl) -> None:
    environment = await new_team(kitectl)
    url, query = running.said["gateway"] + "/api/v1/webhook-config", {"team_id": environment["KITE_TEAM_ID"]}
    headers = {"Authorization": f"Bearer {environment['KITE_API_KEY']}"}
    async with httpx.AsyncClient(trust_env=False, params=query, headers=headers) as http:
        wanted: dict[str, Any] = {"url": "https://example.com/in", "secret": "a secret of the user"}
        assert (await http.put(url, json=wanted)).status_code == 200
        refused = await kitectl("smoke", **environment)
        assert (refused.code, "has a webhook config" in refused.err) == (1, True)
        assert (await http.get(url)).json()["url"] == wanted["url"]


async def test_a_new_team_has_its_own_wallet(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl, "--plan", "starter", "--provider", "x402", "--balance", "300")
    assert (await kitectl("send", "a", **environment)).code == 0
    assert (await kitectl("send", "b", **environment)).code == 0
    poor = await kitectl("send", "c", **environment)
    assert (poor.code, "insufficient_funds" in poor.err) == (1, True)


async def test_a_new_team_has_its_own_events(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl, "--plan", "starter", "--provider", "x402", "--balance", "1000000")
    assert (await kitectl("send", "a", **environment)).code == 0
    assert (await kitectl("send", "b", **environment)).code == 0

    async def all_there() -> bool:
        return await bodies(kitectl, environment) == ["ready?", "a", "b"]

    await eventually(all_there, within_s=30, what="the team reads its own events in order")


async def test_a_team_is_never_opened_twice(kitectl: Kitectl) -> None:
    assert (await kitectl("team", "create", "--team-id", "team_once")).code == 0
    again = await kitectl("team", "create", "--team-id", "team_once")
    assert (again.code, "account_exists" in again.err) == (1, True)
    assert "kitectl key create --team-id team_once" in again.err


async def test_operators_stop_a_team_that_does_not_pay_let_it_go_on_and_end_it(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl, "--plan", "free", "--provider", "clerk")
    which = ("--team-id", environment["KITE_TEAM_ID"])

    async def stopped() -> bool:
        return not await accepts(kitectl, environment)

    assert (await kitectl("team", "past-due", *which, "--json")).document["status"] == "past_due"
    await eventually(stopped, within_s=30, what="the team that has not paid sends nothing")
    assert (await kitectl("team", "past-due", *which, "--paid")).code == 0
    await eventually(lambda: accepts(kitectl, environment), within_s=30, what="the team that has paid sends again")
    for _ in range(2):
        assert (await kitectl("team", "cancel", *which, "--json")).document["status"] == "cancelled"
    await eventually(stopped, within_s=30, what="the team without a subscription sends nothing")


@pytest.mark.parametrize("command", ["past-due", "cancel"])
async def test_a_subscription_nobody_has_cannot_be_changed(kitectl: Kitectl, command: str) -> None:
    refused = await kitectl("team", command, "--team-id", "team_nobody")
    assert (refused.code, "no_account" in refused.err) == (1, True)


async def test_a_team_that_was_never_opened_gets_no_key(kitectl: Kitectl) -> None:
    refused = await kitectl("key", "create", "--team-id", "team_nobody")
    assert refused.code == 1
    assert "there is no team team_nobody" in refused.err
    assert "kitectl team create --team-id team_nobody" in refused.err


async def test_a_key_works_until_it_is_revoked(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl)
    made = (await kitectl("key", "create", "--team-id", environment["KITE_TEAM_ID"], "--permission", "write", "--json")).document
    environment |= {"KITE_API_KEY": made["api_key"]}
    await eventually(lambda: accepts(kitectl, environment), within_s=30, what="the second key is known")
    revoked = await kitectl("key", "revoke", made["key_prefix"], "--json")
    assert revoked.document["team_id"] == environment["KITE_TEAM_ID"]

    async def refused() -> bool:
        ended = await kitectl("send", "late", **environment)
        return ended.code == 1 and "unauthorized" in ended.err

    await eventually(refused, within_s=30, what="the revoked key is refused")
    assert (await kitectl("key", "revoke", made["key_prefix"], "--json")).document == revoked.document


async def test_a_key_that_only_reads_cannot_send(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl)
    made = (await kitectl("key", "create", "--team-id", environment["KITE_TEAM_ID"], "--permission", "read", "--json")).document
    environment |= {"KITE_API_KEY": made["api_key"]}

    async def refused() -> bool:
        return "insufficient_permissions" in (await kitectl("send", "x", **environment)).err

    await eventually(refused, within_s=30, what="the key is known and may not write")


async def test_a_hook_is_opened_rotated_and_closed(running: Up, kitectl: Kitectl) -> None:
    environment = await new_team(kitectl)
    team = ("--team-id", environment["KITE_TEAM_ID"])
    first = (await kitectl("hook", "create", "github", *team, "--json")).document
    async with httpx.AsyncClient(base_url=running.said["gateway"], trust_env=False) as http:

        async def answers(path: str, secret: str | None, status: int) -> None:
            body = b'{"zen":"x"}'
            signature = {} if secret is None else {"X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, "sha256").hexdigest()}

            async def does() -> bool:
                return (await http.post(path, content=body, headers=signature)).status_code == status

            await eventually(does, within_s=30, what=f"a delivery is answered with {status}")

        await answers(first["endpoint"], first["github_webhook_secret"], 202)
        await answers(first["endpoint_with_token"], None, 202)
        again = (await kitectl("hook", "create", "github", *team, "--json")).document
        assert (again["id"], again["github_webhook_secret"]) == (first["id"], first["github_webhook_secret"])
        await answers(again["endpoint_with_token"], None, 202)
        await answers(first["endpoint_with_token"], None, 401)
        await answers(first["endpoint_with_token"], first["github_webhook_secret"], 202)
        rotated = (await kitectl("hook", "rotate-secret", "github", *team, "--json")).document
        for secret in (rotated["webhook_secret"], first["github_webhook_secret"]):
            await answers(first["endpoint"], secret, 202)
        assert (await kitectl("hook", "create", "ci", *team)).code == 0
        listed = (await kitectl("hook", "list", *team, "--json")).document["hooks"]
        assert [(one["source"], one["active"], one["webhook_secret_configured"], one["tokens"]) for one in listed] == [
            ("ci", True, False, 1), ("github", True, True, 1),
        ]  # fmt: skip
        for _ in range(2):
            assert (await kitectl("hook", "deactivate", "github", *team, "--json")).document["active"] is False
        await answers(first["endpoint"], rotated["webhook_secret"], 401)
        await answers(again["endpoint_with_token"], None, 401)
    gone = await kitectl("hook", "rotate-secret", "github", *team)
    assert (gone.code, "has no open hook github" in gone.err) == (1, True)


async def test_a_plan_has_a_number_of_sources(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl, "--plan", "free", "--provider", "clerk")
    team = ("--team-id", environment["KITE_TEAM_ID"])
    for source in ("a", "b", "c", "a"):
        assert (await kitectl("hook", "create", source, *team)).code == 0
    full = await kitectl("hook", "create", "d", *team)
    assert (full.code, "source_limit_reached" in full.err) == (1, True)
    for source, secret in (("kite", "x"), ("A", "x"), ("a", "x" * 257), ("clerk", "whsec_x")):
        assert (await kitectl("hook", "create", source, *team, "--secret", secret)).code == 1
    assert (await kitectl("hook", "deactivate", "b", *team)).code == 0
    assert (await kitectl("hook", "create", "d", *team)).code == 0


async def test_a_key_nobody_has_cannot_be_revoked(kitectl: Kitectl) -> None:
    unknown = await kitectl("key", "revoke", "00000000")
    assert (unknown.code, "there is no key" in unknown.err) == (1, True)


async def test_a_repeat_with_the_same_idempotency_key_is_the_same_message(kitectl: Kitectl) -> None:
    first, second = [await kitectl("send", "once", "--idempotency-key", "k-1", "--json") for _ in range(2)]
    assert first.document == second.document


async def test_events_stop_at_the_limit_and_say_how_to_go_on(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl)
    for body in ("a", "b"):
        await kitectl("send", body, **environment)

    async def three() -> bool:
        return len(await bodies(kitectl, environment)) == 3

    await eventually(three, within_s=30, what="three events are replayable")
    page = await kitectl("events", "--limit", "2", **environment)
    assert len(page.out.splitlines()) == 3
    cursor = page.out.splitlines()[-1].partition("--since ")[2].strip('"')
    rest = (await kitectl("events", "--since", cursor, "--json", **environment)).documents
    assert [row["event"]["data"]["body"] for row in rest] == ["b"]


async def test_follow_shows_what_comes(kitectl: Kitectl) -> None:
    environment = await new_team(kitectl)
    following = await kitectl.start("events", "--follow", "--json", **environment)
    assert following.stdout is not None
    assert b"ready?" in await following.stdout.readline()
    assert (await kitectl("send", "news", **environment)).code == 0
    assert b"news" in await following.stdout.readline()
    following.send_signal(signal.SIGINT)
    await following.communicate()
    assert following.returncode == 130


async def test_topics_are_as_they_should_be_and_applying_again_changes_nothing(kitectl: Kitectl) -> None:
    assert (await kitectl("topics", "check", "--json")).document == {"ok": True, "problems": []}
    assert (await kitectl("topics", "apply", "--json")).document["created"] == []


async def test_topics_with_other_settings_are_named(running: Up, kitectl: Kitectl) -> None:
    kafka = running.said["parts"]["kafka"]["listens_on"]
    checked = await kitectl("topics", "check", "--json", KITE_KAFKA_BOOTSTRAP=kafka, KITE_PARTITIONS="4")
    assert checked.code == 1
    assert "kite.events: has 8 partitions, expected 4" in checked.document["problems"]


async def test_config_check_shows_the_settings_of_the_stack_without_its_secrets(kitectl: Kitectl) -> None:
    checked = await kitectl("config", "check", "--json")
    assert checked.code == 0, checked.out
    assert [one["service"] for one in checked.document["services"]] == ["gateway", "billing", "delivery", "replay", "facilitator"]
    assert FACILITATOR_KEY[2:] not in checked.out
    for secret in (kitectl.data / "secrets.json").read_text().split('"'):
        assert len(secret) < 64 or secret not in checked.out


async def test_the_demo_wallet_is_filled_and_its_key_is_for_its_owner_alone(running: Up, kitectl: Kitectl) -> None:
    path = kitectl.data / "wallets" / "demo.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kept = orjson.loads(path.read_bytes())
    shown = await kitectl("wallet", "show", "--json")
    assert shown.document["address"] == kept["address"]
    assert shown.document["chain_balance_atomic"] >= 100_000_000
    poured = await kitectl("wallet", "faucet", "--usdc", "3", "--json")
    assert poured.document["chain_balance_atomic"] == shown.document["chain_balance_atomic"] + 3_000_000
    said = [shown.out, poured.out, str(running.said), *(log.read_text("utf-8", "replace") for log in (kitectl.data / "logs").iterdir())]
    assert not any(kept["private_key"].removeprefix("0x") in text for text in said)


@pytest.mark.parametrize("address", ["0x12", "bob", "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293Bd"])
async def test_the_faucet_gives_nothing_to_what_is_no_address(kitectl: Kitectl, address: str) -> None:
    refused = await kitectl("wallet", "faucet", address)
    assert (refused.code, "address" in refused.err) == (1, True)


async def test_config_check_of_a_bare_environment_names_every_problem(kitectl: Kitectl) -> None:
    checked = await kitectl("config", "check", "replay", KITE_KAFKA_BOOTSTRAP="kafka:9092", KITE_PORT="x")
    assert checked.code == 78
    assert all(name in checked.out for name in ("KITE_PORT", "KITE_API_KEY_PEPPER", "KITE_CLICKHOUSE_URL"))


async def test_a_service_with_wrong_settings_names_them_and_does_not_start(kitectl: Kitectl) -> None:
    ended = await kitectl("replay", KITE_CLICKHOUSE_URL="ftp://archive")
    assert ended.code == 78
    assert all(name in ended.err for name in ("KITE_CLICKHOUSE_URL", "KITE_API_KEY_PEPPER"))


async def test_a_benchmark_that_does_not_exist_is_an_error_that_lists_the_others(kitectl: Kitectl) -> None:
    ended = await kitectl("bench", "--only", "nothing")
    assert (ended.code, "accept" in ended.err) == (1, True)


async def test_a_log_that_is_away_is_said(kitectl: Kitectl) -> None:
    away = await kitectl("topics", "check", KITE_KAFKA_BOOTSTRAP="127.0.0.1:1")
    assert (away.code, "does not answer" in away.err) == (69, True)


async def test_help_starts_without_loading_what_commands_need(kitectl: Kitectl) -> None:
    ended = await kitectl("--help", PYTHONPROFILEIMPORTTIME="1")
    assert ended.code == 0
    loaded = {line.rpartition("|")[2].strip() for line in ended.err.splitlines() if line.startswith("import time:")}
    assert "typer" in loaded
    assert not loaded & {"aiokafka", "aiohttp", "fastapi", "httpx", "pydantic", "redis", "kite_gateway.main"}


async def test_without_a_kite_every_command_says_what_to_do(tmp_path: Path) -> None:
    kitectl = Kitectl(tmp_path / "nothing")
    for command in ("send x", "events", "smoke", "team create", "topics check"):
        ended = await kitectl(*command.split(), KITE_API_KEY_PEPPER="0123456789abcdef")
        assert ended.code == 69, command
        assert "make run" in ended.err
        assert len(ended.err.splitlines()) == 2
    assert (await kitectl("status", "--json")).document["running"] is False
    assert (await kitectl("down")).code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_however_it_ends_no_process_stays_and_the_next_start_knows_everything(tmp_path: Path, number: signal.Signals) -> None:
    kitectl = Kitectl(tmp_path / "data")
    async with up(kitectl) as stack:
        sent = (await kitectl("send", "before", "--json")).document
        poured = (await kitectl("wallet", "faucet", "--usdc", "7", "--json")).document
        if number == signal.SIGKILL:
            await eventually(lambda: is_kept(kitectl.data, poured["transaction"]), within_s=20, what="the chain's state is written")
        children = stack.children
        code = await stack.end(number)
        assert code == (0 if number == signal.SIGINT else -signal.SIGKILL)
        await eventually(lambda: not any(is_alive(child) for child in children), within_s=30, what="no process is left")
    async with up(kitectl) as stack:

        async def known() -> bool:
            return sent["id"] in (await kitectl("events")).out

        await eventually(known, within_s=30, what="the message of the former run can be read")
        assert (await kitectl("wallet", "show", "--json")).document["chain_balance_atomic"] == poured["chain_balance_atomic"]
        assert (await kitectl("down")).code == 0
        await stack.process.communicate()
        assert stack.process.returncode == 0
