"""The programs of docs/webhooks.md verify what delivery builds, and nothing else."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from standardwebhooks import WebhookVerificationError

from kite_common.crypto import team_signing_key
from kite_common.errors import CODES
from kite_common.runtime.system import SystemClock
from kite_common.testing import make
from kite_delivery.domain.request import build
from kite_delivery.testing import SECRET, a_delivery, an_endpoint

TEXT: Final = (Path(__file__).resolve().parents[2] / "docs" / "webhooks.md").read_text(encoding="utf-8")
KEYS: Final = [team_signing_key(bytes(32), make.TEAM), team_signing_key(b"k" * 32, make.TEAM)]
OTHER: Final = team_signing_key(bytes(32), "team_other")
PLAIN: Final = "a secret that is no base64"


def programs() -> Mapping[str, Callable[..., Any]]:
    """The functions the page shows."""
    names: dict[str, Any] = {}
    for source in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(source, "docs/webhooks.md", "exec"), names)  # noqa: S102 - our own page
    return names


def request(*secrets: str, age_s: int = 0) -> tuple[dict[str, str], bytes]:
    """Headers in lower case, and the body, of an attempt that was made so many seconds ago."""
    built = build(a_delivery(body=make.event()), an_endpoint(), secrets, SystemClock().unix_ms() - age_s * 1000, keys=KEYS)
    return {name.lower(): value for name, value in built.headers}, built.body


def test_the_page_verifies_with_the_secret() -> None:
    shown = programs()
    for secrets in ((SECRET,), (PLAIN, SECRET), (SECRET, PLAIN)):
        headers, body = request(*secrets)
        assert shown["verified"](SECRET, headers, body)["id"] == make.EVENT_ID
        assert all(shown["is_ours"](secret, headers, body) for secret in secrets)
        assert not shown["is_ours"]("another", headers, body)
        assert not shown["is_ours"](SECRET, headers, body + b" ")
        with pytest.raises(WebhookVerificationError):
            shown["verified"](SECRET, headers, body + b" ")


def test_the_page_verifies_with_any_of_the_public_keys_of_the_team() -> None:
    is_signed, (headers, body) = programs()["is_signed"], request(SECRET)
    for key in KEYS:
        assert is_signed([OTHER.public_text, key.public_text], headers, body)
    assert not is_signed([OTHER.public_text], headers, body)
    assert not is_signed([KEYS[0].public_text], headers, body + b" ")
    assert not is_signed([KEYS[0].public_text], headers | {"webhook-id": "another"}, body)


def test_old_requests_are_refused() -> None:
    shown, (headers, body) = programs(), request(SECRET, age_s=301)
    assert not shown["is_ours"](SECRET, headers, body)
    assert not shown["is_signed"]([KEYS[0].public_text], headers, body)


def test_the_headers_of_the_page_are_those_of_a_request() -> None:
    [table] = re.findall(r"\| header \| value \|\n\|---\|---\|\n(.*?)\n\n", TEXT, re.DOTALL)
    named = {name.lower() for row in table.splitlines() for name in re.findall(r"`([\w-]+)`", row.split("|")[1])}
    assert named == set(request(SECRET)[0]) - {"content-type", "user-agent"}


def test_codes_of_the_page_exist() -> None:
    rows = [line.split("|")[1] for line in TEXT.splitlines() if re.match(r"\| `\d{3} ", line)]
    named = [(int(row.split("`")[1].split()[0]), re.findall(r"[a-z_]{8,}", row)) for row in rows]
    assert {code: CODES[code].status for _, codes in named for code in codes} == {code: status for status, codes in named for code in codes}
