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


PAYMENTS_ON = {
    "X402_ENABLED": "true", "X402_PAY_TO": "0x" + "3c" * 20, "X402_BOOTSTRAP_CIPHER_KEY": "c" * 32, "KITE_API_KEY_PEPPER": PEPPER,
    "X402_RPC_URL": "http://127.0.0.1:1", "X402_FACILITATOR_URL": "http://127.0.0.1:2",
}  # fmt: skip


def problems_of_billing(monkeypatch: pytest.MonkeyPatch, **given: str | None) -> set[str]:
    for name, value in (PAYMENTS_ON | given).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    problems = check_settings("billing", settings_of("billing")).problems
    assert not any(value and len(value) > 9 and value in problem for value in PAYMENTS_ON.values() for problem in problems)
    return {problem.partition(":")[0] for problem in problems}


def test_payments_that_are_complete_are_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems_of_billing(monkeypatch) == set()


@pytest.mark.parametrize(
    "missing", ["X402_PAY_TO", "X402_RPC_URL", "X402_FACILITATOR_URL", "KITE_API_KEY_PEPPER", ("X402_MAX_TIMEOUT_S", "60")]
)
def test_what_billing_lacks_to_take_payments_is_told_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, missing: str | tuple[str, str]
) -> None:  # fmt: skip
    name, given = (missing, {missing: None}) if isinstance(missing, str) else (missing[0], {missing[0]: missing[1]})
    assert problems_of_billing(monkeypatch, X402_SETTLE_TIMEOUT_S="60", **given) == {name}


def test_all_that_is_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lacking: dict[str, str | None] = dict.fromkeys(PAYMENTS_ON)
    found = problems_of_billing(monkeypatch, **(lacking | {"X402_ENABLED": "true"}))
    assert found == {"X402_PAY_TO", "X402_QUOTE_KEY", "X402_RPC_URL", "X402_FACILITATOR_URL"}


def test_without_payments_billing_needs_nothing_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems_of_billing(monkeypatch, **dict.fromkeys(PAYMENTS_ON)) == set()
