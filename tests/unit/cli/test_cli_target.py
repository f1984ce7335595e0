"""Which Kite a command talks to, and that no key goes to a gateway it is not for."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from kite_cli.failure import EXIT_CONFIGURATION, EXIT_UNAVAILABLE, CommandFailed
from kite_cli.found import FoundStack
from kite_cli.target import ApiSettings, LogTarget, TeamKey, api_target, log_of_environment, log_of_stack
from kite_common.config import KiteSettings

DATA = Path("/data")
PORTS = {"kafka": 7790, "valkey": 7792, "gateway": 7700}
STACK = FoundStack(DATA, 1, "http://127.0.0.1:7700", PORTS, {})
DEMO = TeamKey("team_demo", "kite_demo")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KITE_PUBLIC_URL", "KITE_TEAM_ID", "KITE_API_KEY", "KITE_KAFKA_BOOTSTRAP", "KITE_REDIS_URL", "KITE_API_KEY_PEPPER"):
        monkeypatch.delenv(name, raising=False)


def own(url: str | None = None, team_id: str | None = "team_own", api_key: str | None = "kite_own") -> ApiSettings:
    return ApiSettings(public_url=url, team_id=team_id, api_key=None if api_key is None else SecretStr(api_key))


def test_without_environment_it_is_the_demo_team_of_the_stack_that_runs() -> None:
    target = api_target(own(None, None, None), STACK, DEMO, DATA)
    assert (target.url, target.team) == (STACK.gateway, DEMO)


def test_a_team_of_the_environment_goes_before_the_demo_team() -> None:
    assert api_target(own(), STACK, DEMO, DATA).team == TeamKey("team_own", "kite_own")


def test_a_gateway_of_the_environment_goes_before_the_stack() -> None:
    target = api_target(own("https://kite.example"), STACK, DEMO, DATA)
    assert (target.url, target.team.team_id) == ("https://kite.example", "team_own")


def test_the_demo_key_never_goes_to_another_gateway() -> None:
    with pytest.raises(CommandFailed, match="no team and key") as failed:
        api_target(own("https://kite.example", None, None), STACK, DEMO, DATA)
    assert failed.value.code == EXIT_CONFIGURATION


@pytest.mark.parametrize(("team_id", "api_key", "missing"), [("team_own", None, "KITE_API_KEY"), (None, "kite_own", "KITE_TEAM_ID")])
def test_half_a_team_is_an_error_that_names_the_other_half(team_id: str | None, api_key: str | None, missing: str) -> None:
    with pytest.raises(CommandFailed, match=f"{missing} is not set"):
        api_target(own(None, team_id, api_key), STACK, DEMO, DATA)


def test_nothing_to_talk_to_is_said_with_what_to_do() -> None:
    with pytest.raises(CommandFailed, match="no Kite found") as failed:
        api_target(own(None, None, None), None, None, DATA)
    assert "make run" in failed.value.advice
    assert failed.value.code == EXIT_UNAVAILABLE


@pytest.mark.parametrize(("gateway", "demo"), [("", DEMO), (STACK.gateway, None)])
def test_a_stack_that_still_starts_is_waited_for(gateway: str, demo: TeamKey | None) -> None:
    starting = FoundStack(DATA, 1, gateway, PORTS, {})
    with pytest.raises(CommandFailed, match="not up yet"):
        api_target(own(None, None, None), starting, demo, DATA)


def test_the_log_of_a_stack_is_where_its_ports_are() -> None:
    log = log_of_stack(STACK, "pepper")
    assert (log.kafka_bootstrap, log.redis_url, log.partitions, log.replication) == ("127.0.0.1:7790", "redis://127.0.0.1:7792/0", 8, 1)


def test_a_gateway_that_listens_elsewhere_is_shown_there() -> None:
    stack = FoundStack(DATA, 1, "http://192.0.2.1:7700", PORTS | {"replay": 7703}, {})
    assert (stack.listens_on("gateway"), stack.listens_on("replay")) == ("http://192.0.2.1:7700", "http://127.0.0.1:7703")


def test_the_log_of_the_environment_is_as_set() -> None:
    settings = KiteSettings(kafka_bootstrap="kafka:9092", partitions=64, replication=3, api_key_pepper=SecretStr("0123456789abcdef"))
    log = log_of_environment(settings)
    assert (log.kafka_bootstrap, log.partitions, log.replication, log.pepper) == ("kafka:9092", 64, 3, "0123456789abcdef")


def test_a_pepper_that_is_needed_and_not_known_is_named() -> None:
    with pytest.raises(CommandFailed, match="KITE_API_KEY_PEPPER is not set"):
        LogTarget("kafka:9092", "redis://redis", 8, 1, None).needed_pepper()


def test_the_key_of_hook_secrets_is_needed_by_name_and_parsed() -> None:
    with pytest.raises(CommandFailed, match="KITE_HOOK_SECRET_CIPHER_KEY is not set"):
        log_of_stack(STACK, "pepper").needed_hook_keys()
    settings = KiteSettings(kafka_bootstrap="kafka:9092", hook_secret_cipher_key=SecretStr("0f" * 32 + "," + "1f" * 32))
    assert log_of_environment(settings).needed_hook_keys() == (b"\x0f" * 32, b"\x1f" * 32)


def test_no_secret_is_in_the_text_of_a_target() -> None:
    texts = (repr(DEMO), repr(log_of_stack(STACK, "a-pepper", "a-cipher-key")), repr(api_target(own(), STACK, DEMO, DATA)))
    assert not any(secret in text for text in texts for secret in ("kite_demo", "a-pepper", "a-cipher-key", "kite_own"))
