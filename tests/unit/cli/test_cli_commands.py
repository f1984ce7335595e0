"""The command line: every command teaches and can speak JSON; errors are two lines and an exit code."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from kite_cli.admin.keys import named, parse_prefix
from kite_cli.admin.subscriptions import refused
from kite_cli.cli import app, main, told
from kite_cli.failure import EXIT_CODES, CommandFailed
from kite_cli.launch import LaunchOptions, next_steps, service_specs
from kite_cli.local.folders import data_folder
from kite_cli.local.step import StepFailed
from kite_cli.pay.wallet import VARIABLE
from kite_cli.services import SERVICES
from kite_common.errors import ConfigurationError, Unavailable
from kite_common.testing import make

COMMANDS = (
    "up", "down", "status", "send", "events", "smoke", "audit", "bench", "chaos", "team create", "team past-due", "team cancel",
    "team erase",
    "key create", "key revoke", "hook create", "hook list", "hook rotate-secret", "hook deactivate", "payments show", "payments list",
    "payments assign", "payments audit", "deliveries list", "deliveries show", "deliveries redrive", "deliveries test",
    "rebuild redis", "rebuild archive", "rebuild accounts", "archive migrate", "chain prepare",
    "topics apply", "topics check", "config check", "pay bootstrap", "pay deposit", "pay events", "wallet show", "wallet faucet",
)  # fmt: skip


def help_of(*arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def all_commands() -> Iterator[str]:
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None)
        yield from [name] if inner is None else [f"{name} {one}" for one in inner]


def test_no_command_is_forgotten_here() -> None:
    assert set(all_commands()) == {*COMMANDS, *SERVICES}


@pytest.mark.parametrize("command", [*COMMANDS, *SERVICES])
def test_every_help_has_an_example(command: str) -> None:
    assert f"kitectl {command}" in help_of(*command.split()).partition("Example:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_speaks_json(command: str) -> None:
    assert "--json" in help_of(*command.split())


def test_the_exit_codes_are_documented() -> None:
    assert EXIT_CODES in " ".join(help_of().split())


@pytest.mark.parametrize("refusal", ["no_account", "subscription_conflict", "invalid_provider"])
def test_a_subscription_that_cannot_be_changed_comes_with_advice(refusal: str) -> None:
    failure = refused(refusal, "team_acme")
    assert (refusal in failure.what, "team_acme" in failure.what) == (True, True)
    assert failure.advice != refused("something_new", "team_acme").advice


@pytest.mark.parametrize("text", ["0a1b2c3d", "kite_0a1b2c3d", "kite_0a1b2c3d_" + "0" * 32])
def test_a_key_is_named_by_its_prefix_in_any_form(text: str) -> None:
    assert parse_prefix(text) == "0a1b2c3d"


def test_keys_of_the_same_prefix_are_told_apart_by_their_team() -> None:
    texts = [make.API_KEY, make.API_KEY[:-4] + "0000", make.API_KEY[:-4] + "1111"]
    ours, theirs, again = (make.credential(text, team_id=team) for text, team in zip(texts, ("team_a", "team_b", "team_b"), strict=True))
    hook = make.credential(make.HOOK_TOKEN, team_id="team_a", prefix=ours.prefix)
    assert named([hook, ours], ours.prefix, None) == ours
    assert named([ours, theirs], ours.prefix, "team_b") == theirs
    for issued, team, said in (
        ([ours, theirs], None, f"2 keys begin with kite_{ours.prefix}_, of team_a, team_b"),
        ([theirs, again], "team_b", f"2 keys begin with kite_{ours.prefix}_, of team_b"),
        ([hook, theirs], "team_a", f"there is no key kite_{ours.prefix}_... of team_a"),
        ([], None, f"there is no key kite_{ours.prefix}_..."),
    ):  # fmt: skip
        with pytest.raises(CommandFailed) as failed:
            named(issued, ours.prefix, team)
        assert failed.value.what == said


@pytest.mark.parametrize("text", ["", "0a1b2c3", "kite_0A1B2C3D", "kite_0a1b2c3d_", "0a1b2c3d_" + "g" * 32, "0a1b2c3d\n"])
def test_what_names_no_key_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(CommandFailed) as failed:
        parse_prefix(text)
    assert failed.value.what == "that names no key"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandFailed("what", "advice", 69), 69),
        (StepFailed("kafka", "broke", "mend it"), 1),
        (ConfigurationError(["KITE_PORT: is wrong"]), 78),
        (Unavailable("Kafka is away"), 69),
        (OSError(28, "No space left on device", "/data/secrets.json"), 1),
        (TimeoutError(), 69),
    ],
)
def test_an_error_is_what_happened_what_to_do_and_a_code(error: CommandFailed | StepFailed | OSError, code: int) -> None:
    what, advice, found = told(error)
    assert found == code
    assert what
    assert advice


def test_a_folder_that_cannot_be_written_is_an_error_of_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", ["kitectl", "wallet", "show", "--data", str(tmp_path / "file" / "data")])
    with pytest.raises(SystemExit) as ended:
        main()
    told_lines = capsys.readouterr().err.splitlines()
    assert (ended.value.code, len(told_lines)) == (1, 2)
    assert str(tmp_path / "file") in told_lines[0]


def test_only_a_port_that_was_asked_for_must_be_free() -> None:
    wished, asked = (service_specs(LaunchOptions(data_folder(), port)) for port in (None, 8080))
    assert [(spec.name, spec.port) for spec in wished] == [
        ("facilitator", 7704), ("gateway", 7700), ("billing", 7701), ("delivery", 7702), ("replay", 7703),
    ]  # fmt: skip
    assert not any(spec.must_have_port for spec in wished)
    assert [(spec.name, spec.port) for spec in asked if spec.must_have_port] == [("gateway", 8080)]


def test_only_the_gateway_can_be_opened_to_other_machines() -> None:
    specs = service_specs(LaunchOptions(data_folder(), host="0.0.0.0"))
    assert [spec.name for spec in specs if spec.host != "127.0.0.1"] == ["gateway"]


def test_without_payments_there_is_no_facilitator() -> None:
    specs = service_specs(LaunchOptions(data_folder(), payments=False))
    assert [spec.name for spec in specs] == ["gateway", "billing", "delivery", "replay"]


def test_what_to_try_next_is_how_kitectl_was_called() -> None:
    assert next_steps(".venv/bin/kitectl")[1].startswith('  .venv/bin/kitectl send "hello"')
    assert next_steps(".venv/bin/kitectl")[3].startswith("  make smoke ")


def test_a_host_of_ipv6_is_refused_before_anything_starts() -> None:
    result = CliRunner().invoke(app, ["up", "--host", "::1", "--data", "/dev/null/not-a-folder"])
    assert result.exit_code == 2
    assert "IPv4" in result.output
