"""The bytes of the requests a run sends, made before it begins. Sends nothing."""

from collections.abc import Sequence
from urllib.parse import quote

import orjson

from kite_cli.bench.load.job import Sender
from kite_cli.local.ports import LOOPBACK

_TEXT = "The build of service payments is green again; the flaky test was the clock, not the queue. Next: the release notes. "


def text_of(length: int) -> str:
    """A text of that many characters (ASCII, so as many bytes)."""
    return (_TEXT * (length // len(_TEXT) + 1))[:length]


def messages(senders: Sequence[Sender], body_bytes: int, recipients: Sequence[str] = ("builder",)) -> list[bytes]:
    """One message per recipient and sender, as an agent's HTTP client writes it; number i is of sender `i % len(senders)`."""
    return [
        request("POST", "/api/v1/agents/messages", sender, {"from": "planner", "to": recipient, "body": text_of(body_bytes)})
        for recipient in recipients
        for sender in senders
    ]


def request(method: str, path: str, sender: Sender, payload: object = None, **query: str | int) -> bytes:
    """One request of a team with its key; a `payload` other than None goes as JSON."""
    body = b"" if payload is None else orjson.dumps(payload)
    parameters = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in ({"team_id": sender.team_id} | query).items())
    head = [
        f"{method} {path}?{parameters} HTTP/1.1",
        f"Host: {LOOPBACK}",
        f"Authorization: Bearer {sender.key}",
        "User-Agent: kitectl-bench",
        "Accept: */*",
    ]
    if payload is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("ascii") + body
