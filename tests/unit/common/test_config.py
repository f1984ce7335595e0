"""Settings: read once, all problems at once, no secret in any text."""

from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field, SecretStr

from kite_common.config import KiteSettings, SettingRow, checked_by, load, load_catalog, masked
from kite_common.crypto import parse_cipher_keys
from kite_common.errors import ConfigurationError
from kite_common.plans import shipped_catalog

PEPPER = "a pepper nobody may see"


class ServiceSettings(KiteSettings):
    """As a service declares its own: a required secret, another port, a name of its own."""

    port: int = 7700
    api_key_pepper: SecretStr = Field(min_length=16, description="hashes API keys")
    webhook_secret_cipher_key: Annotated[SecretStr, checked_by(parse_cipher_keys)] | None = None
    x402_facilitator_url: str = Field("", validation_alias="X402_FACILITATOR_URL", description="who settles")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KiteSettings.model_fields:
        monkeypatch.delenv("KITE_" + name.upper(), raising=False)
    monkeypatch.delenv("KITE_ENV_FILE", raising=False)


def _problems(**environment: str) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with pytest.raises(ConfigurationError) as caught:
            load(ServiceSettings)
    return caught.value.problems


def test_without_an_environment_the_local_defaults_hold() -> None:
    settings = load(KiteSettings)
    assert (settings.kafka_bootstrap, settings.partitions, settings.replication) == ("127.0.0.1:9092", 8, 1)
    assert settings.instance
    assert settings.api_key_pepper is None


def test_values_come_from_the_environment_by_the_documented_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KITE_KAFKA_BOOTSTRAP": "k1:9092,k2:9092", "KITE_REDIS_URL": "rediss://user:pw@redis:6379/1", "KITE_CLICKHOUSE_URL": "chdb:///var/lib/kite",
        "KITE_PORT": "7711", "KITE_ALLOW_PRIVATE_TARGETS": "true", "KITE_CORS_ORIGINS": "https://a.example, https://b.example",
        "KITE_TEAM_RATE_LIMIT": "90000", "KITE_PUBLIC_URL": "https://kite.example/", "KITE_API_KEY_PEPPER": PEPPER, "KITE_LOG_LEVEL": "",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    settings = load(ServiceSettings)
    assert (settings.port, settings.allow_private_targets, settings.team_rate_limit, settings.log_level) == (7711, True, 90_000, "info")
    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.public_url == "https://kite.example"
    assert settings.redis_url == "rediss://user:pw@redis:6379/1"
    assert settings.api_key_pepper.get_secret_value() == PEPPER


def test_every_problem_is_listed_at_once_with_its_variable_and_what_is_expected() -> None:
    problems = _problems(
        KITE_PORT="http", KITE_PARTITIONS="2000", KITE_LOG_FORMAT="xml", KITE_REDIS_URL="redis:6379", KITE_CLICKHOUSE_URL="x"
    )
    names = [problem.split(":")[0] for problem in problems]
    assert sorted(names) == [
        "KITE_API_KEY_PEPPER", "KITE_CLICKHOUSE_URL", "KITE_LOG_FORMAT", "KITE_PARTITIONS", "KITE_PORT", "KITE_REDIS_URL",
    ]  # fmt: skip
    by_name = dict(zip(names, problems, strict=True))
    assert by_name["KITE_API_KEY_PEPPER"] == "KITE_API_KEY_PEPPER: is required (hashes API keys)"
    assert "redis://" in by_name["KITE_REDIS_URL"]
    assert "'json' or 'console'" in by_name["KITE_LOG_FORMAT"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KITE_API_KEY_PEPPER", "hunter2"), ("KITE_WEBHOOK_SECRET_CIPHER_KEY", "not-a-key-hunter2"), ("KITE_REDIS_URL", "http://user:hunter2@host"),
        ("KITE_CLICKHOUSE_URL", "ftp://user:hunter2@host"), ("KITE_REDIS_URL", "redis://user:hunter2@[host"),
    ],
)  # fmt: skip
def test_no_error_text_holds_the_value_of_a_secret(name: str, value: str) -> None:
    problems = _problems(**{name: value})
    assert any(problem.startswith(name) for problem in problems)
    assert "hunter2" not in str(problems)


def test_a_parser_of_ours_can_check_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("KITE_WEBHOOK_SECRET_CIPHER_KEY", "0f" * 32)
    key = load(ServiceSettings).webhook_secret_cipher_key
    assert key is not None
    assert parse_cipher_keys(key.get_secret_value()) == (b"\x0f" * 32,)


def test_the_masked_list_shows_everything_but_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("KITE_REDIS_URL", "redis://user:hunter2@redis:6379/0")
    monkeypatch.setenv("X402_FACILITATOR_URL", "https://x402.example")
    settings = load(ServiceSettings)
    rows = {row.name: row for row in masked(settings)}
    assert rows["KITE_API_KEY_PEPPER"] == SettingRow("KITE_API_KEY_PEPPER", "****", "environment", "hashes API keys")
    assert rows["KITE_REDIS_URL"].value == "redis://****@redis:6379/0"
    assert rows["X402_FACILITATOR_URL"].value == "https://x402.example"
    assert (rows["KITE_PORT"].value, rows["KITE_PORT"].source) == ("7700", "default")
    assert rows["KITE_WEBHOOK_SECRET_CIPHER_KEY"].value == "(unset)"
    for shown in (str(masked(settings)), repr(settings), str(settings)):
        assert PEPPER not in shown
        assert "hunter2" not in shown


def test_every_setting_is_explained() -> None:
    assert [row.name for row in masked(load(KiteSettings)) if not row.doc] == []


def test_a_file_can_hold_the_environment_and_the_environment_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kite.env"
    file.write_text("KITE_PARTITIONS=16\nKITE_PORT=7001\n")
    monkeypatch.setenv("KITE_ENV_FILE", str(file))
    monkeypatch.setenv("KITE_PORT", "7002")
    settings = load(KiteSettings)
    assert (settings.partitions, settings.port) == (16, 7002)


def test_a_file_that_is_missing_is_a_problem(tmp_path: Path) -> None:
    assert _problems(KITE_ENV_FILE=str(tmp_path / "nowhere.env")) == ["KITE_ENV_FILE: no such file"]


def test_plans_come_with_kite_or_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_catalog(load(KiteSettings)) == shipped_catalog()
    file = tmp_path / "plans.toml"
    monkeypatch.setenv("KITE_PLANS_FILE", str(file))
    with pytest.raises(ConfigurationError, match="KITE_PLANS_FILE"):
        load_catalog(load(KiteSettings))
    file.write_text("[[plan]]\nname = 'x'\n")
    with pytest.raises(ConfigurationError, match="plan x: id must be a UUID"):
        load_catalog(load(KiteSettings))
