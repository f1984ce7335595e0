"""The secrets a local stack needs, drawn once and kept in one private file. Never printed, never defaulted."""

import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from kite_cli.local.step import StepFailed
from kite_cli.private_file import write_private

FACILITATOR_TOKEN = "X402_FACILITATOR_TOKEN"  # noqa: S105 - a name
NAMES = (
    "KITE_API_KEY_PEPPER", "KITE_WEBHOOK_SECRET_CIPHER_KEY", "KITE_WEBHOOK_SIGNING_KEY", "KITE_HOOK_SECRET_CIPHER_KEY",
    "X402_BOOTSTRAP_CIPHER_KEY", FACILITATOR_TOKEN,
)  # fmt: skip

_HEX_32_BYTES = re.compile(r"[0-9a-f]{64}")


def load_or_draw(path: Path) -> Mapping[str, str]:
    """Return the secrets in `path`, drawing those that are missing: 32 random bytes each, as hex.

    A secret once written is never replaced, because everything sealed with it would be lost. The file has mode 0600.
    Raises StepFailed if the file is there but cannot be used.
    """
    known = _read(path) if path.exists() else {}
    drawn = {name: known.get(name) or secrets.token_hex(32) for name in NAMES}
    if drawn != known:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, known | drawn)
    return drawn


def _read(path: Path) -> dict[str, str]:
    try:
        path.chmod(0o600)
        known = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _unusable(path, str(error)) from error
    if not isinstance(known, dict):
        raise _unusable(path, "it is not a JSON object")
    for name in NAMES:
        if name in known and not (isinstance(known[name], str) and _HEX_32_BYTES.fullmatch(known[name])):
            raise _unusable(path, f"{name} is not 64 hex digits")
    return known


def _unusable(path: Path, reason: str) -> StepFailed:
    return StepFailed(
        "local secrets",
        f"{path} cannot be used: {reason}",
        "Restore the file, or move the whole data folder away to start with an empty one.",
    )
