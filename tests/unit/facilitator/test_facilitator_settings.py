"""What the facilitator can be started with; and that loading it loads no web3."""

import subprocess
import sys

import pytest

from kite_cli.checked_settings import check_settings
from kite_cli.services import settings_of
from kite_common.errors import Malformed
from kite_facilitator.settings import parse_private_key

KEY = "59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d"
GOOD = {
    "X402_PAY_TO": "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC", "X402_FACILITATOR_EVM_PRIVATE_KEY": "0x" + KEY,
    "X402_FACILITATOR_RPC_URL": "https://node.example.com/v2/key-of-the-node",
}  # fmt: skip
OF_NO_USE = [
    ("X402_PAY_TO", "0x3C44"), ("X402_PAY_TO", "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293Bd"), ("X402_PAY_TO", None),
    ("X402_FACILITATOR_EVM_PRIVATE_KEY", KEY[2:]), ("X402_FACILITATOR_EVM_PRIVATE_KEY", None), ("X402_FACILITATOR_RPC_URL", "ws://node"),
    ("X402_FACILITATOR_RPC_URL", None), ("X402_NETWORK", "base"), ("X402_NETWORK", "eip155:1"), ("X402_FACILITATOR_CONFIRM_S", "0"),
]  # fmt: skip


def problems(monkeypatch: pytest.MonkeyPatch, **changed: str | None) -> str:
    for name, value in (GOOD | changed).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    return "\n".join(check_settings("facilitator", settings_of("facilitator")).problems)


def test_settings_are_shown_without_key_and_without_the_path_of_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(monkeypatch) == ""
    shown = {row.name: row.value for row in check_settings("facilitator", settings_of("facilitator")).rows}
    assert shown["X402_FACILITATOR_EVM_PRIVATE_KEY"] == "****"
    assert shown["X402_FACILITATOR_RPC_URL"] == "https://node.example.com/****"


@pytest.mark.parametrize(("name", "value"), OF_NO_USE)
def test_what_cannot_be_used_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch, name: str, value: str | None) -> None:
    told = problems(monkeypatch, **{name: value})
    assert name in told
    assert KEY[2:] not in told


@pytest.mark.parametrize("text", [KEY, "0x" + KEY, "0x" + KEY.upper()])
def test_a_key_may_be_written_in_several_ways(text: str) -> None:
    assert parse_private_key(text) == "0x" + KEY


@pytest.mark.parametrize("text", ["", "0x", KEY + "0", "g" * 64, "0" * 64, "f" * 64])
def test_a_number_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parse_private_key(text)


def test_its_main_loads_no_web3() -> None:
    script = "import sys, kite_facilitator.main; sys.exit('web3' in sys.modules or 'eth_account' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
