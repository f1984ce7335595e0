"""What a service is told about the machine it runs on."""

from dataclasses import replace
from pathlib import Path

import pytest

from kite_cli.local.environment import Addresses, ChainAddress, clickhouse_url, service_environment

ADDRESSES = Addresses(
    kafka_bootstrap="127.0.0.1:20001",
    redis_url="redis://127.0.0.1:20002/0",
    clickhouse_url=clickhouse_url(Path("/data")),
    services={"gateway": 7700, "replay": 7703},
)


def test_a_service_gets_its_own_port_and_the_addresses_of_the_others() -> None:
    env = service_environment("replay", ADDRESSES, {"KITE_API_KEY_PEPPER": "00"})
    assert env["KITE_PORT"] == "7703"
    assert env["KITE_PUBLIC_URL"] == "http://127.0.0.1:7700"
    assert env["KITE_REPLAY_URL"] == "http://127.0.0.1:7703"
    assert env["KITE_CLICKHOUSE_URL"] == "chdb:///data/clickhouse"
    assert env["KITE_API_KEY_PEPPER"] == "00"


def test_the_archive_is_in_process_or_on_a_server_of_its_own() -> None:
    assert clickhouse_url(Path("/data")) == "chdb:///data/clickhouse"
    assert clickhouse_url(Path("/data"), 7794) == "http://127.0.0.1:7794/kite"


@pytest.mark.parametrize(("host", "reached"), [("192.0.2.1", "192.0.2.1"), ("0.0.0.0", "127.0.0.1")])  # noqa: S104  what is asked for
def test_a_service_that_listens_elsewhere_is_reached_there(host: str, reached: str) -> None:
    addresses = replace(ADDRESSES, hosts={"gateway": host})
    env = service_environment("gateway", addresses, {}, host=host)
    assert (env["KITE_HOST"], env["KITE_PUBLIC_URL"]) == (host, f"http://{reached}:7700")
    assert env["KITE_REPLAY_URL"] == "http://127.0.0.1:7703"


def test_payments_reach_those_who_need_them_and_their_secrets_nobody_else() -> None:
    services = {name: 7700 + number for number, name in enumerate(("gateway", "billing", "delivery", "replay", "facilitator"))}
    addresses = replace(ADDRESSES, services=services, chain=ChainAddress("http://127.0.0.1:7793", 84532))
    secrets = {"KITE_API_KEY_PEPPER": "00", "X402_BOOTSTRAP_CIPHER_KEY": "11", "X402_FACILITATOR_TOKEN": "22"}
    envs = {name: service_environment(name, addresses, secrets) for name in services}
    assert all(env["X402_ENABLED"] == "true" and env["X402_NETWORK"] == "eip155:84532" for env in envs.values())
    assert {name for name, env in envs.items() if env.get("X402_FACILITATOR_TOKEN") == "22"} == {"billing", "facilitator"}
    assert {name for name, env in envs.items() if "X402_FACILITATOR_EVM_PRIVATE_KEY" in env} == {"facilitator"}
    assert "KITE_API_KEY_PEPPER" not in envs["facilitator"]
    assert "X402_BOOTSTRAP_CIPHER_KEY" not in envs["facilitator"]
    assert envs["billing"]["X402_FACILITATOR_URL"] == "http://127.0.0.1:7704"


def test_what_depends_on_the_stack_wins_over_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_KAFKA_BOOTSTRAP", "elsewhere:9092")
    monkeypatch.setenv("KITE_LOG_FORMAT", "text")
    env = service_environment("gateway", ADDRESSES, {})
    assert env["KITE_KAFKA_BOOTSTRAP"] == "127.0.0.1:20001"
    assert env["KITE_LOG_FORMAT"] == "text"
