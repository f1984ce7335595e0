"""`kitectl config check`: every setting, secrets masked, all problems at once."""

import pytest

from kite_cli.checked_settings import check_settings, settings_report
from kite_cli.services import SERVICES, settings_of

PEPPER = "a-pepper-nobody-sees"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KITE_ENV_FILE", "KITE_API_KEY_PEPPER", "KITE_CLICKHOUSE_URL", "KITE_PLANS_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("service", SERVICES)
def test_the_settings_of_a_service_are_found_through_its_main(service: str) -> None:
    assert settings_of(service).__name__ == f"{service.capitalize()}Settings"


def test_secrets_and_passwords_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_API_KEY_PEPPER", PEPPER)
    monkeypatch.setenv("KITE_REDIS_URL", "redis://user:geheim@redis:6379/0")
    checked = check_settings("gateway", settings_of("gateway"))
    values = {row["name"]: row["value"] for row in checked.to_json()["settings"]}
    assert values["KITE_API_KEY_PEPPER"] == "****"
    assert values["KITE_REDIS_URL"] == "redis://****@redis:6379/0"
    assert PEPPER not in str(checked)
    assert len(settings_report([checked])) == 1


def test_all_problems_are_told_at_once_and_none_tells_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_API_KEY_PEPPER", "tooshort")
    monkeypatch.setenv("KITE_PORT", "99999")
    checked = check_settings("replay", settings_of("replay"))
    assert {problem.partition(":")[0] for problem in checked.problems} == {"KITE_API_KEY_PEPPER", "KITE_PORT", "KITE_CLICKHOUSE_URL"}
    assert "tooshort" not in str(checked.problems)
    assert len(settings_report([checked])) == 3


def test_plans_that_cannot_be_read_are_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITE_PLANS_FILE", "/nowhere/plans.toml")
    assert any("KITE_PLANS_FILE" in problem for problem in check_settings("billing", settings_of("billing")).problems)
