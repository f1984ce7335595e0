"""A data folder remembers the ports of earlier runs: a part counts as running by its process alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kite_cli.admin.payments_audit import find_paid_at
from kite_cli.checked_settings import check_services
from kite_cli.local.folders import lock_of, state_of
from kite_cli.local.identity import boot_id, identify
from kite_cli.local.leftovers import State, write_state
from kite_cli.local.lock import DataLock, Holder
from kite_cli.services import ALWAYS, SERVICES
from kite_common.testing import payments

PORTS = {name: 7700 + number for number, name in enumerate(("kafka", "valkey", "chain", *SERVICES))}
OURS = "http://node.example/key"
KEY = "X402_FACILITATOR_EVM_PRIVATE_KEY="


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("KITE_", "X402_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """The folder of a stack that runs without payments, and ran with them before. This process is its supervisor."""
    me = identify(os.getpid())
    assert me is not None
    lock = DataLock(lock_of(tmp_path))
    lock.acquire(Holder(me.pid, me.started, boot_id(), "http://127.0.0.1:7700"))
    running = {name: me for name in PORTS if name not in ("chain", "facilitator")}
    write_state(state_of(tmp_path), State("run", boot_id(), me, running, PORTS))
    yield tmp_path
    lock.release()


def test_an_audit_asks_the_node_of_the_settings_where_no_local_chain_runs(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "X402_ENABLED": "true", "X402_PAY_TO": payments.PAY_TO, "X402_BOOTSTRAP_CIPHER_KEY": "c" * 32, "X402_RPC_URL": OURS,
        "X402_FACILITATOR_URL": "http://127.0.0.1:2", "KITE_API_KEY_PEPPER": "p" * 16,
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert find_paid_at(data, from_stack=True).rpc_url == OURS


def test_the_settings_of_a_facilitator_that_does_not_run_are_those_of_the_environment(data: Path) -> None:
    (checked,) = check_services(["facilitator"], data)
    assert any("X402_FACILITATOR_EVM_PRIVATE_KEY" in problem for problem in checked.problems)
    assert [one.service for one in check_services([], data)] == list(ALWAYS)


@pytest.mark.parametrize(("content", "services"), [
    (KEY + "4c" * 32, SERVICES), (KEY, ALWAYS), ("", ALWAYS), (None, ALWAYS),
])  # fmt: skip
def test_the_facilitators_key_is_looked_for_where_settings_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, services: tuple[str, ...]
) -> None:  # fmt: skip
    file = tmp_path / "kite.env"
    if content is not None:
        file.write_text(content, "utf-8")
    monkeypatch.setenv("KITE_ENV_FILE", str(file))
    assert tuple(one.service for one in check_services([], tmp_path)) == services
