"""`kitectl pay` without a network: amounts, wallets, what is kept of a team, and what is sent again."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from kite_cli.commands.pay import atomic
from kite_cli.failure import EXIT_CONFIGURATION, CommandFailed
from kite_cli.output import usdc
from kite_cli.pay.client import Wire
from kite_cli.pay.team import keep_team
from kite_cli.pay.wallet import VARIABLE, demo_wallet, find_wallet
from kite_cli.target import DEMO_FILE, read_team

KEY = "4c" * 32
ADDRESS = str(Account.from_key(KEY).address)
PAYMENT = {"payment-signature": "header"}


@pytest.mark.parametrize(("text", "amount"), [
    ("1", 1_000_000), ("0.5", 500_000), (".5", 500_000), ("2.", 2_000_000), ("0.000001", 1), ("1000", 1_000_000_000),
])  # fmt: skip
def test_an_amount_is_what_people_write(text: str, amount: int) -> None:
    assert atomic(text) == amount


@pytest.mark.parametrize("text", ["", ".", "one", "-1", "1e3", "1,5", "0.0000001", "٣", "1 ", "+1"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed, match="no amount"):
        atomic(text)


@given(st.integers(0, 10**12))
def test_every_amount_that_is_shown_can_be_typed(amount: int) -> None:
    assert atomic(usdc(amount).removesuffix(" USDC").replace(",", "")) == amount


def written(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document), "utf-8")
    return path


def test_a_wallet_file_goes_before_the_environment_and_that_before_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_wallet(tmp_path).address == demo_wallet(tmp_path).address
    monkeypatch.setenv(VARIABLE, "0x" + "5d" * 32)
    assert find_wallet(tmp_path).address == Account.from_key("5d" * 32).address
    assert find_wallet(tmp_path, written(tmp_path / "mine.json", {"private_key": KEY})).address == ADDRESS


@pytest.mark.parametrize("key", [KEY[:-1], KEY + "0", "0x" + KEY[:-2], "g" + KEY[1:], "0" * 64, "f" * 64, None, ""])
def test_what_is_no_private_key_is_named_and_not_repeated(tmp_path: Path, key: str | None) -> None:
    path = written(tmp_path / "mine.json", {"private_key": key})
    with pytest.raises(CommandFailed) as refused:
        find_wallet(tmp_path, path)
    assert refused.value.code == EXIT_CONFIGURATION
    assert str(path) in refused.value.what
    assert not key or key[2:] not in str(refused.value)


def test_a_wallet_never_shows_its_key(tmp_path: Path) -> None:
    assert KEY not in repr(find_wallet(tmp_path, written(tmp_path / "mine.json", {"private_key": KEY})))


def team(number: int) -> dict[str, Any]:
    return {"team_id": f"team_{number}", "api_key": f"kite_{number}", "hook_token": f"khk_{number}", "endpoint": f"/hooks/team_{number}/a"}


def test_the_credentials_of_every_team_are_kept_and_the_newest_one_is_current(tmp_path: Path) -> None:
    paths = [keep_team(tmp_path, team(number), "starter") for number in (1, 2)]
    for path, number in zip(paths, (1, 2), strict=True):
        assert json.loads(path.read_text("utf-8")) == team(number) | {"plan": "starter"}
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    current = read_team(tmp_path / DEMO_FILE)
    assert current is not None
    assert (current.team_id, current.api_key) == ("team_2", "kite_2")
    assert stat.S_IMODE((tmp_path / DEMO_FILE).stat().st_mode) == 0o600


Step = Callable[[httpx.Request], httpx.Response]


def status(code: int, **headers: str) -> Step:
    return lambda _: httpx.Response(code, headers={name.replace("_", "-"): value for name, value in headers.items()})


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("gone", request=request)


class Line(httpx.AsyncBaseTransport):
    """Does one thing after the other, and remembers what it was sent."""

    def __init__(self, *steps: Step) -> None:
        self.steps, self.sent = list(steps), list[bytes]()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(await request.aread() + repr(sorted(request.headers.items())).encode())
        return self.steps.pop(0)(request)


async def posted(line: Line, headers: dict[str, str]) -> tuple[int, list[float]]:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with httpx.AsyncClient(transport=Wire(line, pause)) as http:
        return (await http.post("http://kite/", content=b"body", headers=headers)).status_code, pauses


@pytest.mark.parametrize(("step", "pause"), [
    (status(503), 1.0), (status(503, retry_after="2"), 2.0), (status(503, retry_after="60"), 5.0), (status(503, retry_after="0"), 1.0),
    (status(409, retry_after="2"), 2.0), (status(429, retry_after="3"), 3.0), (broken, 1.0),
])  # fmt: skip
async def test_a_payment_is_sent_again_byte_for_byte_until_it_is_answered(step: Step, pause: float) -> None:
    line = Line(step, step, status(200))
    assert await posted(line, PAYMENT) == (200, [pause, pause])
    assert len(line.sent) == 3
    assert len(set(line.sent)) == 1


@pytest.mark.parametrize("code", [200, 400, 402, 409, 500])
async def test_an_answer_is_an_answer(code: int) -> None:
    assert await posted(Line(status(code)), PAYMENT) == (code, [])


async def test_a_request_without_a_payment_is_not_sent_again_into_the_dark() -> None:
    with pytest.raises(httpx.ReadError):
        await posted(Line(broken, status(200)), {})


async def test_whether_a_payment_was_sent_is_remembered() -> None:
    wire = Wire(Line(status(402), status(200)))
    async with httpx.AsyncClient(transport=wire) as http:
        await http.get("http://kite/")
        assert not wire.has_paid
        await http.get("http://kite/", headers=PAYMENT)
        assert wire.has_paid
