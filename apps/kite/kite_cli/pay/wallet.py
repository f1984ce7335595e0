"""The wallet a command pays from: a throwaway key in the data folder, or one a file or the environment names. The key is never printed."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from eth_account import Account
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings

from kite_cli.failure import EXIT_CONFIGURATION, CommandFailed
from kite_cli.private_file import read_private, write_private
from kite_common.config import KiteSettings, load

_FILE: Final = Path("wallets") / "demo.json"
VARIABLE: Final = "KITE_WALLET_KEY"
_KEY: Final = re.compile(r"(?:0x)?[0-9a-fA-F]{64}")


class WalletSettings(BaseSettings):
    """A payer's own key."""

    model_config = KiteSettings.model_config

    wallet_key: SecretStr | None = Field(None, description="private key that pays, 64 hex digits; unset: the wallet of the data folder")


@dataclass(frozen=True, slots=True)
class Wallet:
    """An account with its key. `is_own`: the environment or a file named it."""

    account: Any = field(repr=False)
    is_own: bool = False

    @property
    def address(self) -> str:
        """Its address, in EIP-55 casing."""
        return str(self.account.address)


def find_wallet(data: Path, file: Path | None = None) -> Wallet:
    """The wallet of the file, else that of KITE_WALLET_KEY, else that of the data folder, which is made if there is none.

    Raises CommandFailed, ConfigurationError.
    """
    if file is not None:
        kept = read_private(file)
        if kept is None:
            advice = 'Name a JSON file with "private_key": 64 hex digits, such as wallets/demo.json of a data folder.'
            raise CommandFailed(f"{file} cannot be read", advice, EXIT_CONFIGURATION)
        return Wallet(_account(str(kept.get("private_key")), str(file)), is_own=True)
    own = load(WalletSettings).wallet_key
    if own is not None:
        return Wallet(_account(own.get_secret_value(), VARIABLE), is_own=True)
    return demo_wallet(data)


def demo_wallet(data: Path) -> Wallet:
    """The wallet of the data folder, made if there is none. Raises CommandFailed."""
    path = data / _FILE
    kept = read_private(path)
    if kept is None and path.exists():
        raise CommandFailed(f"{path} cannot be read", "Restore it, or move it away: then another wallet is made.", EXIT_CONFIGURATION)
    if kept is not None:
        return Wallet(_account(str(kept.get("private_key")), str(path)))
    account = Account.create()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, {"address": account.address, "private_key": account.key.hex()})
    return Wallet(account)


def _account(key: str, where: str) -> Any:
    wrong = CommandFailed(f"{where} holds no private key", "It must be 64 hex digits.", EXIT_CONFIGURATION)
    # The library takes fewer digits, too, as the key of another wallet.
    if not _KEY.fullmatch(key):
        raise wrong
    try:
        return Account.from_key(key)
    except Exception:  # noqa: BLE001 - the library's texts hold what it was given
        raise wrong from None
