"""What a service is told about the machine it runs on."""

from pathlib import Path

import pytest

from kite_cli.local.environment import Addresses, clickhouse_url, service_environment

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


def test_what_depends_on_the_stack_wins_over_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_KAFKA_BOOTSTRAP", "elsewhere:9092")
    monkeypatch.setenv("KITE_LOG_FORMAT", "text")
    env = service_environment("gateway", ADDRESSES, {})
    assert env["KITE_KAFKA_BOOTSTRAP"] == "127.0.0.1:20001"
    assert env["KITE_LOG_FORMAT"] == "text"
